"""Runs the built `gale` for the end-to-end tests. GALE names another binary than the
development build's."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
GALE = os.environ.get("GALE", str(ROOT / "build/dev-cpu/src/cli/gale"))
TINY = ROOT / "tests/data/e2e/tiny-chat"
TEXT = ROOT / "tests/data/e2e/text.txt"
GOLDEN = json.loads((TINY / "golden.json").read_text(encoding="utf-8"))
EXACT = ["--dtype", "f32", "--device", "cpu", "--model", TINY]
TIMEOUT_S = 120


class Finished:
    """What a command left behind."""

    def __init__(self, process):
        self.code = process.returncode
        self.out = process.stdout.decode("utf-8")
        self.err = process.stderr.decode("utf-8")

    def json(self):
        return json.loads(self.out)

    def json_lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


def gale(*arguments, stdin=b""):
    """Runs gale to its end; `stdin` is text or bytes."""
    data = stdin.encode("utf-8") if isinstance(stdin, str) else stdin
    command = [GALE, *map(str, arguments)]
    return Finished(subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT_S))


def jsonl(records):
    return "".join(json.dumps(record) + "\n" for record in records)
