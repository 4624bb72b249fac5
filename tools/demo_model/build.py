"""Makes both demo models in one run of limited time: data, training, distilling, figures, model cards.

    python3 build.py --texts texts.tar.xz --tokenizer DIR --out DIR --seconds 560
    python3 build.py --unpack DIR --models DIR

The first command trains the main model, writes it, then distils the draft from it while another process
measures the main model. Under --out come six files of at most 15 MiB each: both models as tar archives in
parts, `figures.json` and the model cards. The weights are written before anything is measured, and
whatever takes too long is left out rather than letting the run exceed --seconds. The second command puts the
files together as checkpoint folders with their cards.
"""

import argparse
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cards

MAIN_FOLDER, DRAFT_FOLDER = "gale-tales-10m", "gale-tales-draft"
PART_BYTES = 15 * 2**20
# Seconds kept behind the main model: for the draft (compiling and 60 s), then for the rest of the evaluation,
# and for writing the figures.
DRAFT_RESERVE, EVALUATION_RESERVE, END_RESERVE = 85.0, 50.0, 4.0


def write_parts(folder: Path, out: Path) -> None:
    """`folder` as out/NAME.tar.00, .01, ..."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, folder.name)
    content = buffer.getvalue()
    for index in range(math.ceil(len(content) / PART_BYTES)):
        part = content[index * PART_BYTES : (index + 1) * PART_BYTES]
        (out / f"{folder.name}.tar.{index:02}").write_bytes(part)


def unpack(parts: Path, models: Path) -> None:
    """The checkpoint folders, with the cards of the run that made them."""
    for name, card in ((MAIN_FOLDER, "main.md"), (DRAFT_FOLDER, "draft.md")):
        content = b"".join(path.read_bytes() for path in sorted(parts.glob(f"{name}.tar.*")))
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(models, filter="data")
        shutil.copyfile(parts / card, models / name / "README.md")
        print(models / name)


class Build:
    """One run: its clock, folders and figures."""

    def __init__(self, arguments: argparse.Namespace, start: float) -> None:
        self.arguments, self.start = arguments, start
        self.out: Path = arguments.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(prefix="demo-model-"))
        self.end = start + arguments.seconds
        self.measured: list[Path] = []
        self.evaluations: list[subprocess.Popen[bytes]] = []
        self.training: dict[str, Any] = {}

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.start:5.0f} s] {text}", flush=True)

    def measure(self, *options: object) -> None:
        """Starts an evaluation beside this process."""
        self.measured.append(self.work / f"figures{len(self.measured)}.json")
        self.evaluations.append(subprocess.Popen([
            sys.executable, Path(__file__).with_name("evaluate.py"), "--out", self.measured[-1],
            "--model", self.work / MAIN_FOLDER, *map(str, options)]))

    def wait(self) -> None:
        """Until the evaluations end or the time is over; publishes what each has found."""
        self.publish()
        for process in reversed(self.evaluations):  # the shorter one first
            try:
                code = process.wait(max(0.1, self.end - END_RESERVE - time.monotonic()))
                self.say(f"an evaluation ended with exit code {code}")
            except subprocess.TimeoutExpired:
                self.say("an evaluation took too long; what it has measured is kept")
            self.publish()

    def publish(self) -> None:
        """Figures and cards as far as they are known."""
        figures: dict[str, Any] = {"training": self.training}
        for file in self.measured:
            if file.exists():
                figures.update(json.loads(file.read_text()))
        (self.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
        cards.write(figures, self.out)

    def stop(self) -> None:
        for process in self.evaluations:
            process.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    def run(self) -> None:
        # Imported here, for the data workers import this file too and need none of it.
        import torch
        from tokenizers import Tokenizer

        import data
        from model import DRAFT, MAIN, TINY, Config, Qwen3, export
        from train import learn_teacher, learn_text, train

        arguments = self.arguments
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_float32_matmul_precision("high")
        torch.manual_seed(1)
        with tarfile.open(arguments.texts) as archive:
            archive.extractall(self.work, filter="data")
        tokenizer_file = arguments.tokenizer / "tokenizer.json"
        feed = data.Feed(self.work / "corpus", tokenizer_file, self.work / "ids", arguments.rows, arguments.workers)
        self.say(f"{arguments.workers} data workers started, training on {device}")
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        eos_ids = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]

        def prepared(config: Config, folder: Path) -> tuple[Qwen3, Callable[[], None]]:
            """A new model, and how to write it."""
            folder.mkdir(parents=True)
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copyfile(arguments.tokenizer / file, folder / file)

            def save() -> None:
                export(model, folder, eos_ids, eos_ids[1])
                write_parts(folder, self.out)

            model = Qwen3(config).to(device)
            return model, save

        compiled: Callable[..., Any] = torch.compile if device.type == "cuda" else lambda function: function
        main_model, save_main = prepared(TINY if arguments.tiny else MAIN, self.work / MAIN_FOLDER)
        draft, save_draft = prepared(TINY if arguments.tiny else DRAFT, self.work / DRAFT_FOLDER)
        forward, distil = compiled(learn_text), compiled(learn_teacher)
        self.training["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
        self.training["main"] = train(
            "main", main_model, lambda ids, learned: forward(main_model, ids, learned), feed, arguments.main_seconds,
            self.end - DRAFT_RESERVE - EVALUATION_RESERVE, save_main)
        self.say(f"the main model is written: {self.training['main']}")
        self.publish()

        if device.type == "cuda":
            torch.cuda.empty_cache()  # the evaluation beside needs some of it
        self.measure("--eval", self.work / "eval", "--count", arguments.count, "--questions", arguments.count)
        try:
            self.training["draft"] = train(
                "draft", draft, lambda ids, learned: distil(draft, main_model, ids, learned), feed,
                arguments.draft_seconds, self.end - EVALUATION_RESERVE, save_draft)
            self.say(f"the draft is written: {self.training['draft']}")
            self.measure("--draft", self.work / DRAFT_FOLDER, "--tasks", "NONE", "--count", arguments.count)
        finally:
            self.wait()  # the main model's figures are worth having even where the draft has failed
        self.say("done")


def main() -> None:
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=Path, help="what `sources.py --pack` has written")
    parser.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json and tokenizer_config.json")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=560, help="for the whole run")
    parser.add_argument("--main-seconds", type=float, default=420, help="for the main model, compiling not counted")
    parser.add_argument("--draft-seconds", type=float, default=65, help="for the draft, likewise")
    parser.add_argument("--count", type=int, default=300, help="cases of each task of the evaluation")
    parser.add_argument("--rows", type=int, default=64, help="rows of 2,048 tokens in a step")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 3))
    parser.add_argument("--tiny", action="store_true", help="models of one layer, to try the whole run out")
    parser.add_argument("--unpack", type=Path, help="an earlier run's --out, to be put into --models")
    parser.add_argument("--models", type=Path)
    arguments = parser.parse_args()
    if arguments.unpack:
        return unpack(arguments.unpack, arguments.models)
    build = Build(arguments, start)
    try:
        build.run()
    finally:
        build.stop()


if __name__ == "__main__":
    main()
