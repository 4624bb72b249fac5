"""Training by the clock: the optimizers, the two losses, the loop. Used by `build.py`.

Needs `torch`, and one GPU or patience.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Feed
from model import Qwen3

WARMUP, DECAY = 0.01, 0.45  # shares of the time: rising, and falling to zero at the end
WARM_STEPS = 5  # before the clock starts
MATRIX_RATE, EMBEDDING_RATE = 0.02, 0.004
WEIGHT_DECAY = 0.05  # of the matrices, relative to the rate


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


def train(name: str, model: Qwen3, loss_of: Callable[[Tensor, Tensor], Tensor], feed: Feed, seconds: float,
          latest: float, save: Callable[[], None]) -> dict[str, float]:
    """Trains `model` for `seconds`, but not beyond the time `latest` of the monotonic clock.

    The clock of the schedule starts when compiling is over. `save` is called every minute. Returns what the
    model card reports.
    """
    device = model.cos.device
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() == 1 or "embed" in n]
    muon = Muon(matrices, compiled=device.type == "cuda")
    adam = torch.optim.AdamW(others, lr=EMBEDDING_RATE, betas=(0.9, 0.98), weight_decay=0.0,
                             fused=device.type == "cuda")
    start = saved = shown = time.monotonic()
    repeated, fresh = feed.repeated, feed.fresh
    step = tokens = 0
    running: list[Tensor] = []
    while True:
        now = time.monotonic()
        progress = (now - start) / max(1e-9, seconds) if step >= WARM_STEPS else step / 1e4
        if progress >= 1:
            break
        ids, learned = next(feed)
        ids_on = torch.from_numpy(ids.astype(np.int32)).to(device, non_blocking=True).long()
        learned_on = torch.from_numpy(learned).to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = loss_of(ids_on, learned_on)
        loss.backward()
        factor = rate_at(progress)
        for group in adam.param_groups:
            group["lr"] = EMBEDDING_RATE * factor
        muon.step(MATRIX_RATE * factor)
        adam.step()
        for parameter in model.parameters():
            parameter.grad = None
        running.append(loss.detach())
        step += 1
        tokens += ids.shape[0] * (ids.shape[1] - 1)
        if step == WARM_STEPS:
            loss.item()  # waits for the device
            print(f"{name}: compiled in {time.monotonic() - start:.0f} s", flush=True)
            start = saved = time.monotonic()
            seconds = min(seconds, latest - start)
            tokens = 0
        if step % 20 == 0 and now - shown > 15:
            mean = torch.stack(running).mean().item()
            if math.isnan(mean):
                raise RuntimeError(f"{name}: the loss is not a number at step {step}")
            print(f"{name}: step {step}, {tokens / 1e6:.0f} M tokens, "
                  f"{tokens / (time.monotonic() - start) / 1e6:.2f} M tokens/s, loss {mean:.4f}", flush=True)
            running, shown = [], now
        if now - saved > 60:
            save()
            saved = now
    last = torch.stack(running).mean().item() if running else math.nan
    save()
    repeated, fresh = feed.repeated - repeated, feed.fresh - fresh
    return {"steps": step, "tokens": tokens, "seconds": round(time.monotonic() - start, 1), "last_loss": round(last, 4),
            "repeated_blocks": round(repeated / max(1, repeated + fresh), 4)}
