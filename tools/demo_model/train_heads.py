"""Trains the EAGLE-3 head and the Medusa heads of the finished main model, and measures what is accepted.

    python3 train_heads.py --texts texts.tar.xz --model ../../models/gale-tales-10m --out OUT --seconds 240
    python3 train_heads.py --model ../../models/gale-tales-10m --measure ../../models
    python3 train_heads.py --prompts prompts.jsonl --count 20

Both heads are trained at once on the rows that trained the model, against the model's own distribution; the
EAGLE head by drafting STEPS tokens from every place of a row with its own states, as it will when it is used
(training-time test, arXiv 2503.01840, section 3.2). OUT gets `gale-tales-eagle`, `gale-tales-medusa` and
`acceptance.json`; the second command measures heads again, the third writes the prompts that it measures
them on for `gale bench speculative --prompts`.
"""

import argparse
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import data
import heads
import model
from curriculum import exercises, passages, rng_for, tools
from curriculum.chat import Chat, prompt_text
from curriculum.lexicon import Lexicon
from evaluate import Case, Subject, exercise
from train import masked_mean, train

STEPS = 5  # tokens that the EAGLE head drafts from every place
LATER = 0.8  # weight of each further guess's loss
COUNTED_BLOCKS = 40  # whose tokens choose the draft vocabulary
EAGLE_FOLDER, MEDUSA_FOLDER = "gale-tales-eagle", "gale-tales-medusa"
KINDS = {"stories": passages.story_chat, "passage questions": passages.question_chat,
         "tool calls": tools.call_chat, "JSON extraction": passages.json_chat, "copying": exercise(exercises.copy)}


class Heads(nn.Module):
    """Both heads beside the frozen target, as `train` wants a model."""

    def __init__(self, target: model.Qwen3, eagle: heads.EagleHead, medusa: heads.MedusaHeads,
                 draft_ids: Tensor) -> None:
        super().__init__()
        self.eagle, self.medusa = eagle, medusa
        self.steps = STEPS
        self._target = [target]  # in a list: none of this module's parameters
        self.register_buffer("draft_ids", draft_ids)
        self.register_buffer("rows", target.model.embed_tokens.weight.detach()[draft_ids])

    @property
    def cos(self) -> Tensor:
        return self.eagle.cos

    def guesses(self, ids: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Logits over the draft vocabulary of each step and each head, and the target's over all ids.

        ids [batch, tokens]; column t of guess i is for token t + 2 + i, and there are tokens - steps columns.
        """
        target = self._target[0]
        with torch.no_grad():
            states, last = heads.target_states(target, ids, self.eagle.config.captured)
            target_logits = F.linear(last, target.model.embed_tokens.weight)
            embedded = target.model.embed_tokens(ids).to(states.dtype)
        columns = ids.shape[1] - self.steps
        hidden = self.eagle.fc(states[:, :columns])
        cache: list[tuple[Tensor, Tensor]] = []
        eagle = []
        for step in range(self.steps):
            hidden = self.eagle(hidden, embedded[:, 1 + step : 1 + step + columns], cache)
            eagle.append(F.linear(self.eagle.norm(hidden), self.rows))
        medusa = [F.linear(head(last[:, :columns]), self.rows) for head in self.medusa]
        return eagle, medusa, target_logits

    def loss(self, ids: Tensor, learned: Tensor) -> Tensor:
        """Cross entropy of all guesses against the target's distribution; ids [batch, tokens + 1]."""
        eagle, medusa, target_logits = self.guesses(ids[:, :-1])
        with torch.no_grad():
            wanted = target_logits.float().softmax(-1)[..., self.draft_ids]
        total = ids.new_zeros((), dtype=torch.float)
        for guesses in (eagle, medusa):
            for index, logits in enumerate(guesses):
                ahead, columns = 1 + index, logits.shape[1]
                losses = -(wanted[:, ahead : ahead + columns] * logits.float().log_softmax(-1)).sum(-1)
                total = total + LATER**index * masked_mean(losses, learned[:, ahead + 1 : ahead + 1 + columns])
        return total


def draft_vocabulary(feed: data.Feed, size: int, blocks: int) -> Tensor:
    """The ids that are learned most often, ascending."""
    counts = np.zeros(8192, dtype=np.int64)
    for ids, learned in islice(feed, blocks):
        counts += np.bincount(ids[learned], minlength=len(counts))
    return torch.from_numpy(np.sort(np.argsort(-counts, kind="stable")[:size]).copy())


def held_out_cases(count: int) -> list[tuple[str, Case]]:
    """Prompts of each kind that training never draws."""
    cases = []
    for name, draw in KINDS.items():
        for seed in range(count):
            rng = rng_for(f"eval/heads/{name}", seed)
            chat = draw(rng, Lexicon(rng, "eval"))
            first = next(at for at, message in enumerate(chat.messages) if message["role"] == "assistant")
            cases.append((name, Case(prompt_text(Chat(chat.messages[: first + 1], chat.tools)), "", 256)))
    return cases


def accepted_lengths(hits: list[list[bool]], depth: int) -> list[int]:
    """Tokens gained by each target step of one reply; hits[t][i]: guess i from place t is right."""
    gained, at = [], 0
    while at < len(hits):
        right = next((i for i in range(min(depth, len(hits[at]))) if not hits[at][i]), min(depth, len(hits[at])))
        gained.append(right + 1)
        at += right + 1
    return gained


@torch.no_grad()
def acceptance(module: Heads, subject: Subject, count: int) -> dict[str, Any]:
    """Greedy drafting along the target's own greedy replies: tokens per target step at each length of draft."""
    cases = held_out_cases(count)
    gained: dict[str, Counter[str]] = {}
    steps: dict[str, Counter[str]] = {}
    for (kind, case), reply in zip(cases, subject.replies([case for _, case in cases])):
        before = subject.tokenizer.encode(case.prompt).ids
        written = reply.ids + ([subject.stops[0]] if reply.stopped else [])
        # Columns beyond the reply are never read, so what stands there does not matter.
        row = before + written + [subject.stops[1]] * module.steps
        ids = torch.tensor([row[: module.eagle.config.max_position_embeddings]], device=module.cos.device)
        eagle, medusa, _ = module.guesses(ids)
        for head, guesses in (("eagle", eagle), ("medusa", medusa)):
            chosen = torch.stack([module.draft_ids[logits[0].argmax(-1)] for logits in guesses], -1).tolist()
            # Place t has just gained token t + 1 of the row; the first of the reply comes from the prompt's step.
            places = range(len(before) - 1, min(len(before) + len(written) - 2, len(chosen)))
            hits = [[guess == row[t + 2 + i] and t + 2 + i < len(before) + len(written)
                     for i, guess in enumerate(chosen[t])] for t in places]
            for depth in range(1, len(guesses) + 1):
                lengths = accepted_lengths(hits, depth)
                for key in (kind, "all"):
                    gained.setdefault(f"{head} {depth}", Counter())[key] += sum(lengths)
                    steps.setdefault(f"{head} {depth}", Counter())[key] += len(lengths)
    return {name: {kind: round(gained[name][kind] / steps[name][kind], 3) for kind in gained[name]}
            for name in gained}


def write_prompts(path: Path, count: int) -> None:
    lines = [json.dumps({"prompt": case.prompt}) for _, case in held_out_cases(count)]
    path.write_text("\n".join(lines) + "\n")


def print_table(figures: dict[str, Any]) -> None:
    kinds = [*KINDS, "all"]
    print("tokens per target step".ljust(24), *(kind.rjust(17) for kind in kinds))
    for name, row in figures.items():
        print(name.ljust(24), *(f"{row[kind]:17.2f}" for kind in kinds), flush=True)


def measure(arguments: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    eagle, draft_ids = heads.load_eagle(arguments.measure / EAGLE_FOLDER)
    medusa, medusa_ids = heads.load_medusa(arguments.measure / MEDUSA_FOLDER)
    assert torch.equal(draft_ids, medusa_ids)
    module = Heads(model.load(arguments.model), eagle, medusa, draft_ids).to(device)
    module._target[0].to(device)
    print_table(acceptance(module, Subject(arguments.model), arguments.count))


def run(arguments: argparse.Namespace, start: float) -> None:
    def say(text: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {text}", flush=True)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(1)
    work = Path(tempfile.mkdtemp(prefix="demo-heads-"))
    with tarfile.open(arguments.texts) as archive:
        archive.extractall(work, filter="data")
    feed = data.Feed(work / "corpus", arguments.model / "tokenizer.json", work / "ids", arguments.rows,
                     arguments.workers)
    try:
        draft_ids = draft_vocabulary(feed, heads.EagleConfig.draft_vocab_size, arguments.counted)
        say(f"draft vocabulary of {len(draft_ids)} ids")
        target = model.load(arguments.model).to(device).requires_grad_(False)
        module = Heads(target, heads.EagleHead(heads.EagleConfig()), heads.MedusaHeads(heads.MedusaConfig()),
                       draft_ids).to(device)

        def save() -> None:
            heads.export_eagle(module.eagle, module.draft_ids, arguments.out / EAGLE_FOLDER)
            heads.export_medusa(module.medusa, module.draft_ids, arguments.out / MEDUSA_FOLDER)

        loss = torch.compile(module.loss) if device.type == "cuda" else module.loss
        figures = train("heads", module, loss, feed, arguments.seconds,
                        start + arguments.seconds - arguments.reserve, save)
    finally:
        feed.close()
        shutil.rmtree(work, ignore_errors=True)
    say(f"written: {figures}")
    lengths = acceptance(module, Subject(arguments.model), arguments.count)
    (arguments.out / "acceptance.json").write_text(
        json.dumps({"training": figures, "tokens_per_step": lengths}, indent=2) + "\n")
    print_table(lengths)
    say("done")


def main() -> None:
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, help="the main model's folder")
    parser.add_argument("--texts", type=Path, help="what `sources.py --pack` has written")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=240, help="for the whole run")
    parser.add_argument("--reserve", type=float, default=40, help="seconds of these for the measurement")
    parser.add_argument("--rows", type=int, default=32, help="rows of 2,048 tokens in a step")
    parser.add_argument("--counted", type=int, default=COUNTED_BLOCKS, help="blocks that choose the vocabulary")
    parser.add_argument("--count", type=int, default=100, help="held-out prompts of each kind")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--measure", type=Path, help="only measure the heads in this folder")
    parser.add_argument("--prompts", type=Path, help="only write the held-out prompts")
    arguments = parser.parse_args()
    if arguments.prompts:
        return write_prompts(arguments.prompts, arguments.count)
    if arguments.measure:
        return measure(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    run(arguments, start)


if __name__ == "__main__":
    main()
