"""Trains the main model, then distils the draft from it, each for a given number of minutes.

    python3 train.py --corpus DIR --tokenizer DIR --out DIR --minutes 8 --draft-minutes 1

Writes two checkpoint folders under --out, refreshed every minute; --init DIR continues from the folders
of an earlier run. Needs one GPU (or patience), `torch`, `tokenizers`, `safetensors`.
"""

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

import data
from model import DRAFT, MAIN, Config, Qwen3, export, load

MAIN_FOLDER, DRAFT_FOLDER = "gale-tales-10m", "gale-tales-draft"
WARMUP, DECAY = 0.01, 0.45  # shares of the time: rising, and falling to zero at the end
WARM_STEPS = 5  # before the clock starts
MATRIX_RATE, EMBEDDING_RATE = 0.02, 0.004
WEIGHT_DECAY = 0.02


def orthogonalize(g: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices of a stack [n, rows, columns], by Newton-Schulz steps.

    Source: Jordan et al. 2024, Muon.
    """
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).to(g.dtype)


class Muon:
    """Momentum with orthogonalized updates for the matrices, all of one shape at a time."""

    def __init__(self, matrices: list[nn.Parameter], compiled: bool) -> None:
        self.stacks: dict[torch.Size, list[nn.Parameter]] = {}
        for matrix in matrices:
            self.stacks.setdefault(matrix.shape, []).append(matrix)
        self.momenta = {shape: torch.zeros(len(stack), *shape, device=stack[0].device)
                        for shape, stack in self.stacks.items()}
        self.orthogonalize: Callable[[Tensor], Tensor] = (
            torch.compile(orthogonalize) if compiled else orthogonalize)

    @torch.no_grad()
    def step(self, rate: float, beta: float = 0.95) -> None:
        for shape, stack in self.stacks.items():
            gradient = torch.stack([matrix.grad for matrix in stack])
            momentum = self.momenta[shape].lerp_(gradient, 1 - beta)
            update = self.orthogonalize(gradient.lerp(momentum, beta))
            scale = rate * math.sqrt(max(1.0, shape[0] / shape[1]))
            torch._foreach_mul_(stack, 1 - rate * WEIGHT_DECAY)
            torch._foreach_add_(stack, list(update.unbind(0)), alpha=-scale)


def rate_at(progress: float) -> float:
    """The learning rate's factor at `progress` of the time: up, level, down to zero."""
    return min(1.0, progress / WARMUP, (1 - progress) / DECAY)


def masked_mean(losses: Tensor, learned: Tensor) -> Tensor:
    return (losses * learned).sum() / learned.sum().clamp(min=1)


def learn_text(model: Qwen3, ids: Tensor, learned: Tensor) -> Tensor:
    """Cross entropy of the next token where the mask says so."""
    logits = model(ids[:, :-1]).float()
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return masked_mean(losses, learned[:, 1:].flatten())


def learn_teacher(draft: Qwen3, teacher: Qwen3, ids: Tensor, learned: Tensor) -> Tensor:
    """Cross entropy of the draft's distribution against the teacher's."""
    with torch.no_grad():
        wanted = teacher(ids[:, :-1]).float().softmax(-1)
    losses = -(wanted * draft(ids[:, :-1]).float().log_softmax(-1)).sum(-1)
    return masked_mean(losses.flatten(), learned[:, 1:].flatten())


def run(name: str, model: Qwen3, loss_of: Callable[[Tensor, Tensor], Tensor],
        batches: Iterator[tuple[np.ndarray, np.ndarray]], minutes: float, scale: float,
        save: Callable[[], None]) -> dict[str, float]:
    """Trains `model` for `minutes`; returns what the model card reports."""
    device = model.cos.device
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() == 1 or "embed" in n]
    muon = Muon(matrices, compiled=device.type == "cuda")
    adam = torch.optim.AdamW(others, lr=EMBEDDING_RATE, betas=(0.9, 0.98), weight_decay=0.0,
                             fused=device.type == "cuda")
    start = saved = shown = time.monotonic()
    step = tokens = 0
    running: list[Tensor] = []
    while True:
        now = time.monotonic()
        progress = (now - start) / (60 * minutes) if step >= WARM_STEPS else step / 1e4
        if progress >= 1:
            break
        ids, learned = next(batches)
        ids_on = torch.from_numpy(ids.astype(np.int32)).to(device, non_blocking=True).long()
        learned_on = torch.from_numpy(learned).to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = loss_of(ids_on, learned_on)
        loss.backward()
        factor = scale * rate_at(progress)
        for group in adam.param_groups:
            group["lr"] = EMBEDDING_RATE * factor
        muon.step(MATRIX_RATE * factor)
        adam.step()
        for parameter in model.parameters():
            parameter.grad = None
        running.append(loss.detach())
        step += 1
        tokens += ids.shape[0] * (ids.shape[1] - 1)
        if step == WARM_STEPS:  # compiling is over: the schedule begins
            loss.item()  # waits for the device
            start = saved = time.monotonic()
            tokens = 0
        if step % 20 == 0 and now - shown > 15:
            mean = torch.stack(running).mean().item()
            print(f"{name}: step {step}, {tokens / 1e6:.0f} M tokens, "
                  f"{tokens / max(1e-9, time.monotonic() - start) / 1e6:.2f} M tokens/s, "
                  f"loss {mean:.4f}", flush=True)
            running, shown = [], now
        if now - saved > 60:
            save()
            saved = now
    save()
    return {"steps": step, "tokens": tokens, "seconds": round(time.monotonic() - start, 1),
            "last_loss": round(torch.stack(running).mean().item(), 4) if running else math.nan}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="folders of an earlier run to continue from")
    parser.add_argument("--minutes", type=float, default=8.0, help="for the main model")
    parser.add_argument("--draft-minutes", type=float, default=1.0)
    parser.add_argument("--rows", type=int, default=64, help="rows of 2,048 tokens in a step")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--first-seed", type=int, default=0, help="of the curriculum")
    parser.add_argument("--rate-scale", type=float, default=1.0)
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(1)
    tokenizer_file = arguments.tokenizer / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    eos_ids = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    batches = data.blocks(arguments.corpus, tokenizer_file, arguments.out / "ids", arguments.rows,
                          arguments.workers, arguments.first_seed)

    def prepared(config: Config, folder: str) -> tuple[Qwen3, Callable[[], None]]:
        """A model, new or continued, and how to save it."""
        out = arguments.out / folder
        out.mkdir(parents=True, exist_ok=True)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(arguments.tokenizer / file, out / file)
        model = load(arguments.init / folder) if arguments.init else Qwen3(config)
        return model.to(device), lambda: export(model, out, eos_ids, eos_ids[1])

    main_model, save_main = prepared(MAIN, MAIN_FOLDER)
    draft, save_draft = prepared(DRAFT, DRAFT_FOLDER)
    if device.type == "cuda":
        forward_main, forward_draft = torch.compile(learn_text), torch.compile(learn_teacher)
    else:
        forward_main, forward_draft = learn_text, learn_teacher
    report = {}
    report["main"] = run("main", main_model, lambda ids, learned: forward_main(main_model, ids, learned),
                         batches, arguments.minutes, arguments.rate_scale, save_main)
    report["draft"] = run("draft", draft, lambda ids, learned: forward_draft(draft, main_model, ids, learned),
                          batches, arguments.draft_minutes, 1.0, save_draft)
    (arguments.out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
