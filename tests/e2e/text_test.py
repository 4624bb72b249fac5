"""What comes out: golden tokens, streams, batches, samples, tokens and back, chats."""

import json
import pathlib
import re
import shutil
import tempfile
import unittest

from gale_process import EXACT, GOLDEN, TINY, gale, jsonl

GREEDY = ["--greedy", "--ignore-eos", "--max-tokens", 24]
FIGURES = re.compile(
    r"^memory: weights .+ mapped and .+ private, KV cache .+, scratch .+; .+ were free\n"
    r"KV room for \d+ tokens = \d+ requests of \d+\n"
    r"(\d+) prompt tokens(?: \(\d+ cached\))?, (\d+) generated tokens, first token after "
    r"[\d.]+ (?:us|ms|s), [\d.]+ tokens/s, memory [\d.]+ \w+ mapped, [\d.]+ \w+ private\n$")


class Run(unittest.TestCase):
    def test_golden_greedy_tokens(self):
        for case in GOLDEN["prompts"]:
            for mode in ([], ["--no-overlap"], ["--max-num-batched-tokens", 1],
                         ["--threads", 1, "--no-prefix-cache"]):
                with self.subTest(prompt=case["prompt"], mode=mode):
                    run = gale("run", case["prompt"], "--json", *GREEDY, *EXACT, *mode)
                    self.assertEqual(run.code, 0, run.err)
                    record = run.json()
                    self.assertEqual(record["samples"][0]["tokens"], case["greedy_ids"])
                    self.assertEqual(record["samples"][0]["text"], case["greedy_text"])
                    self.assertEqual(record["prompt_tokens"], len(case["ids"]))

    def test_tokenizer_in_other_files(self):
        case = GOLDEN["prompts"][0]
        with tempfile.TemporaryDirectory() as scratch:
            model = pathlib.Path(scratch, "model")
            shutil.copytree(TINY, model)
            bpe = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["model"]
            (model / "tokenizer.json").unlink()
            (model / "vocab.json").write_text(json.dumps(bpe["vocab"]), encoding="utf-8")
            merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in bpe["merges"])
            (model / "merges.txt").write_text("\n".join(merges), encoding="utf-8")
            (model / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
            run = gale("run", case["prompt"], *GREEDY, "--dtype", "f32", "--model", model)
            self.assertEqual((run.code, run.out), (0, case["greedy_text"] + "\n"), run.err)
            self.assertTrue(gale("info", model, "--json").json()["has_tokenizer"])

    def test_memory_is_planned_before_the_weights_are_read(self):
        model = (TINY / "config.json").read_text()
        context = json.loads(model)["max_position_embeddings"]
        size = gale("info", TINY, "--json").json()["kv_bytes_per_token"] * 2  # f32 in place of bf16
        for length, room in (("auto", 1000), (40, 1000), ("auto", 64)):
            run = gale("run", "a", "--max-tokens", 2, *EXACT, "--max-model-len", length,
                       "--kv-cache-memory", size * (room + 16))  # and a block for no sequence
            self.assertEqual(run.code, 0, run.err)
            plan = re.search(r"KV room for (\d+) tokens = (\d+) requests of (\d+)", run.err)
            tokens, requests, each = map(int, plan.groups())
            blocks = room // 16
            self.assertEqual(each, min(context, blocks * 16) if length == "auto" else length)
            blocks_of_one = -(-each // 16)
            self.assertEqual(requests, blocks // blocks_of_one)
            self.assertEqual(tokens, requests * each + blocks % blocks_of_one * 16)
        run = gale("run", "a", *EXACT, "--max-model-len", 100, "--kv-cache-memory", size * 64)
        self.assertEqual((run.code, run.out), (1, ""))
        self.assertRegex(run.err, r"\Agale: the KV cache cannot hold one sequence .*100.+\n\Z")

    def test_stream_is_the_same_text(self):
        for case in GOLDEN["prompts"]:
            run = gale("run", case["prompt"], *GREEDY, *EXACT)
            self.assertEqual(run.out, case["greedy_text"] + "\n")
            figures = FIGURES.match(run.err)
            self.assertTrue(figures, run.err)
            self.assertEqual(figures.groups(), (str(len(case["ids"])), "24"))

    def test_prompt_from_standard_input_loses_one_line_break(self):
        case = GOLDEN["prompts"][0]
        run = gale("run", "--quiet", *GREEDY, *EXACT, stdin=case["prompt"] + "\n")
        self.assertEqual((run.code, run.out, run.err), (0, case["greedy_text"] + "\n", ""))

    def test_the_model_may_come_first(self):
        flags = ["--greedy", "--max-tokens", 8, "--dtype", "f32", "--device", "cpu"]
        behind = gale("run", "Once", *flags, "--model", TINY)
        self.assertEqual(behind.code, 0, behind.err)
        for arguments, stdin in [((TINY, "Once"), ""), ((TINY,), "Once"), (("-m", TINY, "Once"), ""),
                                 (("-m", TINY), "Once")]:
            run = gale("run", *arguments, *flags, stdin=stdin)
            self.assertEqual((run.code, run.out), (0, behind.out), run.err)
        self.assertEqual(gale("tokenize", TINY, "Once").out, gale("tokenize", "Once", "-m", TINY).out)

    def test_batch_equals_single_runs(self):
        prompts = [f"{case['prompt']} {i}" for i in range(12) for case in GOLDEN["prompts"]]
        lines = [{"prompt": prompt, "temperature": 0.9, "max_tokens": 5 + i % 7} | (
                 {"seed": i} if i % 2 else {}) for i, prompt in enumerate(prompts)]
        batch = gale("run", "--prompts", "-", *EXACT, "--ignore-eos", stdin=jsonl(lines))
        self.assertEqual(batch.code, 0, batch.err)
        records = batch.json_lines()
        self.assertEqual([record["prompt"] for record in records], prompts)
        self.assertEqual([record["index"] for record in records], list(range(len(prompts))))
        for i in range(0, len(lines), 7):
            alone = gale("run", "--prompts", "-", *EXACT, "--ignore-eos", stdin=jsonl([lines[i]]))
            self.assertEqual(alone.json()["samples"], records[i]["samples"])

    def test_seed_decides_the_draw(self):
        def text(seed):
            return gale("run", "Once", "--temperature", 1, "--ignore-eos", "--seed", seed, *EXACT).out

        self.assertEqual(text(1), text(1))
        self.assertNotEqual(text(1), text(2))

    def test_samples(self):
        run = gale("run", "Once", "-n", 3, "--temperature", 1, "--max-tokens", 8, "--json", *EXACT)
        samples = [sample["text"] for sample in run.json()["samples"]]
        self.assertEqual(len(set(samples)), 3)

    def test_stop_string_ends_before_it(self):
        case = GOLDEN["prompts"][0]
        stop = case["greedy_text"][5:8]
        run = gale("run", case["prompt"], "--stop", stop, "--json", *GREEDY, *EXACT)
        sample = run.json()["samples"][0]
        self.assertEqual(sample["text"], case["greedy_text"][:case["greedy_text"].index(stop)])
        self.assertEqual(sample["finish_reason"], "stop")

    def test_chat_renders_the_template_and_keeps_user_text_text(self):
        messages = GOLDEN["chat"]["messages"]
        rendered = GOLDEN["chat"]["text"]
        chat = gale("run", "--chat", messages[1]["content"], "--system", messages[0]["content"],
                    "--json", *GREEDY, *EXACT).json()
        as_text = gale("run", rendered, "--json", *GREEDY, *EXACT).json()
        all_special = gale("run", rendered, "--parse-special", "--json", *GREEDY, *EXACT).json()
        # "<|im_end|>" in the system message stays text; those of the template do not.
        self.assertGreater(chat["prompt_tokens"], all_special["prompt_tokens"])
        self.assertLess(chat["prompt_tokens"], as_text["prompt_tokens"])


class Tokenize(unittest.TestCase):
    def test_golden_ids_and_back(self):
        for case in GOLDEN["prompts"]:
            tokens = gale("tokenize", case["prompt"], "--json", "-m", TINY).json()
            self.assertEqual(tokens["tokens"], case["ids"])
            self.assertEqual(tokens["count"], len(case["ids"]))
            ids = ",".join(map(str, case["ids"]))
            back = gale("tokenize", "--decode", ids, "-m", TINY)
            self.assertEqual(back.out, case["prompt"] + "\n")

    def test_json(self):
        tokens = gale("tokenize", TINY, "Once upon", "--json").json()
        self.assertEqual(tokens["count"], len(tokens["tokens"]))
        self.assertEqual(gale("tokenize", TINY, "Once upon", "--count", "--json").json(),
                         {"count": tokens["count"]})
        ids = ",".join(map(str, tokens["tokens"]))
        text = gale("tokenize", TINY, "--decode", ids).out
        self.assertEqual(gale("tokenize", TINY, "--decode", ids, "--json").json(),
                         {"text": text[:-1]})

    def test_special_tokens_only_when_asked(self):
        count = gale("tokenize", "<|im_end|>", "--count", "-m", TINY)
        self.assertGreater(int(count.out), 1)
        special = gale("tokenize", "<|im_end|>", "--parse-special", "--json", "-m", TINY).json()
        self.assertEqual((special["tokens"], special["pieces"]), ([2], ["<|im_end|>"]))

    def test_template_shows_the_prompt_of_a_chat(self):
        messages = GOLDEN["chat"]["messages"]
        chat = gale("tokenize", json.dumps(messages), "--template", "--json", "-m", TINY).json()
        self.assertEqual(chat["text"], GOLDEN["chat"]["text"])
        named = gale("tokenize", "Hi", "--template", "--chat-template", "chatml", "--system", "S",
                     "--json", "-m", TINY).json()
        self.assertEqual(named["text"], "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n"
                                        "Hi<|im_end|>\n<|im_start|>assistant\n")
        unknown = gale("tokenize", "Hi", "--template", "--chat-template", "chatmll", "-m", TINY)
        self.assertEqual(unknown.code, 1)
        self.assertIn("chatml, gemma, llama2", unknown.err)

    def test_a_last_message_of_the_assistant_is_left_open(self):
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I am"}]
        chat = gale("tokenize", json.dumps(messages), "--template", "--chat-template", "chatml",
                    "--json", "-m", TINY).json()
        self.assertTrue(chat["text"].endswith("<|im_start|>assistant\nI am"), chat["text"])

    def test_show_cuts_the_text_into_tokens(self):
        case = GOLDEN["prompts"][0]
        shown = gale("tokenize", case["prompt"], "--show", "-m", TINY)
        self.assertEqual([int(i) for i in re.findall(r"\[(\d+)\]", shown.out)], case["ids"])

    def test_input_is_taken_byte_for_byte(self):
        count = gale("tokenize", "--json", "-m", TINY, stdin="a\n").json()["count"]
        self.assertEqual(count, 2)


if __name__ == "__main__":
    unittest.main()
