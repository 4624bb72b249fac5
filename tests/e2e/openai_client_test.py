"""The real clients against gale serve: `openai` and `langchain-openai`. Skipped where they are not
installed; serve_test.py sends the same by hand."""

import importlib.util
import unittest

from gale_process import GOLDEN
from serve_process import Server, user

HAS_OPENAI = importlib.util.find_spec("openai") is not None
HAS_LANGCHAIN = importlib.util.find_spec("langchain_openai") is not None
PROMPT = GOLDEN["prompts"][0]


@unittest.skipUnless(HAS_OPENAI, "the Python package openai is not installed")
class OpenAi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import openai
        cls.openai = openai
        cls.server = Server("--api-key", "sk-test")
        cls.client = openai.OpenAI(base_url=f"http://127.0.0.1:{cls.server.port}/v1",
                                   api_key="sk-test", max_retries=0)
        cls.model = cls.server.name

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.__exit__()

    def create(self, **fields):
        fields = {"model": self.model, "messages": user("Hello"), "temperature": 0,
                  "max_completion_tokens": 8, **fields}
        return self.client.chat.completions.create(**fields)

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], [self.model])
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)

    def test_create_and_stream(self):
        whole = self.create()
        self.assertEqual(whole.choices[0].finish_reason, "length")
        self.assertEqual(whole.usage.completion_tokens, 8)
        self.assertTrue(whole._request_id)
        chunks = list(self.create(stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.total_tokens, whole.usage.total_tokens)

    def test_stream_accumulates(self):
        with self.client.chat.completions.stream(
                model=self.model, messages=user("Hello"), temperature=0,
                max_completion_tokens=8) as stream:
            for _ in stream:
                pass
            final = stream.current_completion_snapshot
        self.assertEqual(final.choices[0].message.role, "assistant")
        self.assertEqual(final.choices[0].message.content,
                         self.create().choices[0].message.content)

    def test_logprobs_n_seed_stop(self):
        answer = self.create(logprobs=True, top_logprobs=3, n=3, temperature=1, seed=3)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2])
        for choice in answer.choices:
            self.assertLessEqual(len(choice.logprobs.content), 8)
            self.assertEqual(len(choice.logprobs.content[0].top_logprobs), 3)
        again = self.create(n=3, temperature=1, seed=3)
        self.assertEqual([choice.message.content for choice in answer.choices],
                         [choice.message.content for choice in again.choices])
        text = PROMPT["greedy_text"]
        stopped = self.client.completions.create(model=self.model, prompt=PROMPT["prompt"],
                                                 temperature=0, stop=["mouse"], max_tokens=24)
        self.assertEqual(stopped.choices[0].text, text.split("mouse")[0])

    def test_completions_echo(self):
        answer = self.client.completions.create(model=self.model, prompt=PROMPT["prompt"],
                                                temperature=0, echo=True, logprobs=1, max_tokens=4)
        self.assertTrue(answer.choices[0].text.startswith(PROMPT["prompt"]))
        self.assertEqual(len(answer.choices[0].logprobs.tokens), len(PROMPT["ids"]) + 4)

    def test_embeddings(self):
        answer = self.client.embeddings.create(model=self.model, input=["Once upon", "a time"])
        self.assertEqual([entry.index for entry in answer.data], [0, 1])
        plain = self.client.embeddings.create(model=self.model, input="a time",
                                              encoding_format="float")
        for a, b in zip(answer.data[1].embedding, plain.data[0].embedding, strict=True):
            self.assertAlmostEqual(a, b, places=5)
        self.assertAlmostEqual(sum(a * a for a in answer.data[0].embedding), 1, places=4)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens)

    def test_a_deadline_is_told_once(self):
        client = self.client.with_options(max_retries=2)
        before = self.num_answers(408)
        with self.assertRaises(self.openai.APIStatusError) as caught:
            client.completions.create(model=self.model, prompt="a", max_tokens=100,
                                      extra_body={"timeout": 1e-6, "ignore_eos": True})
        self.assertEqual(caught.exception.status_code, 408)
        self.assertEqual(caught.exception.code, "deadline_exceeded")
        self.assertEqual(self.num_answers(408), before + 1)  # the client did not try again

    def num_answers(self, status):
        stats = self.server.get("/metrics", Authorization="Bearer sk-test").text()
        return sum(int(float(line.split()[-1])) for line in stats.splitlines()
                   if line.startswith("http_requests_total") and f'status="{status}"' in line)

    def test_full_queues_are_tried_again(self):
        with Server("--max-num-seqs", 1, "--max-queued-requests", 1) as server:
            client = self.openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1",
                                        api_key="x", max_retries=8)
            with client:
                held = [client.completions.create(model=server.name, prompt="a", max_tokens=400,
                                                  stream=True, extra_body={"ignore_eos": True})
                        for _ in range(2)]
                answer = client.completions.create(model=server.name, prompt="b", max_tokens=2)
                self.assertEqual(answer.usage.completion_tokens, 2)
                for stream in held:
                    stream.close()

    def test_errors_are_their_exceptions(self):
        with self.assertRaises(self.openai.NotFoundError):
            self.create(model="other")
        with self.assertRaises(self.openai.BadRequestError) as caught:
            self.create(max_completion_tokens=10**6)
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(self.openai.AuthenticationError):
            self.client.with_options(api_key="wrong").models.list()


@unittest.skipUnless(HAS_LANGCHAIN, "the Python package langchain-openai is not installed")
class LangChain(unittest.TestCase):
    def test_invoke_and_stream(self):
        from langchain_openai import ChatOpenAI
        with Server() as server:
            chat = ChatOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="x",
                              model=server.name, temperature=0, max_tokens=8, stream_usage=True)
            whole = chat.invoke("Hello")
            self.assertEqual(whole.usage_metadata["output_tokens"], 8)
            chunks = list(chat.stream("Hello"))
            self.assertEqual("".join(chunk.content for chunk in chunks), whole.content)


    def test_embeddings(self):
        from langchain_openai import OpenAIEmbeddings
        with Server() as server:
            embeddings = OpenAIEmbeddings(base_url=f"http://127.0.0.1:{server.port}/v1",
                                          api_key="x", model=server.name,
                                          check_embedding_ctx_length=False)
            one = embeddings.embed_query("Once upon")
            both = embeddings.embed_documents(["Once upon", "a time"])
            self.assertEqual(one, both[0])
            self.assertNotEqual(both[0], both[1])


if __name__ == "__main__":
    unittest.main()
