"""Penalties, bans, beams and log-probabilities through `gale run`, and what generation_config.json
says of them."""

import json
import math
import pathlib
import shutil
import tempfile
import unittest

from gale_process import EXACT, GOLDEN, ROOT, TINY, gale, jsonl

TALES = ROOT / "models/gale-tales-10m"
PROMPT = GOLDEN["prompts"][0]["prompt"]


def run(*arguments, model=EXACT):
    """The one reply of `gale run --json`."""
    finished = gale("run", "--json", "-q", *arguments, *model)
    assert finished.code == 0, finished.err
    return finished.json()


def tokens(*arguments, model=EXACT):
    return run(PROMPT, *arguments, model=model)["samples"][0]["tokens"]


class Tokens(unittest.TestCase):
    def test_allowed_bad_and_biased(self):
        drawn = tokens("--seed", 5, "--max-tokens", 60, "--ignore-eos", "--temperature", 2,
                       "--allowed-token-ids", "20,21,22,23", "--bad-token-ids", "20,21",
                       "--bad-token-ids", 23)
        self.assertEqual(set(drawn), {20, 21, 22})
        self.assertNotIn((20, 21), zip(drawn, drawn[1:]))
        self.assertEqual(tokens("--max-tokens", 5, "--logit-bias", "30=100", "--logit-bias",
                                "31=-100", "--ignore-eos"), [30] * 5)

    def test_speculation_alters_nothing(self):
        ask = ("--chat", "Repeat this exactly: the old grey cat sat by the old grey door",
               "--max-tokens", 60)
        for method in ("ngram", f"draft:{ROOT / 'models/gale-tales-draft'}"):
            for heat in (0, 1):
                plain = gale("run", "-q", TALES, *ask, "--temperature", heat)
                guessed = gale("run", TALES, *ask, "--temperature", heat, "--speculative", method)
                self.assertEqual((guessed.code, guessed.out), (0, plain.out), guessed.err)
        self.assertIn("expected off, auto, ngram", gale("run", TALES, "x", "--speculative", "fast").err)
        missing = gale("run", TALES, "x", "--speculative", "draft:/nowhere")
        self.assertNotEqual(missing.code, 0)
        self.assertIn("/nowhere", missing.err)

    def test_min_tokens_and_stop_tokens(self):
        ids = ",".join(map(str, range(0, 200)))
        short = tokens("--seed", 1, "--max-tokens", 40, "--stop-token-ids", ids)
        self.assertLess(len(short), 5)
        self.assertGreater(len(tokens("--seed", 1, "--max-tokens", 40, "--stop-token-ids", "1,2",
                                      "--min-tokens", 20)), 20)

    def test_penalties_end_repetition(self):
        greedy = ["--greedy", "--max-tokens", 80, "--ignore-eos"]
        plain = tokens(*greedy)
        penalized = tokens(*greedy, "--repetition-penalty", 1.5, "--presence-penalty", 1)
        self.assertGreater(len(set(penalized)), len(set(plain)))
        self.assertNotEqual(tokens(*greedy, "--dry-multiplier", 5), plain)

    def test_every_sampler_draws_by_its_seed(self):
        for flags in (["--typical-p", 0.5], ["--top-n-sigma", 1], ["--mirostat", 2],
                      ["--xtc-probability", 1, "--xtc-threshold", 0.01]):
            same = ["--temperature", 1.5, "--top-k", 0, "--top-p", 1, "--max-tokens", 20, *flags]
            self.assertEqual(tokens("--seed", 4, *same), tokens("--seed", 4, *same), flags)
            self.assertNotEqual(tokens("--seed", 4, *same), tokens("--seed", 5, *same), flags)


class SeveralTexts(unittest.TestCase):
    def test_best_of_is_the_best_of_n(self):
        flags = ["--seed", 3, "--max-tokens", 8, "--temperature", 1.2, "--logprobs", 0]
        samples = run(PROMPT, "-n", 5, *flags)["samples"]
        best = run(PROMPT, "--best-of", 5, *flags)["samples"]
        self.assertEqual(len(best), 1)
        self.assertEqual(best[0], max(samples, key=lambda sample: sample["cumulative_logprob"]))

    def test_beams_beat_greedy(self):
        flags = ["--max-tokens", 12, "--logprobs", 1, "--ignore-eos"]
        greedy = run(PROMPT, "--greedy", *flags)["samples"][0]
        beams = run(PROMPT, "--num-beams", 4, "-n", 4, *flags)["samples"]
        sums = [beam["cumulative_logprob"] for beam in beams]
        self.assertEqual(sums, sorted(sums, reverse=True))
        self.assertGreaterEqual(sums[0], greedy["cumulative_logprob"])
        for beam in beams:
            parts = [position["logprob"] for position in beam["logprobs"]]
            self.assertAlmostEqual(sum(parts), beam["cumulative_logprob"], 4)
            self.assertEqual(len(beam["logprobs"][0]["top"]), 1)

    def test_prompt_logprobs_equal_the_goldens(self):
        golden = GOLDEN["logprobs"]
        ids = ",".join(map(str, golden["tokens"]))
        text = gale("tokenize", "--decode", ids, "--model", TINY).out.removesuffix("\n")
        record = run(text, "--max-tokens", 1, "--prompt-logprobs", 2)
        positions = record["prompt_logprobs"]
        self.assertEqual([position["token"] for position in positions], golden["tokens"][1:])
        for position, want in zip(positions, golden["logprobs"][1:]):
            self.assertTrue(math.isclose(position["logprob"], want, abs_tol=1e-3))


class Words(unittest.TestCase):
    """With a model that speaks."""

    MODEL = ["--model", TALES, "--device", "cpu"]

    def text(self, *flags):
        return run("Once upon a time", "--max-tokens", 40, *flags,
                   model=self.MODEL)["samples"][0]["text"]

    def test_bad_words_do_not_come(self):
        self.assertIn(" a ", self.text("--greedy"))
        without = self.text("--greedy", "--bad-words", "a", "--bad-words", "there")
        self.assertNotIn(" a ", without)
        self.assertNotIn("there", without)

    def test_jsonl_fields_are_the_flags(self):
        lines = [{"prompt": "Once upon a time", "max_tokens": 12, "num_beams": 3},
                 {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0,
                  "bad_words": ["a", "there"], "logit_bias": {"5": -3}, "logprobs": 1},
                 {"prompt": "Once upon a time", "max_tokens": 12, "num_beams": 3,
                  "presence_penalty": 1}]
        finished = gale("run", "--prompts", "-", *self.MODEL, stdin=jsonl(lines))
        records = finished.json_lines()
        self.assertEqual(records[0]["samples"],
                         run("Once upon a time", "--max-tokens", 12, "--num-beams", 3,
                             model=self.MODEL)["samples"])
        self.assertEqual(len(records[1]["samples"][0]["logprobs"]), 12)
        self.assertIn("presence_penalty: expected 0 with num_beams", records[2]["error"]["message"])


class Advice(unittest.TestCase):
    def test_generation_config_is_applied_and_shown(self):
        with tempfile.TemporaryDirectory() as scratch:
            model = pathlib.Path(scratch, "model")
            shutil.copytree(TINY, model)
            path = model / "generation_config.json"
            advice = json.loads(path.read_text()) | {
                "do_sample": False, "repetition_penalty": 1.5, "max_new_tokens": 33,
                "min_new_tokens": 30, "bad_words_ids": [[30], [31, 32]]}
            path.write_text(json.dumps(advice))
            self.assertIn("repetition_penalty 1.5", gale("info", model).out)
            shown = json.loads(gale("info", model, "--json").out)["default_sampling"]
            self.assertEqual(shown["bad_token_ids"], [[30], [31, 32]])
            self.assertEqual((shown["temperature"], shown["max_tokens"], shown["min_tokens"]),
                             (0, 33, 30))
            exact = ["--dtype", "f32", "--device", "cpu", "--model", model]
            advised = tokens(model=exact)
            self.assertGreater(len(advised), 30)
            asked = tokens("--greedy", "--repetition-penalty", 1.5, "--max-tokens", 33,
                           "--min-tokens", 30, "--bad-token-ids", 30, "--bad-token-ids", "31,32")
            self.assertEqual(advised, asked)
            self.assertNotEqual(advised, tokens("--greedy", "--max-tokens", 33))


class Messages(unittest.TestCase):
    def test_bad_values(self):
        for flag, value, expected in (
                ("--logit-bias", "5", "a token id and its bias such as 1234=-5"),
                ("--early-stopping", "maybe", "one of no, yes, never"),
                ("--allowed-token-ids", "1,x", "token ids such as 15,27"),
                ("--repetition-penalty", "hot", "a number"),
                ("--best-of", "1.5", "a whole number from 0 to 2147483647")):
            finished = gale("run", PROMPT, flag, value, *EXACT)
            self.assertEqual((finished.code, finished.err),
                             (2, f"gale: {flag}: expected {expected}; got {value}. "
                                 "See gale run --help.\n"))
        finished = gale("run", PROMPT, "--presence-penalty", 3, *EXACT)
        self.assertIn("presence_penalty: expected a number in [-2, 2], got 3", finished.err)
        line = jsonl([{"prompt": "x", "logit_bias": [1]}])
        finished = gale("run", "--prompts", "-", *EXACT, stdin=line)
        self.assertIn('"logit_bias" must be an object such as {"1234": -5}', finished.err)


if __name__ == "__main__":
    unittest.main()
