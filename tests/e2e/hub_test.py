"""Models by their name on the Hugging Face hub, from a cache as the hub's tools leave it."""

import json
import os
import pathlib
import shutil
import tempfile
import unittest
from unittest import mock

from gale_process import EXACT, TINY, gale

FLAGS = ["--dtype", "f32", "--device", "cpu", "--greedy", "--max-tokens", 8]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubCache(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.home = pathlib.Path(scratch.name)
        self.repository = self.home / "hub/models--acme--tiny-chat"
        self.snapshot = self.repository / "snapshots" / COMMIT
        self.snapshot.mkdir(parents=True)
        (self.repository / "blobs").mkdir()
        for number, path in enumerate(sorted(TINY.iterdir())):
            blob = self.repository / "blobs" / str(number)
            shutil.copyfile(path, blob)
            (self.snapshot / path.name).symlink_to(os.path.relpath(blob, self.snapshot))
        self.ref = self.repository / "refs/main"
        self.ref.parent.mkdir()
        self.ref.write_text(COMMIT)
        kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_CACHE"}
        environment = mock.patch.dict(os.environ, kept | {"HF_HOME": str(self.home)}, clear=True)
        environment.start()
        self.addCleanup(environment.stop)

    def check(self, *parts, model="acme/tiny-chat"):
        run = gale("run", "Once", "-m", model, *FLAGS)
        self.assertEqual((run.code, run.out), (1, ""))
        self.assertRegex(run.err, r"\Agale: .+\n\Z")
        for part in parts:
            self.assertIn(part, run.err)

    def test_every_command_that_takes_a_model(self):
        by_path = gale("run", "Once", "--greedy", "--max-tokens", 8, *EXACT)
        for model in ("acme/tiny-chat", "acme/tiny-chat@main", f"acme/tiny-chat@{COMMIT}"):
            run = gale("run", "Once", "-m", model, *FLAGS)
            self.assertEqual((run.code, run.out), (0, by_path.out), run.err)
        chat = gale("run", "--chat", "Hi", "-m", "acme/tiny-chat", *FLAGS)
        self.assertEqual(chat.out, gale("run", "--chat", "Hi", "-m", TINY, *FLAGS).out)
        tokens = gale("tokenize", "Hi", "--template", "-m", "acme/tiny-chat")
        self.assertEqual((tokens.code, tokens.out),
                         (0, gale("tokenize", "Hi", "--template", "-m", TINY).out))
        info = gale("info", "acme/tiny-chat", "--json").json()
        self.assertEqual(info, gale("info", TINY, "--json").json() | {"model": "acme/tiny-chat"})

    def test_absent(self):
        self.check("acme/other", str(self.home / "hub"), "gale pull acme/other\n",
                  model="acme/other")
        self.check('no revision "v2"', "gale pull acme/tiny-chat@v2\n",
                  model="acme/tiny-chat@v2")

    def test_ref_to_nowhere(self):
        self.ref.write_text("f" * 40)
        self.check("refs/main", "f" * 40, "gale pull acme/tiny-chat\n")

    def test_unfinished_download(self):
        (self.snapshot / "model.safetensors").unlink()
        index = {"weight_map": {"a": "model-00001-of-00002.safetensors",
                                "b": "model-00002-of-00002.safetensors"}}
        (self.snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
        self.check("lacks 2 of 2 weight files", "model-00001-of-00002.safetensors",
                  "gale pull acme/tiny-chat\n")
        run = gale("tokenize", "Hi", "-m", "acme/tiny-chat")  # needs no weights
        self.assertEqual(run.code, 0, run.err)

    def test_a_folder_of_that_name_comes_first(self):
        folder = self.home / "acme"
        folder.mkdir()
        (folder / "tiny-chat").symlink_to(TINY)
        self.ref.write_text("nowhere")
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.home)
        run = gale("tokenize", "Hi", "--count", "-m", "acme/tiny-chat")
        self.assertEqual(run.code, 0, run.err)


if __name__ == "__main__":
    unittest.main()
