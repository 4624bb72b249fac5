"""What goes wrong: one clear message, the right exit code, never a crash or a hang."""

import json
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import unittest

from gale_process import EXACT, GALE, TIMEOUT_S, TINY, gale, jsonl


class Usage(unittest.TestCase):
    def check(self, arguments, message):
        run = gale(*arguments)
        self.assertEqual((run.code, run.out, run.err), (2, "", message + "\n"))

    def test_messages(self):
        self.check(["run", "--temprature", "0.5", "x"],
                   "gale: unknown flag --temprature (did you mean --temperature?). "
                   "See gale run --help.")
        self.check(["chta"], "gale: unknown command chta (did you mean chat?). See gale --help.")
        self.check(["eval", "perplexty"],
                   "gale: unknown command perplexty (did you mean perplexity?). "
                   "See gale eval --help.")
        self.check(["run"], "gale: A model (first argument, or --model) is required. "
                            "See gale run --help.")
        self.check(["chat"], "gale: --model is required. See gale chat --help.")
        self.check(["run", "DIR", "once", "upon"],
                   'gale: unexpected argument "upon" (quote a text of several words). '
                   "See gale run --help.")
        self.check(["tokenize", "DIR", "x", "--file", "y"],
                   "gale: --file excludes a text. See gale tokenize --help.")
        self.check(["run", "DIR", "x", "--stop", ""],
                   "gale: --stop: expected at least one character; got . See gale run --help.")
        self.check(["run", "once", "upon", "-m", "x"],
                   'gale: unexpected argument "upon" (quote a text of several words). '
                   "See gale run --help.")
        self.check(["run", "x", "-m", "x", "--dtype", "f8"],
                   "gale: --dtype: expected one of auto, bf16, f32; got f8. See gale run --help.")
        self.check(["serve", "-m", "x", "--kv-cache-dtype", "int3"],
                   "gale: --kv-cache-dtype: expected one of auto, bf16, f32, fp8, int4, int8; "
                   "got int3. See gale serve --help.")
        self.check(["run", "x", "-m", "x", "--kv-cache-memory", "2Q"],
                   "gale: --kv-cache-memory: expected a size such as 512M or 2GiB; got 2Q. "
                   "See gale run --help.")
        self.check(["bench", "latency", "-m", "x", "--repeats", "1"],
                   "gale: --repeats: expected a whole number from 5 to 1000; got 1. "
                   "See gale bench latency --help.")
        for value in ("-1", "abc", "1.5", "2147483648"):
            self.check(["run", "x", "-m", "x", "--max-model-len", value],
                       "gale: --max-model-len: expected a whole number from 0 to 2147483647; "
                       f"got {value}, or auto. See gale run --help.")
            self.check(["run", "x", "-m", "x", "--threads", value],
                       "gale: --threads: expected a whole number from 0 to 2147483647; "
                       f"got {value}. See gale run --help.")

    def test_no_command_shows_the_help(self):
        run = gale()
        self.assertEqual((run.code, run.out), (2, ""))
        self.assertIn("Usage: gale", run.err)

    def test_help_and_version(self):
        for command in (["run"], ["chat"], ["tokenize"], ["info"], ["pull"], ["doctor"],
                        ["completion"], ["version"], ["eval", "perplexity"], ["eval", "logprobs"],
                        ["bench", "latency"], ["bench", "load"], ["bench", "speculative"],
                        ["bench", "throughput"]):
            run = gale(*command, "--help")
            self.assertEqual((run.code, run.err), (0, ""))
            self.assertIn("Usage: gale " + " ".join(command), run.out)
            self.assertIn("Example", run.out)
            self.assertLessEqual(max(map(len, run.out.splitlines())), 100)
        version = gale("--version")
        self.assertEqual(version.code, 0)
        self.assertRegex(version.out, r"^gale \d+\.\d+\.\d+ \(\w+(-dirty)?\)\n")
        self.assertRegex(version.out, r"back ends +.*\bcpu\b")
        self.assertEqual(gale("version").out, version.out)
        record = gale("version", "--json").json()
        self.assertIn(f'gale {record["version"]} ({record["commit"]})\n', version.out)
        self.assertIn("cpu", record["devices"])
        self.assertIn("LlamaForCausalLM", record["architectures"])


class Models(unittest.TestCase):
    """Copies of the tiny checkpoint, each broken in one way."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.model = pathlib.Path(scratch.name, "model")
        shutil.copytree(TINY, self.model)

    def check(self, *parts, code=1):
        run = gale("run", "Once", "--greedy", "-m", self.model)
        self.assertEqual((run.code, run.out), (code, ""), run.err)
        # One message: its further lines, if any, are an indented list.
        self.assertRegex(run.err, r"\Agale: .+\n(  .+\n)*\Z")
        for part in parts:
            self.assertIn(part, run.err)

    def edit_config(self, **changes):
        path = self.model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def test_missing_folder(self):
        shutil.rmtree(self.model)
        self.check(str(self.model))

    def test_unknown_architecture_names_the_known(self):
        self.edit_config(architectures=["NoSuchForCausalLM"])
        self.check("NoSuchForCausalLM", "LlamaForCausalLM", "Qwen3ForCausalLM")

    def test_config_that_lies(self):
        self.edit_config(hidden_size=40)
        self.check("model.embed_tokens.weight", "40")

    def test_config_that_is_not_json(self):
        (self.model / "config.json").write_text("{")
        self.check("config.json")

    def test_truncated_weights(self):
        weights = self.model / "model.safetensors"
        for size in (0, 7, 8, 200, weights.stat().st_size - 1):
            with self.subTest(size=size):
                whole = (TINY / "model.safetensors").read_bytes()
                weights.write_bytes(whole[:size])
                self.check("model.safetensors")

    def test_header_longer_than_the_file(self):
        weights = self.model / "model.safetensors"
        weights.write_bytes(struct.pack("<Q", 1 << 62) + weights.read_bytes()[8:])
        self.check("model.safetensors")

    def test_broken_tokenizer(self):
        (self.model / "tokenizer.json").write_text('{"model": {"type": "BPE"')
        self.check("tokenizer.json")

    def test_over_long_prompt(self):
        run = gale("run", "a b c " * 100, "--quiet", "--max-model-len", 64, *EXACT)
        self.assertEqual((run.code, run.out), (1, ""))
        self.assertRegex(run.err, r"^gale: prompt has \d+ tokens, .* 64 .*\n$")

    def test_value_out_of_range(self):
        run = gale("run", "x", "--top-p", 1.5, *EXACT)
        self.assertEqual((run.code, run.out), (1, ""))
        self.assertIn("top_p", run.err)


class PromptFiles(unittest.TestCase):
    def check(self, text, message):
        run = gale("run", "--prompts", "-", *EXACT, stdin=text)
        self.assertEqual((run.code, run.out, run.err), (1, "", message + "\n"))

    def test_bad_lines(self):
        good = jsonl([{"prompt": "x"}])
        self.check(good + "{\n", "gale: standard input, line 2: not JSON: incomplete JSON")
        self.check(good + "\n[]\n", "gale: standard input, line 3: expected an object with a "
                   '"prompt", as in {"prompt": "Once"}')
        self.check(jsonl([{"prompt": 1}]), 'gale: standard input, line 1: "prompt" must be a string')
        self.check(jsonl([{"prompt": "x", "top_k": 1.5}]),
                   'gale: standard input, line 1: "top_k" must be an integer')
        self.check("", "gale: standard input holds no prompts")

    def test_unknown_field_is_named(self):
        run = gale("run", "--prompts", "-", *EXACT, stdin=jsonl([{"prompt": "x", "topk": 1}]))
        self.assertEqual((run.code, run.out), (1, ""))
        self.assertIn('line 1: unknown field "topk"', run.err)

    def test_one_bad_prompt_does_not_stop_the_others(self):
        lines = [{"prompt": "a"}, {"prompt": "b " * 100}, {"prompt": "c"}]
        run = gale("run", "--prompts", "-", "-q", "--max-model-len", 64, "--max-tokens", 4, *EXACT,
                   stdin=jsonl(lines))
        self.assertEqual((run.code, run.err),
                         (1, "gale: 1 of 3 prompts failed; their lines say why\n"))
        records = run.json_lines()
        self.assertEqual([("error" in record) for record in records], [False, True, False])
        self.assertEqual(records[1]["error"]["code"], "invalid_argument")


class StandardOutput(unittest.TestCase):
    LONG = [GALE, "run", "x", "--quiet", "--ignore-eos", "--max-tokens", "30000", *map(str, EXACT)]

    def test_closed_pipe_ends_quietly(self):
        with subprocess.Popen(self.LONG, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.read(1)
            process.stdout.close()
            self.assertEqual(process.wait(TIMEOUT_S), -signal.SIGPIPE)
            self.assertEqual(process.stderr.read(), b"")

    def test_closed_descriptor(self):
        run = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *self.LONG], capture_output=True,
                             timeout=TIMEOUT_S)
        self.assertEqual((run.returncode, run.stderr), (1, b"gale: standard output is closed\n"))

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            run = subprocess.run(self.LONG, stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_S)
        self.assertEqual(run.returncode, 1)
        self.assertEqual(run.stderr,
                         b"gale: cannot write to standard output: No space left on device\n")


if __name__ == "__main__":
    unittest.main()
