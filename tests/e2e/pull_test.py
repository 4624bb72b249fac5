"""gale pull, against a server on this machine that speaks the hub's protocol."""

import os
import pathlib
import resource
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from unittest import mock

from fake_hub import COMMIT, FakeHub, blob_name
from gale_process import GALE, ROOT, TIMEOUT_S, TINY, gale

GREEDY = ["--dtype", "f32", "--device", "cpu", "--greedy", "--max-tokens", 8]
CHECKPOINT = ["config.json", "model.safetensors", "tokenizer.json"]


def can_pull():
    with mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}):  # no test leaves this machine
        return "libcurl" not in gale("pull", "a/b").err


class Pull(unittest.TestCase):
    files = {path.name: path.read_bytes() for path in TINY.iterdir()}

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.cache = pathlib.Path(scratch.name)
        self.hub = FakeHub("acme/tiny-chat", dict(self.files), ("main", "refs/pr/1"))
        self.addCleanup(self.hub.close)
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith("HF_") and not name.lower().endswith("_proxy")}
        environment = mock.patch.dict(
            os.environ, kept | {"HF_HOME": str(self.cache), "HF_ENDPOINT": self.hub.url}, clear=True)
        environment.start()
        self.addCleanup(environment.stop)
        self.folder = self.cache / "hub/models--acme--tiny-chat"
        self.weights = self.hub.files["model.safetensors"]
        self.blob = self.folder / "blobs" / blob_name(self.weights, True)

    def pull(self, *arguments, model="acme/tiny-chat"):
        run = gale("pull", model, *arguments)
        self.assertEqual(run.code, 0, run.err)
        return run

    def refused(self, *parts, model="acme/tiny-chat", arguments=()):
        run = gale("pull", model, *arguments)
        self.assertEqual((run.code, run.out), (1, ""))
        self.assertRegex(run.err, r"\Agale: .+\n\Z")
        for part in parts:
            self.assertIn(part, run.err)

    def test_layout_and_use(self):
        missing = gale("run", "acme/tiny-chat", "Once", *GREEDY)
        self.assertEqual(missing.code, 1)
        command = missing.err.rsplit("Get it with: ", 1)[1].split()
        self.assertEqual(command, ["gale", "pull", "acme/tiny-chat"])
        run = gale(*command[1:], "--json")
        self.assertEqual(run.code, 0, run.err)
        snapshot = self.folder / "snapshots" / COMMIT
        pulled = run.json()
        self.assertEqual(pulled["path"], str(snapshot))
        self.assertEqual(pulled["downloaded_bytes"], pulled["total_bytes"])
        self.assertEqual((self.folder / "refs/main").read_text(), COMMIT)
        for name in CHECKPOINT:
            blob = blob_name(self.hub.files[name], name.endswith(".safetensors"))
            self.assertEqual(os.readlink(snapshot / name), f"../../blobs/{blob}")
            self.assertEqual((snapshot / name).read_bytes(), self.hub.files[name])
        self.assertEqual(list((self.folder / "blobs").glob("*.incomplete")), [])
        self.assertEqual(gale("run", "acme/tiny-chat", "Once", *GREEDY).out,
                         gale("run", TINY, "Once", *GREEDY).out)

    def test_only_what_is_missing(self):
        self.pull()
        self.assertEqual(len(self.hub.fetched), len(set(self.hub.fetched)))
        self.hub.fetched.clear()
        again = self.pull("--json").json()
        self.assertEqual((self.hub.fetched, again["downloaded_bytes"]), ([], 0))
        self.blob.unlink()
        self.pull()
        self.assertEqual(self.hub.fetched, [("model.safetensors", 0)])

    def test_revisions(self):
        self.pull(model="acme/tiny-chat@refs/pr/1")
        self.assertEqual((self.folder / "refs/refs/pr/1").read_text(), COMMIT)
        self.pull(model=f"acme/tiny-chat@{COMMIT}")
        self.assertFalse((self.folder / "refs" / COMMIT).exists())
        self.refused('no revision "v2"', "tree/main", model="acme/tiny-chat@v2")

    def test_a_broken_transfer_is_resumed(self):
        self.hub.break_after = [1000, 500]
        self.pull()
        self.assertEqual([first for name, first in self.hub.fetched if name == "model.safetensors"],
                         [0, 1000, 1500])
        self.assertEqual(self.blob.read_bytes(), self.weights)

    def test_the_next_call_goes_on(self):
        self.hub.break_after = [1000, 0]
        self.refused("broke off after 1000 of", "kept")
        self.assertEqual(self.blob.with_suffix(".incomplete").stat().st_size, 1000)
        self.assertFalse((self.folder / "refs/main").exists())
        self.hub.fetched.clear()
        self.pull()
        self.assertIn(("model.safetensors", 1000), self.hub.fetched)
        self.assertEqual(self.blob.read_bytes(), self.weights)

    def test_a_server_without_ranges(self):
        self.hub.break_after = [1000]
        self.hub.ignore_range = True
        self.pull()
        self.assertEqual(self.blob.read_bytes(), self.weights)

    def test_a_killed_pull_leaves_nothing_under_a_name(self):
        big = bytes(range(256)) * 200_000
        self.hub.files["model.safetensors"] = big
        blob = self.folder / "blobs" / blob_name(big, True)
        process = subprocess.Popen([GALE, "pull", "acme/tiny-chat"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT_S
        while not blob.with_suffix(".incomplete").exists() and not blob.exists():
            self.assertLess(time.monotonic(), deadline)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertTrue(not blob.exists() or blob.read_bytes() == big)
        self.pull()
        self.assertEqual(blob.read_bytes(), big)

    def test_checksums(self):
        good = self.weights
        partial = self.blob.with_suffix(".incomplete")
        self.blob.parent.mkdir(parents=True)
        partial.write_bytes(b"x" * 1000)
        self.refused("model.safetensors: expected checksum " + self.blob.name)
        self.assertFalse(partial.exists() or self.blob.exists())
        partial.write_bytes(b"x" * (len(good) + 1))  # too long to be of this file
        self.pull()
        self.assertEqual(self.blob.read_bytes(), good)
        (self.folder / "blobs" / blob_name(self.files["config.json"], False)).unlink()
        wrong = blob_name(b"something else", False)
        self.hub.answers["config.json"] = (200, {"X-Repo-Commit": COMMIT, "ETag": f'"{wrong}"'})
        self.refused("config.json: expected checksum " + wrong)

    def test_token(self):
        self.hub.token = "hf_secret"
        self.refused("HF_TOKEN", "knows no such public model")
        os.environ["HF_TOKEN"] = "hf_wrong"
        self.refused("refuses the token")
        os.environ["HF_TOKEN"] = "hf_two\nlines"
        self.refused("HF_TOKEN: expected")
        del os.environ["HF_TOKEN"]
        (self.cache / "token").write_text("hf_secret\n")
        self.pull()
        tokens = {port: {token for name, _, _, token in self.hub.log if name == port}
                  for port in ("hub", "cdn")}
        self.assertIn("Bearer hf_secret", tokens["hub"])
        self.assertEqual(tokens["cdn"], {None})  # redirected to another host: not its business

    def test_refusals(self):
        listing = "/revision/main"
        for status, headers, parts in [
                (404, {"X-Error-Code": "RepoNotFound"}, ["no such model"]),
                (403, {"X-Error-Code": "GatedRepo"}, ["accept the model's terms", "/acme/tiny-chat"]),
                (429, {"Retry-After": "17"}, ["too many requests", "in 17 seconds"]),
                (500, {}, ["status 500", "later"])]:
            with self.subTest(status=status):
                self.hub.answers = {listing: (status, headers)}
                self.refused(*parts)
        self.hub.answers = {"model.safetensors": (404, {})}
        self.refused("no file model.safetensors")
        self.hub.answers = {"model.safetensors": (200, {"ETag": '"x"'})}
        self.refused("HF_ENDPOINT")
        self.hub.answers = {}
        self.refused("expected ORG/NAME", model="tiny-chat")
        os.environ["HF_HUB_OFFLINE"] = "1"
        self.refused("HF_HUB_OFFLINE")

    def test_no_connection(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
            self.refused("cannot reach http://127.0.0.1", "HF_ENDPOINT")

    def test_disk(self):
        self.hub.sizes["model.safetensors"] = 1 << 60
        self.refused("1073741824.00 GiB", "Free some space")

    def test_a_file_that_cannot_be_written(self):
        # Python ignores the signal that comes with this error, and so does its child.
        run = subprocess.run(
            [GALE, "pull", "acme/tiny-chat"], capture_output=True, timeout=TIMEOUT_S,
            restore_signals=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))
        self.assertEqual((run.returncode, run.stdout), (1, b""))
        self.assertRegex(run.stderr.decode(), r"\Agale: .*incomplete: cannot be written: .+\n\Z")

    def test_gguf(self):
        names = [f"q/qwen3_gqa5-0000{i}-of-00002.gguf" for i in (1, 2)]
        for name in names:
            self.hub.files[name] = (ROOT / "tests/data/gguf" / name[2:]).read_bytes()
        run = self.pull("--gguf", names[0])
        path = self.folder / "snapshots" / COMMIT / names[0]
        self.assertEqual(run.out, f"{path}\n")
        self.assertEqual(os.readlink(path)[:9], "../../../")
        by_name = gale("info", "acme/tiny-chat", "--json")
        self.assertEqual(by_name.code, 0, by_name.err)
        self.assertEqual(by_name.json()["architecture"], "Qwen3ForCausalLM")
        self.refused("no file other.gguf", names[0], arguments=["--gguf", "other.gguf"])
        del self.hub.files["model.safetensors"]
        self.refused("--gguf FILE", names[0])

    def test_hostile_names(self):
        self.hub.files["../../escape.json"] = b"{}"
        self.refused("below the model's folder")
        self.assertEqual(list(self.cache.rglob("escape.json")), [])


if __name__ == "__main__":
    if can_pull():
        unittest.main()
    print("gale pull is not part of this build: skipped")
