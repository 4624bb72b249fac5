"""gale quantize: the command, what it writes, and runs that are killed half way."""

import json
import os
import pathlib
import signal
import struct
import subprocess
import tempfile
import time
import unittest

from gale_process import ROOT, TEXT, TINY, gale

SMALL = ["--group-size", 16, "--calibration", TEXT, "--samples", 8, "--sample-tokens", 32]
TALES = ROOT / "models/gale-tales-10m"


def headers(folder):
    """{tensor: (dtype, shape)} of all files of a checkpoint."""
    tensors = {}
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        for name, entry in json.loads(data[8:8 + length]).items():
            if name != "__metadata__":
                tensors[name] = (entry["dtype"], entry["shape"])
    return tensors


class Quantize(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def test_awq_checkpoint_has_its_tensors_and_answers(self):
        out = self.folder / "awq"
        run = gale("quantize", TINY, out, "--scheme", "awq", *SMALL)
        self.assertEqual(run.code, 0, run.err)
        self.assertRegex(run.out, r"14 weights of [\d.]+ bits")
        config = json.loads((out / "config.json").read_text())
        self.assertEqual(config["quantization_config"]["quant_method"], "awq")
        self.assertEqual(config["hidden_size"], 32)
        tensors = headers(out)
        layer = "model.layers.1.mlp.down_proj"
        self.assertEqual(tensors[layer + ".qweight"], ("I32", [48, 4]))
        self.assertEqual(tensors[layer + ".qzeros"], ("I32", [3, 4]))
        self.assertEqual(tensors[layer + ".scales"], ("F16", [3, 32]))
        self.assertNotIn(layer + ".weight", tensors)
        self.assertEqual(tensors["model.embed_tokens.weight"][0], "BF16")
        index = json.loads((out / "model.safetensors.index.json").read_text())
        self.assertEqual(set(index["weight_map"]), set(tensors))
        answer = gale("run", out, "The", "--device", "cpu", "--max-tokens", 4)
        self.assertEqual(answer.code, 0, answer.err)

    def test_gguf_files_are_as_near_as_their_bits_and_chat_alike(self):
        ask = ["Once upon a time", "--device", "cpu", "--max-tokens", 8, "--temperature", 0]
        plain = gale("run", TALES, *ask)
        for scheme, most in ("q8_0", 0.01), ("q6_k", 0.01), ("q4_k", 0.15), ("q4_0", 0.15):
            out = self.folder / f"{scheme}.gguf"
            run = gale("quantize", TALES, out, "--scheme", scheme)
            self.assertEqual(run.code, 0, run.err)
            figures = gale("eval", "compare", TALES, out, "--text", TEXT, "--device", "cpu",
                           "--json").json()
            self.assertGreater(figures["kl"]["mean"], 0)
            self.assertLess(figures["kl"]["mean"], most, scheme)
        # The tokenizer came along.
        self.assertEqual(gale("run", self.folder / "q8_0.gguf", *ask).out, plain.out)
        again = gale("quantize", TALES, out, "--scheme", "q8_0")
        self.assertIn("expected the name of a .gguf file that does not exist", again.err)

    def test_errors_are_one_line_each(self):
        cases = [(["--scheme", "int3"], "expected one of awq, gptq"),
                 (["--scheme", "awq"], "needs --calibration FILE"),
                 (["--scheme", "int4"], "group size 128: expected one that divides the 48 inputs"),
                 (["--scheme", "gptq", *SMALL[:4], "--samples", 9999], "calibration text is too short")]
        for flags, message in cases:
            run = gale("quantize", TINY, self.folder / "x", *flags)
            self.assertEqual(run.code, 1)
            self.assertIn(message, run.err)
            self.assertFalse((self.folder / "x").exists())
        (self.folder / "there").mkdir()
        (self.folder / "there/file").touch()
        run = gale("quantize", TINY, self.folder / "there", "--scheme", "fp8")
        self.assertEqual(run.code, 1)
        self.assertIn("exists: expected a folder that is not there yet", run.err)
        self.assertEqual(gale("quantize", TINY, self.folder / "q", "--scheme", "fp8").code, 0)
        run = gale("quantize", self.folder / "q", self.folder / "qq", "--scheme", "fp8")
        self.assertIn("expected a plain checkpoint", run.err)

    def test_a_full_disk_is_named(self):
        run = gale("quantize", TALES, "/dev/full/x", "--scheme", "fp8")
        self.assertEqual(run.code, 1)
        self.assertIn("cannot make the folder /dev/full/x", run.err)
        limited = subprocess.run(
            ["bash", "-c", 'trap "" XFSZ; ulimit -f 100; exec "$@"', "_", os.environ["GALE"],
             "quantize", str(TALES), str(self.folder / "y"), "--scheme", "fp8"],
            capture_output=True, text=True)
        self.assertEqual(limited.returncode, 1)
        self.assertIn("cannot write", limited.stderr)
        self.assertFalse(list((self.folder / "y").glob("*.part")))

    def test_killed_runs_go_on_to_the_same_files(self):
        flags = ["--scheme", "gptq", "--calibration", TALES / "README.md", "--samples", 4,
                 "--sample-tokens", 64]
        whole = self.folder / "whole"
        self.assertEqual(gale("quantize", TALES, whole, *flags).code, 0)
        cut = self.folder / "cut"
        command = [os.environ["GALE"], "quantize", TALES, cut, *flags]
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(cut.glob("*.safetensors"))) < 2:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertFalse((cut / "config.json").exists())
        done = {path.name: path.stat().st_mtime_ns for path in cut.glob("*.safetensors")}
        self.assertGreaterEqual(len(done), 2)
        other = gale("quantize", TALES, cut, *flags, "--act-order")
        self.assertIn("unfinished run with other options", other.err)
        self.assertEqual(gale("quantize", TALES, cut, *flags).code, 0)
        for path in whole.iterdir():
            self.assertEqual((cut / path.name).read_bytes(), path.read_bytes(), path.name)
        for name, written in done.items():
            self.assertEqual((cut / name).stat().st_mtime_ns, written)
        self.assertEqual({path.name for path in cut.iterdir()},
                         {path.name for path in whole.iterdir()})


if __name__ == "__main__":
    unittest.main()
