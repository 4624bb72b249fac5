"""gale serve, driven by Python's standard library: answers, streams, errors, clients that go."""

import base64
import http.client
import json
import pathlib
import re
import shutil
import signal
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from gale_process import GOLDEN, ROOT, TIMEOUT_S, TINY
from serve_process import Server, raw_post, read_all, user

GREEDY = GOLDEN["prompts"][0]
NUM_GREEDY = len(GREEDY["greedy_ids"])


class Answers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()
        assert cls.server.process.returncode == 0, cls.server.log

    def complete(self, **fields):
        body = {"model": self.server.name, "prompt": GREEDY["prompt"], "temperature": 0,
                "max_tokens": NUM_GREEDY, **fields}
        answer = self.server.post("/v1/completions", body)
        self.assertEqual(answer.status, 200, answer.body)
        return answer

    def chat(self, **fields):
        body = {"model": self.server.name, "messages": user("Hello"), "temperature": 0,
                "max_completion_tokens": 8, **fields}
        answer = self.server.post("/v1/chat/completions", body)
        self.assertEqual(answer.status, 200, answer.body)
        return answer

    def refused(self, path, body, status, code, word):
        answer = self.server.post(path, body)
        error = answer.error()
        self.assertEqual((answer.status, error["code"]), (status, code), error)
        self.assertEqual(set(error) >= {"message", "type", "param", "code"}, True)
        self.assertIn(word, error["message"])
        return answer

    def test_health_models_version(self):
        self.assertEqual(self.server.get("/health").json(), {"status": "ok"})
        self.assertIn("version", self.server.get("/version").json())
        models = self.server.get("/v1/models").json()
        self.assertEqual([model["id"] for model in models["data"]], ["tiny-chat"])
        self.assertEqual(models["data"][0]["max_model_len"], 32768)
        self.assertEqual(self.server.get("/v1/models/tiny-chat").json()["id"], "tiny-chat")
        # The path it was started with is a name too; it has slashes, plain or escaped.
        path = models["data"][0]["root"]
        for spelled in (path, path.replace("/", "%2F")):
            self.assertEqual(self.server.get("/v1/models/" + spelled).json()["id"], path)
        missing = self.server.get("/v1/models/other")
        self.assertEqual((missing.status, missing.error()["code"]), (404, "model_not_found"))

    def test_completion_is_the_golden_one(self):
        answer = self.complete().json()
        self.assertEqual(answer["object"], "text_completion")
        self.assertEqual(answer["choices"][0]["text"], GREEDY["greedy_text"])
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        self.assertEqual(answer["usage"]["prompt_tokens"], len(GREEDY["ids"]))
        self.assertEqual(answer["usage"]["completion_tokens"], NUM_GREEDY)
        self.assertEqual(answer["usage"]["total_tokens"], len(GREEDY["ids"]) + NUM_GREEDY)

    def test_stream_adds_up_to_the_whole(self):
        whole = self.complete().json()["choices"][0]["text"]
        events = self.complete(stream=True).events()
        self.assertEqual("".join(event["choices"][0]["text"] for event in events), whole)
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "length")
        self.assertEqual({event["id"] for event in events}, {events[0]["id"]})
        self.assertNotIn("usage", events[0])

    def test_chat_stream_is_openais(self):
        answer = self.chat(stream=True, stream_options={"include_usage": True}, n=2)
        self.assertEqual(answer.headers["Content-Type"], "text/event-stream; charset=utf-8")
        self.assertEqual(answer.headers["Cache-Control"], "no-cache")
        *events, total = answer.events()
        self.assertEqual(total["choices"], [])
        self.assertEqual(total["usage"]["completion_tokens"], 16)
        self.assertTrue(all(event["usage"] is None for event in events))
        for index in (0, 1):
            choices = [e["choices"][0] for e in events if e["choices"][0]["index"] == index]
            self.assertEqual(choices[0]["delta"], {"role": "assistant", "content": ""})
            self.assertEqual((choices[-1]["delta"], choices[-1]["finish_reason"]), ({}, "length"))
            for choice in choices[1:-1]:
                self.assertEqual(list(choice["delta"]), ["content"])
                self.assertIsNone(choice["finish_reason"])
        whole = self.chat().json()["choices"][0]
        self.assertEqual(whole["message"]["role"], "assistant")
        self.assertNotIn("tool_calls", whole["message"])
        self.assertEqual(whole["message"]["content"],
                         "".join(e["choices"][0]["delta"].get("content", "") for e in events
                                 if e["choices"][0]["index"] == 0))

    def test_stream_to_the_byte(self):
        request = {"messages": user("Hello"), "temperature": 0, "max_tokens": 2, "stream": True,
                   "stream_options": {"include_usage": True}, "cache_salt": "bytes"}
        body = self.server.post("/v1/chat/completions", request).body
        for changing, fixed in ((rb'"id":"chatcmpl-[^"]+"', b'"id":"chatcmpl-1"'),
                                (rb'"created":\d+', b'"created":1'),
                                (rb'"gale-[^"]+"', b'"gale-0"')):
            body = re.sub(changing, fixed, body)
        self.assertEqual(body, (ROOT / "tests/data/e2e/chat_stream.sse").read_bytes())

    def test_prompts_times_samples_in_order(self):
        ids = [prompt["ids"] for prompt in GOLDEN["prompts"][:2]]
        answer = self.complete(prompt=ids, n=2, return_token_ids=True).json()
        self.assertEqual([choice["index"] for choice in answer["choices"]], [0, 1, 2, 3])
        for i, choice in enumerate(answer["choices"]):
            golden = GOLDEN["prompts"][i // 2]["greedy_ids"]
            self.assertEqual(choice["token_ids"], golden[:NUM_GREEDY])

    def test_echo_with_logprobs_scores_the_prompt(self):
        golden = GOLDEN["logprobs"]
        choice = self.complete(prompt=golden["tokens"], echo=True, logprobs=1,
                               max_tokens=0).json()["choices"][0]
        scored = choice["logprobs"]
        self.assertEqual(len(scored["tokens"]), len(golden["tokens"]))
        self.assertEqual("".join(scored["tokens"]), choice["text"])
        self.assertIsNone(scored["token_logprobs"][0])
        for ours, theirs in zip(scored["token_logprobs"][1:], golden["logprobs"][1:]):
            self.assertAlmostEqual(ours, theirs, delta=2e-3)
        self.assertEqual(scored["text_offset"][1], len(scored["tokens"][0]))

    def test_logprobs_of_both_endpoints_agree(self):
        text = self.complete(logprobs=2).json()["choices"][0]["logprobs"]
        prompt = self.server.post("/tokenize", {"messages": user("Hello")}).json()["tokens"]
        by_text = self.complete(prompt=prompt, logprobs=2, max_tokens=8).json()["choices"][0]
        by_chat = self.chat(logprobs=True, top_logprobs=2).json()["choices"][0]
        self.assertEqual([entry["logprob"] for entry in by_chat["logprobs"]["content"]],
                         by_text["logprobs"]["token_logprobs"])
        for entry in by_chat["logprobs"]["content"]:
            self.assertEqual(len(entry["top_logprobs"]), 2)
            if "\ufffd" not in entry["token"]:
                self.assertEqual(bytes(entry["bytes"]).decode(), entry["token"])
        spelled = b"".join(bytes(e["bytes"]) for e in by_chat["logprobs"]["content"])
        self.assertEqual(spelled.decode("utf-8", "replace"), by_chat["message"]["content"])
        self.assertEqual(len(text["tokens"]), NUM_GREEDY)
        streamed = self.chat(logprobs=True, top_logprobs=2, stream=True).events()
        entries = [entry for event in streamed for choice in event["choices"]
                   if choice["logprobs"] for entry in choice["logprobs"]["content"]]
        self.assertEqual(entries, by_chat["logprobs"]["content"])

    def test_seeds_and_stop(self):
        draws = [self.complete(temperature=1, seed=seed, max_tokens=20).json()["choices"][0]["text"]
                 for seed in (5, 5, 6)]
        self.assertEqual(draws[0], draws[1])
        self.assertNotEqual(draws[0], draws[2])
        stopped = self.complete(stop="mouse").json()["choices"][0]
        self.assertEqual(stopped["text"], GREEDY["greedy_text"].split("mouse")[0])
        self.assertEqual(stopped["finish_reason"], "stop")
        kept = self.complete(stop=["mouse"], include_stop_str_in_output=True).json()["choices"][0]
        self.assertEqual(kept["text"], stopped["text"] + "mouse")

    def test_logits_are_edited(self):
        for fields in ({"logit_bias": {"200": 100}}, {"allowed_token_ids": [200]}):
            choice = self.complete(return_token_ids=True, max_tokens=4, **fields).json()["choices"][0]
            self.assertEqual(choice["token_ids"], [200] * 4)
        plain, *others = (self.complete(max_tokens=24, **fields).json()["choices"][0]["text"]
                          for fields in ({}, {"frequency_penalty": 2}, {"bad_words": ["mouse"]}))
        self.assertTrue(all(other != plain for other in others))
        self.assertNotIn("mouse", others[1])
        best = self.complete(best_of=3, n=2, temperature=1, seed=1).json()["choices"]
        self.assertEqual(len(best), 2)
        beams = self.complete(use_beam_search=True, n=3, max_tokens=5).json()["choices"]
        self.assertEqual(len({beam["text"] for beam in beams}), 3)

    def test_content_parts_and_unknown_fields(self):
        parts = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
        extras = {"metadata": {"a": "b"}, "store": True, "service_tier": "auto", "user": "me"}
        self.assertEqual(self.chat(messages=parts, **extras).json()["choices"],
                         self.chat().json()["choices"])

    def test_tokenize_there_and_back(self):
        answer = self.server.post("/tokenize", {"prompt": GREEDY["prompt"],
                                                "return_token_strs": True}).json()
        self.assertEqual(answer["tokens"], GREEDY["ids"])
        self.assertEqual(answer["count"], len(GREEDY["ids"]))
        self.assertEqual("".join(answer["token_strs"]), GREEDY["prompt"])
        back = self.server.post("/detokenize", {"tokens": answer["tokens"]}).json()
        self.assertEqual(back, {"prompt": GREEDY["prompt"]})

    def test_special_tokens_in_messages_stay_text(self):
        chat = GOLDEN["chat"]
        rendered = self.server.post("/tokenize", {"messages": chat["messages"]}).json()["tokens"]
        text = self.server.post("/detokenize", {"tokens": rendered}).json()["prompt"]
        self.assertEqual(text, chat["text"])
        alone = self.server.post("/tokenize", {"prompt": "<|im_end|>"}).json()["tokens"]
        self.assertGreater(len(alone), 1)

    def test_errors_of_the_body(self):
        chat = "/v1/chat/completions"
        ok = {"messages": user("Hello"), "max_tokens": 1}
        self.refused(chat, "{", 400, "invalid_json", "byte 1")
        self.refused(chat, "[]", 400, "invalid_json", "object")
        self.refused(chat, "{} x", 400, "invalid_json", "JSON")
        self.refused(chat, "[" * 100000, 400, "invalid_json", "JSON")
        self.refused(chat, {}, 400, None, "messages")
        self.refused(chat, {**ok, "model": "gpt-5"}, 404, "model_not_found", "gpt-5")
        self.refused(chat, {**ok, "temperature": "hot"}, 400, None, "temperature")
        self.refused(chat, {**ok, "temperature": -1}, 400, None, "temperature")
        self.refused(chat, {**ok, "n": 0}, 400, None, "n")
        self.refused(chat, {**ok, "stop": 3}, 400, None, "stop")
        self.refused(chat, {**ok, "max_tokens": 0}, 400, None, "max_tokens")
        self.refused(chat, {**ok, "top_logprobs": 2}, 400, None, "logprobs")
        self.refused(chat, {**ok, "stream_options": {}}, 400, None, "stream")
        self.refused(chat, {**ok, "messages": [{"role": "king", "content": ""}]}, 400, None, "role")
        image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
        self.refused(chat, {**ok, "messages": image}, 400, "unsupported_parameter", "image_url")
        json_mode = {"type": "json_object"}
        self.refused(chat, {**ok, "response_format": json_mode}, 400, "unsupported_parameter",
                     "response_format")
        tools = [{"type": "function", "function": {"name": "f"}}]
        self.refused(chat, {**ok, "tools": tools}, 400, "unsupported_parameter", "tools")
        self.refused("/v1/completions", {"prompt": [1, 99999]}, 400, None, "99999")
        self.refused("/v1/completions", {"prompt": []}, 400, None, "prompt")
        self.refused("/v1/completions", {"prompt": ""}, 400, None, "prompt")

    def test_context_is_never_cut(self):
        answer = self.refused("/v1/chat/completions",
                              {"messages": user("Hello"), "max_tokens": 32768}, 400,
                              "context_length_exceeded", "maximum context length is 32768 tokens")
        self.assertEqual(answer.error()["n_ctx"], 32768)
        long = [7] * 40000
        for fields in ({}, {"max_tokens": 5}, {"stream": True}):
            self.refused("/v1/completions", {"prompt": long, **fields}, 400,
                         "context_length_exceeded", "40000 in the prompt")

    def test_errors_of_the_route(self):
        missing = self.server.get("/v1/nothing")
        self.assertEqual((missing.status, missing.error()["type"]), (404, "invalid_request_error"))
        wrong = self.server.get("/v1/completions")
        self.assertEqual((wrong.status, wrong.headers["Allow"]), (405, "POST"))
        head = self.server.request("HEAD", "/health")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(self.server.request("OPTIONS", "/v1/models").status, 204)

    def test_request_ids(self):
        self.assertTrue(self.server.get("/health").headers["x-request-id"])
        given = self.server.get("/health", **{"X-Request-Id": "mine-1"})
        self.assertEqual(given.headers["x-request-id"], "mine-1")

    def test_connections_are_kept(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=TIMEOUT_S)
        for stream in (False, True, False):
            body = {"prompt": "a", "max_tokens": 2, "stream": stream}
            connection.request("POST", "/v1/completions", json.dumps(body))
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            response.read()
        connection.close()

    def test_pipelined_requests_are_answered_in_order(self):
        with self.server.connect() as connection:
            requests = b"".join(
                raw_post("/v1/completions", {"prompt": "a", "max_tokens": n, "ignore_eos": True})
                for n in (9, 1))
            connection.sendall(requests + b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
            text = read_all(connection).decode()
        places = [text.find(part) for part in
                  ('"completion_tokens":9', '"completion_tokens":1,', '{"status":"ok"}')]
        self.assertEqual(places, sorted(places))
        self.assertGreater(places[0], 0)

    def test_http_1_0_ends_with_the_connection(self):
        body = json.dumps({"prompt": "a", "max_tokens": 3, "stream": True})
        with self.server.connect() as connection:
            connection.sendall(f"POST /v1/completions HTTP/1.0\r\nContent-Length: {len(body)}"
                               f"\r\n\r\n{body}".encode())
            head, _, rest = read_all(connection).partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head)
        self.assertTrue(rest.endswith(b"data: [DONE]\n\n"))

    def test_expect_continue(self):
        data = raw_post("/detokenize", {"tokens": GREEDY["ids"]}, "Expect: 100-continue",
                        "Connection: close")
        head, _, body = data.partition(b"\r\n\r\n")
        with self.server.connect() as connection:
            connection.sendall(head + b"\r\n\r\n")
            self.assertEqual(connection.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.sendall(body)
            self.assertIn(GREEDY["prompt"].encode(), read_all(connection))

    def test_nonsense_is_refused(self):
        for data, status in ((b"hello\r\n\r\n", 400), (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
                             (b"GET /%00 HTTP/1.1\r\n\r\n", 400),
                             (b"GET * HTTP/1.1\r\n\r\n", 400),
                             (b"GET / HTTP/1.1\r\nA: " + b"b" * 40000 + b"\r\n\r\n", 431),
                             (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
                             (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400)):
            with self.server.connect() as connection:
                connection.sendall(data)
                answer = read_all(connection)
            self.assertTrue(answer.startswith(f"HTTP/1.1 {status} ".encode()), (data[:40], answer))
            self.assertIn(b'"error"', answer)

    def test_clients_that_go_are_given_up(self):
        for stream in (True, False):
            with self.server.connect() as connection:
                connection.sendall(raw_post("/v1/completions", {
                    "prompt": "a", "max_tokens": 30000, "ignore_eos": True, "stream": stream}))
                if stream:
                    self.assertIn(b"200 OK", connection.recv(100))
        deadline = time.monotonic() + TIMEOUT_S
        while sum(" 499 " in line for line in self.server.log) < 2:
            self.assertLess(time.monotonic(), deadline, self.server.log)
            time.sleep(0.01)


class Lifecycle(unittest.TestCase):
    def test_sigterm_lets_streams_end(self):
        with Server() as server:
            connections = [server.connect() for _ in range(32)]
            for connection in connections:
                connection.sendall(raw_post("/v1/completions", {
                    "prompt": "a", "max_tokens": 200, "ignore_eos": True, "stream": True}))
            for connection in connections:
                self.assertIn(b"200 OK", connection.recv(15))
            server.process.send_signal(signal.SIGTERM)
            for connection in connections:
                with connection:
                    self.assertTrue(read_all(connection).endswith(
                        b"data: [DONE]\n\n\r\n0\r\n\r\n"))
            self.assertEqual(server.wait(), 0)

    def test_draining_refuses_new_work(self):
        with Server() as server, server.connect() as busy:
            busy.sendall(raw_post("/v1/completions", {
                "prompt": "a", "max_tokens": 20000, "ignore_eos": True, "stream": True}))
            self.assertIn(b"200 OK", busy.recv(15))
            server.process.send_signal(signal.SIGTERM)
            while server.get("/health").json()["status"] != "draining":
                time.sleep(0.01)
            refused = server.post("/v1/completions", {"prompt": "a"})
            self.assertEqual((refused.status, refused.error()["code"]), (503, "engine_overloaded"))
            self.assertEqual(refused.headers["Retry-After"], "1")
            server.process.send_signal(signal.SIGTERM)  # the second one does not wait
            self.assertEqual(server.wait(), 1)

    def test_template_and_name_can_be_given(self):
        with Server("--chat-template", "llama2", "--served-model-name", "org/name") as server:
            tokens = server.post("/tokenize", {"messages": user("Hello")}).json()["tokens"]
            text = server.post("/detokenize", {"tokens": tokens}).json()["prompt"]
            self.assertIn("[INST] Hello [/INST]", text)
            self.assertEqual(server.get("/v1/models").json()["data"][0]["id"], "org/name")
            self.assertEqual(server.get("/v1/models/org/name").status, 200)
        with self.assertRaisesRegex(RuntimeError, "chatml"):
            Server("--chat-template", "nonsense")

    def test_port_in_use(self):
        with Server() as server:
            with self.assertRaisesRegex(RuntimeError, "port"):
                Server("--port", server.port)

    def hold(self, server, count):
        """Connections whose streams run for as long as they are open."""
        held = [server.connect() for _ in range(count)]
        for connection in held:
            self.addCleanup(connection.close)
            connection.sendall(raw_post("/v1/completions", {
                "prompt": "a", "max_tokens": 30000, "ignore_eos": True, "stream": True}))
        return held

    def test_full_queues_refuse(self):
        for flags in (("--max-queued-requests", 1), ("--max-queued-tokens", 1)):
            with Server("--max-num-seqs", 1, *flags) as server:
                held = self.hold(server, 1)
                self.assertIn(b"200 OK", held[0].recv(15))
                held += self.hold(server, 1 if "requests" in flags[0] else 0)
                deadline = time.monotonic() + TIMEOUT_S
                while (refused := server.post("/v1/completions", {"prompt": "a"})).status == 200:
                    self.assertLess(time.monotonic(), deadline)
                self.assertEqual((refused.status, refused.error()["type"]),
                                 (429, "rate_limit_error"))
                self.assertEqual(refused.headers["Retry-After"], "1")
                rejected = [value for name, value in server.stats().items()
                            if name.startswith("gale_admission_rejections_total{")
                            and "queue_full" in name]
                self.assertGreaterEqual(rejected[0], 1)
                for connection in held:
                    connection.close()

    def test_embeddings_are_transformers(self):
        golden = GOLDEN["embedding"]
        tokens = GOLDEN["logprobs"]["tokens"]
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder, "mean")
            shutil.copytree(TINY, copy)
            (copy / "1_Pooling").mkdir()
            (copy / "1_Pooling/config.json").write_text(json.dumps(
                {"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": False}))
            for model, expected in ((TINY, golden["last"]), (copy, golden["mean"])):
                with Server("--max-num-batched-tokens", 16, model=model) as server:
                    answer = server.post("/v1/embeddings", {"input": [tokens, [5]]}).json()
                    self.assertEqual(answer["usage"], {"prompt_tokens": 41, "total_tokens": 41})
                    for a, b in zip(answer["data"][0]["embedding"], expected, strict=True):
                        self.assertAlmostEqual(a, b, delta=2e-5)
                    coded = server.post("/v1/embeddings", {"input": tokens,
                                                           "encoding_format": "base64"}).json()
                    data = base64.b64decode(coded["data"][0]["embedding"])
                    self.assertEqual(len(data), 4 * len(expected))
                    for a, b in zip(struct.unpack(f"<{len(expected)}f", data), expected):
                        self.assertAlmostEqual(a, b, delta=2e-5)
                    short = server.post("/v1/embeddings", {"input": tokens, "dimensions": 2})
                    x, y = short.json()["data"][0]["embedding"]
                    self.assertAlmostEqual(x * x + y * y, 1, places=5)
                    self.assertAlmostEqual(x / y, expected[0] / expected[1], delta=1e-2)
                    long = server.post("/v1/embeddings", {"input": [5] * 100000})
                    self.assertEqual((long.status, long.error()["code"]),
                                     (400, "context_length_exceeded"))
                    self.assertEqual(server.post("/v1/embeddings", {"input": ""}).status, 400)

    def test_evicted_prefixes_come_back_from_the_host(self):
        def cached_again(*flags):
            # Two sequences of full length fit.
            with Server("--max-model-len", 256, "--max-num-seqs", 2, "--kv-cache-memory", "160K",
                        *flags) as server:
                def ask(token):
                    prompt = [token + i % 3 for i in range(200)]
                    answer = server.post("/v1/completions", {"prompt": prompt, "max_tokens": 8,
                                                             "ignore_eos": True, "temperature": 0})
                    self.assertEqual(answer.status, 200, answer.body)
                    details = answer.json()["usage"]["prompt_tokens_details"]
                    return answer.json()["choices"][0]["text"], details["cached_tokens"]
                first, none = ask(10)
                self.assertEqual(none, 0)
                for token in range(20, 60, 4):
                    ask(token)
                again, cached = ask(10)
                self.assertEqual(again, first)
                moved = sum(value for name, value in server.stats().items()
                            if name.startswith("gale_kv_blocks_swapped_in_total"))
                self.assertEqual(moved > 0, cached > 0)
                return cached
        self.assertEqual(cached_again(), 0)
        self.assertEqual(cached_again("--kv-host-memory", "8M"), 192)

    def test_deadlines(self):
        body = {"prompt": "a", "max_tokens": 400, "ignore_eos": True}
        with Server("--request-timeout", 1e-6) as server:
            late = server.post("/v1/completions", body)
            self.assertEqual((late.status, late.error()["code"]), (408, "deadline_exceeded"))
            self.assertEqual(late.headers["X-Should-Retry"], "false")
            streamed = server.post("/v1/completions", {**body, "stream": True})
            self.assertEqual(streamed.status, 408)
            self.assertEqual(server.post("/v1/completions", {**body, "timeout": 60}).status, 200)
            self.assertEqual(server.post("/v1/embeddings", {"input": "a"}).status, 408)

    def test_keys_share_fairly(self):
        done = []
        body = {"prompt": "a", "max_tokens": 200, "ignore_eos": True}
        with Server("--max-num-seqs", 1, "--api-key", "greedy", "--api-key", "light") as server:
            def ask(key):
                server.post("/v1/completions", body, Authorization=f"Bearer {key}")
                done.append(key)
            greedy = [threading.Thread(target=ask, args=["greedy"]) for _ in range(40)]
            for thread in greedy:
                thread.start()
            while self.num_waiting(server) < 20:
                time.sleep(0.001)
            ask("light")
            place = done.index("light")
            for thread in greedy:
                thread.join()
        self.assertLess(place, 30, "the light key waited behind the greedy key's queue")

    @staticmethod
    def num_waiting(server):
        page = server.get("/metrics", Authorization="Bearer light").text()
        return next(float(line.split()[-1]) for line in page.splitlines()
                    if line.startswith("gale_num_requests_waiting{"))

    def test_priorities_go_first(self):
        done = []
        body = {"prompt": "a", "max_tokens": 200, "ignore_eos": True}
        with Server("--max-num-seqs", 1) as server:
            def ask(priority):
                server.post("/v1/completions", {**body, "priority": priority})
                done.append(priority)
            later = [threading.Thread(target=ask, args=[10]) for _ in range(40)]
            for thread in later:
                thread.start()
            while len(done) < 2:
                time.sleep(0.001)
            ask(0)
            place = done.index(0)
            for thread in later:
                thread.join()
        self.assertLess(place, 30)

    @unittest.skipUnless(shutil.which("openssl"), "there is no openssl to make a certificate")
    def test_tls_keys_and_origins(self):
        with tempfile.TemporaryDirectory() as folder:
            certificate, key, keys = (pathlib.Path(folder, name) for name in ("c", "k", "keys"))
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days",
                            "2", "-subj", "/CN=localhost", "-addext",
                            "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
                           check=True, capture_output=True)
            keys.write_text("# who\nanna old-key\n")
            with Server("--tls-certificate", certificate, "--tls-key", key, "--api-key-file", keys,
                        "--allowed-origin", "https://a.example") as server:
                self.assertEqual(server.scheme, "https")
                trust = ssl.create_default_context(cafile=certificate)

                def ask(path, body=None, **headers):
                    connection = http.client.HTTPSConnection("localhost", server.port,
                                                             timeout=TIMEOUT_S, context=trust)
                    connection.request("POST" if body else "GET", path, body, headers)
                    response = connection.getresponse()
                    data = response.read()
                    connection.close()
                    return response, data

                body = json.dumps({"prompt": "a", "max_tokens": 3, "stream": True})
                response, data = ask("/v1/completions", body, Authorization="Bearer old-key",
                                     Origin="https://a.example")
                self.assertTrue(data.endswith(b"data: [DONE]\n\n"))
                self.assertEqual(response.headers["Access-Control-Allow-Origin"],
                                 "https://a.example")
                response, _ = ask("/v1/models", Origin="https://b.example")
                self.assertEqual((response.status, response.headers["Access-Control-Allow-Origin"]),
                                 (401, None))
                keys.write_text("new-key\n")
                server.process.send_signal(signal.SIGHUP)
                deadline = time.monotonic() + TIMEOUT_S
                while ask("/v1/models", Authorization="Bearer new-key")[0].status != 200:
                    self.assertLess(time.monotonic(), deadline)
                self.assertEqual(ask("/v1/models", Authorization="Bearer old-key")[0].status, 401)

    def test_keys_guard_every_route(self):
        routes = [("GET", "/v1/models"), ("GET", "/v1/models/tiny-chat"), ("GET", "/version"),
                  ("POST", "/v1/completions"), ("POST", "/v1/chat/completions"),
                  ("POST", "/tokenize"), ("POST", "/detokenize"), ("GET", "/metrics"),
                  ("GET", "/openapi.json"), ("GET", "/nothing")]
        with Server("--api-key", "one", "--api-key", "two") as server:
            self.assertEqual(server.get("/health").status, 200)
            self.assertIn(b"<!doctype html>", server.get("/").body)
            for method, path in routes:
                for headers in ({}, {"Authorization": "Bearer on"}, {"Authorization": "Bearer "}):
                    answer = server.request(method, path, "{}", headers.items())
                    self.assertEqual((answer.status, answer.error()["code"]),
                                     (401, "invalid_api_key"), (method, path))
            for key in ("one", "two"):
                answer = server.get("/v1/models", Authorization=f"Bearer {key}")
                self.assertEqual(answer.status, 200)


if __name__ == "__main__":
    unittest.main()
