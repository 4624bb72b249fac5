"""Heads that guess the main model's next tokens from its states: EAGLE-3 and Medusa, in plain PyTorch.

Parameter names, arithmetic and `config.json` are those of the published layouts: EAGLE-3 as in
github.com/SafeAILab/EAGLE and vLLM's llama_eagle3.py (Li et al. 2025, arXiv 2503.01840), Medusa as in
github.com/FasterDecoding/Medusa (Cai et al. 2024, arXiv 2401.10774). Both leave the output matrix out and use
the target's rows of their draft vocabulary. Matrices are stored in FP8 (compressed-tensors, one scale per row).
Used by `train_heads.py` and `tools/goldens`.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model import Qwen3, RmsNorm, rotate

FP8_MAX = 448.0  # of e4m3


@dataclass(frozen=True)
class EagleConfig:
    """The fields of an EAGLE-3 `config.json` that shape the head."""

    hidden_size: int = 256
    intermediate_size: int = 128
    num_attention_heads: int = 2
    num_key_value_heads: int = 1
    head_dim: int = 64
    vocab_size: int = 8192
    draft_vocab_size: int = 3072
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    captured: tuple[int, ...] = (2, 5, 9)  # the inputs of these layers of the target


@dataclass(frozen=True)
class MedusaConfig:
    """The fields of a Medusa `config.json` that shape the heads."""

    hidden_size: int = 256
    vocab_size: int = 8192
    truncated_vocab_size: int = 3072
    medusa_num_heads: int = 2
    medusa_num_layers: int = 1


def row_scales(weight: Tensor) -> Tensor:
    """[rows, 1]: powers of two, so that bf16 holds the scaled codes exactly."""
    largest = weight.detach().abs().amax(1, keepdim=True).clamp(min=1e-12)
    return torch.exp2(torch.ceil(torch.log2(largest / FP8_MAX)))


class Fp8Linear(nn.Linear):
    """A matrix as it will be stored; gradients pass the rounding unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        scales = row_scales(self.weight)
        rounded = (self.weight.detach() / scales).to(torch.float8_e4m3fn).float() * scales
        weight = self.weight + (rounded - self.weight.detach())
        return F.linear(x, weight, self.bias)


class EagleAttention(nn.Module):
    def __init__(self, c: EagleConfig) -> None:
        super().__init__()
        self.head_dim = c.head_dim
        self.q_proj = Fp8Linear(2 * c.hidden_size, c.num_attention_heads * c.head_dim, bias=False)
        self.k_proj = Fp8Linear(2 * c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.v_proj = Fp8Linear(2 * c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.o_proj = Fp8Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Step `len(cache)` of drafts that start in every column; x [batch, tokens, 2 hidden].

        A column sees the first step's keys up to its own, then only what it drafted itself. Appends this step's
        keys and values.
        """
        batch, tokens, _ = x.shape
        split = (batch, tokens, -1, self.head_dim)
        q = rotate(self.q_proj(x).view(split).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(split).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(split).transpose(1, 2)
        groups = q.shape[1] // k.shape[1]
        cache.append((k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)))
        (first_k, first_v), own = cache[0], cache[1:]
        if not own:
            y = F.scaled_dot_product_attention(q, first_k, first_v, is_causal=True)
        else:
            hidden = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
            scores = (q @ first_k.mT).masked_fill(hidden, -torch.inf)
            own_scores = torch.cat([(q * k).sum(-1, keepdim=True) for k, _ in own], -1)
            shares = (torch.cat((scores, own_scores), -1) * self.head_dim**-0.5).softmax(-1).to(x.dtype)
            y = shares[..., :tokens] @ first_v
            for index, (_, value) in enumerate(own):
                y = y + shares[..., tokens + index, None] * value
        return self.o_proj(y.transpose(1, 2).reshape(batch, tokens, -1))


class EagleMlp(nn.Module):
    def __init__(self, c: EagleConfig) -> None:
        super().__init__()
        self.gate_proj = Fp8Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = Fp8Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = Fp8Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class EagleLayer(nn.Module):
    def __init__(self, c: EagleConfig) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.hidden_norm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = EagleAttention(c)
        self.post_attention_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = EagleMlp(c)

    def forward(self, hidden: Tensor, embedded: Tensor, cos: Tensor, sin: Tensor,
                cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        x = torch.cat((self.input_layernorm(embedded), self.hidden_norm(hidden)), -1)
        hidden = hidden + self.self_attn(x, cos, sin, cache)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class EagleHead(nn.Module):
    """One decoder layer over the target's captured states and the embedding of the token after them."""

    def __init__(self, c: EagleConfig) -> None:
        super().__init__()
        self.config = c
        self.fc = Fp8Linear(len(c.captured) * c.hidden_size, c.hidden_size, bias=False)
        self.midlayer = EagleLayer(c)
        self.norm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        frequency = c.rope_theta ** (-torch.arange(0, c.head_dim, 2).float() / c.head_dim)
        angle = torch.outer(torch.arange(c.max_position_embeddings).float(), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)
        nn.init.zeros_(self.midlayer.self_attn.o_proj.weight)
        nn.init.zeros_(self.midlayer.mlp.down_proj.weight)

    def forward(self, hidden: Tensor, embedded: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        """One step of the drafts of all columns, [batch, tokens, hidden] -> the next step's `hidden`.

        Column t starts from the states of token t; step s reads the embedding of token t + 1 + s and guesses
        token t + 2 + s from `norm` of what is returned. The first step's `hidden` is `fc` of the captured states.
        """
        step, tokens = len(cache), hidden.shape[1]
        return self.midlayer(hidden, embedded, self.cos[step : step + tokens], self.sin[step : step + tokens], cache)


class ResidualBlock(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = Fp8Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.silu(self.linear(x))


class MedusaHeads(nn.ModuleList):
    """Head i guesses, from the target's normed last state of token t, token t + 2 + i."""

    def __init__(self, c: MedusaConfig) -> None:
        super().__init__(nn.Sequential(*(ResidualBlock(c.hidden_size) for _ in range(c.medusa_num_layers)))
                         for _ in range(c.medusa_num_heads))
        self.config = c
        for weight in self.parameters():
            nn.init.zeros_(weight)


def target_states(target: Qwen3, ids: Tensor, captured: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The captured layers' inputs side by side, and the last normed state; [batch, tokens, ...]."""
    x = target.model.embed_tokens(ids)
    if torch.is_autocast_enabled(ids.device.type):
        x = x.to(torch.get_autocast_dtype(ids.device.type))
    cos, sin = target.cos[: ids.shape[1]], target.sin[: ids.shape[1]]
    taken = []
    for index, layer in enumerate(target.model.layers):
        if index in captured:
            taken.append(x)
        x = layer(x, cos, sin)
    return torch.cat(taken, -1), target.model.norm(x)


def _quantized(head: nn.Module) -> dict[str, Tensor]:
    """The parameters as they are stored."""
    weights: dict[str, Tensor] = {}
    for name, weight in head.named_parameters():
        weight = weight.detach().float().cpu().contiguous()
        if weight.dim() == 2:
            scales = row_scales(weight)
            weights[name] = (weight / scales).to(torch.float8_e4m3fn)
            weights[f"{name}_scale"] = scales.to(torch.bfloat16)
        else:
            weights[name] = weight.to(torch.bfloat16)
    return weights


def _quantization() -> dict[str, Any]:
    weights = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
    return {"quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
            "ignore": [], "config_groups": {"group_0": {
                "targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}}}


def _write(folder: Path, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(
        json.dumps({**config, "torch_dtype": "bfloat16", "quantization_config": _quantization()}, indent=2) + "\n")


def export_eagle(head: EagleHead, draft_ids: Tensor, folder: Path) -> None:
    """`draft_ids` [draft vocabulary], ascending: `d2t` holds how far each is from its index, `t2d` which ids are drafted."""
    draft_ids = draft_ids.cpu()
    drafted = torch.zeros(head.config.vocab_size, dtype=torch.bool)
    drafted[draft_ids] = True
    weights = {**_quantized(head), "d2t": draft_ids - torch.arange(len(draft_ids)), "t2d": drafted}
    fields = asdict(head.config)
    captured = list(fields.pop("captured"))
    _write(folder, weights, {
        "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", **fields, "num_hidden_layers": 1,
        "hidden_act": "silu", "attention_bias": False, "tie_word_embeddings": False,
        "eagle_config": {"eagle_aux_hidden_state_layer_ids": captured, "use_aux_hidden_state": True}})


def export_medusa(heads: MedusaHeads, draft_ids: Tensor, folder: Path) -> None:
    """`token_map` [draft vocabulary] holds the ids of the rows, as in vLLM's medusa.py."""
    _write(folder, {**_quantized(heads), "token_map": draft_ids.cpu()}, {
        "architectures": ["MedusaModel"], "model_type": "medusa", **asdict(heads.config), "original_lm_head": True})


def _read(folder: Path, module: nn.Module) -> Tensor:
    """Loads `module`'s parameters and returns the ids of the draft vocabulary."""
    weights = load_file(folder / "model.safetensors")
    module.load_state_dict({
        name: weights[name].float() * (weights[f"{name}_scale"].float() if f"{name}_scale" in weights else 1)
        for name, _ in module.named_parameters()})
    if "token_map" in weights:
        return weights["token_map"]
    return weights["d2t"] + torch.arange(len(weights["d2t"]))


def load_eagle(folder: Path) -> tuple[EagleHead, Tensor]:
    config = json.loads((folder / "config.json").read_text())
    fields = {name: config[name] for name in asdict(EagleConfig()) if name != "captured"}
    head = EagleHead(EagleConfig(**fields, captured=tuple(config["eagle_config"]["eagle_aux_hidden_state_layer_ids"])))
    return head, _read(folder, head)


def load_medusa(folder: Path) -> tuple[MedusaHeads, Tensor]:
    config = json.loads((folder / "config.json").read_text())
    heads = MedusaHeads(MedusaConfig(**{name: config[name] for name in asdict(MedusaConfig())}))
    return heads, _read(folder, heads)
