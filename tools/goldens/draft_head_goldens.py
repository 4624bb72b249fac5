#!/usr/bin/env python3
"""Makes the tiny draft heads of tests/data/heads and what PyTorch computes with them.

    /tmp/goldens/bin/python tools/goldens/draft_head_goldens.py

Set up as model_goldens.py says. Each folder gets a random head in the published layout, for a checkpoint of
tests/data/models, and golden.safetensors: `ids` of a text, transformers' `states` of the target at all its
positions, `embedded` (the target's embeddings of the tokens after them), and `logits` of the head in f32. An
EAGLE-3 head and an MTP layer go over the text at once and then guess on from the last place, a row of `embedded`
and `logits` each, with their own output in place of a state. Medusa's logits are [heads, positions, vocabulary].

The arithmetic is that of vLLM's llama_eagle3.py, deepseek_mtp.py and medusa.py, written down again here; the
MTP layer's block is transformers' own DeepseekV3DecoderLayer.
"""

import json
import pathlib
import tempfile

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"
POSITIONS, GUESSES = 11, 4  # states of the text, and rows guessed on


def random_weight(*shape: int, deviation: float = 0.3) -> Tensor:
    """Exact in bf16, in which it is stored."""
    return (torch.randn(*shape) * deviation).bfloat16().float()


def norm_weight(size: int) -> Tensor:
    return (1 + 0.3 * torch.randn(size)).bfloat16().float()


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def rotate(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """x [tokens, heads, head_dim]."""
    half = x.shape[-1] // 2
    angle = positions[:, None].float() * theta ** (-torch.arange(half).float() / half)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def read_target(name: str) -> tuple[transformers.PreTrainedModel, Tensor]:
    """The target in f32, and a random text with enough tokens behind its states."""
    model = transformers.AutoModelForCausalLM.from_pretrained(DATA / "models" / name, dtype=torch.float32).eval()
    return model, torch.randint(model.config.vocab_size, (POSITIONS + GUESSES,))


def write(name: str, config: dict, weights: dict[str, Tensor], golden: dict[str, Tensor]) -> None:
    folder = DATA / "heads" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    stored = {key: value.bfloat16() if value.is_floating_point() else value for key, value in weights.items()}
    save_file({key: value.contiguous() for key, value in stored.items()}, folder / "model.safetensors")
    save_file({key: value.contiguous() for key, value in golden.items()}, folder / "golden.safetensors")


def eagle3() -> None:
    model, ids = read_target("qwen3_gqa5")
    hidden, heads, kv_heads, head_dim, inner, drafted, eps, theta = 40, 2, 1, 12, 16, 24, 1e-5, 500.0
    layers = [1, 2]
    w = {"fc.weight": random_weight(hidden, len(layers) * hidden), "norm.weight": norm_weight(hidden),
         "lm_head.weight": random_weight(drafted, hidden)}
    for name, shape in {"self_attn.q_proj": (heads * head_dim, 2 * hidden),
                        "self_attn.k_proj": (kv_heads * head_dim, 2 * hidden),
                        "self_attn.v_proj": (kv_heads * head_dim, 2 * hidden),
                        "self_attn.o_proj": (hidden, heads * head_dim), "mlp.gate_proj": (inner, hidden),
                        "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}.items():
        w[f"midlayer.{name}.weight"] = random_weight(*shape)
    for name in ("input_layernorm", "hidden_norm", "post_attention_layernorm"):
        w[f"midlayer.{name}.weight"] = norm_weight(hidden)
    vocab = model.config.vocab_size
    draft_ids = torch.randperm(vocab)[:drafted].sort().values
    w["d2t"] = draft_ids - torch.arange(drafted)
    w["t2d"] = torch.zeros(vocab, dtype=torch.bool).index_fill(0, draft_ids, True)

    states = torch.cat([model(ids[None], output_hidden_states=True).hidden_states[i][0] for i in layers], -1)
    states = states[:POSITIONS]
    embedded = model.get_input_embeddings()(ids)[1:]
    keys, values = [], []

    def layer(state: Tensor, token: Tensor, position: int) -> Tensor:
        """One row; the next row's state."""
        def linear(name: str, x: Tensor) -> Tensor:
            return F.linear(x, w[f"midlayer.{name}.weight"])
        x = torch.cat((rms_norm(token, w["midlayer.input_layernorm.weight"], eps),
                       rms_norm(state, w["midlayer.hidden_norm.weight"], eps)))
        at = torch.tensor([position])
        q = rotate(linear("self_attn.q_proj", x).view(1, heads, head_dim), at, theta)[0]
        keys.append(rotate(linear("self_attn.k_proj", x).view(1, kv_heads, head_dim), at, theta)[0, 0])
        values.append(linear("self_attn.v_proj", x))
        shares = (q @ torch.stack(keys).T / head_dim**0.5).softmax(-1)
        state = state + linear("self_attn.o_proj", (shares @ torch.stack(values)).flatten())
        x = rms_norm(state, w["midlayer.post_attention_layernorm.weight"], eps)
        gated = F.silu(linear("mlp.gate_proj", x)) * linear("mlp.up_proj", x)
        return state + linear("mlp.down_proj", gated)

    rows = []
    for position in range(POSITIONS + GUESSES - 1):
        state = F.linear(states[position], w["fc.weight"]) if position < POSITIONS else state
        state = layer(state, embedded[position], position)
        rows.append(F.linear(rms_norm(state, w["norm.weight"], eps), w["lm_head.weight"]))
    write("eagle3", {
        "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": 1, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head_dim, "vocab_size": vocab, "draft_vocab_size": drafted,
        "max_position_embeddings": 256, "rope_theta": theta, "rms_norm_eps": eps, "hidden_act": "silu",
        "torch_dtype": "bfloat16", "eagle_aux_hidden_state_layer_ids": layers,
    }, w, {"ids": ids, "states": states, "embedded": embedded, "logits": torch.stack(rows)})


def medusa() -> None:
    model, ids = read_target("qwen3_gqa5")
    hidden, vocab, heads, layers, drafted = 40, model.config.vocab_size, 2, 1, 24
    w = {f"{head}.{layer}.linear.{part}": random_weight(*shape) for head in range(heads) for layer in range(layers)
         for part, shape in (("weight", (hidden, hidden)), ("bias", (hidden,)))}
    draft_ids = torch.randperm(vocab)[:drafted].sort().values
    states = model(ids[None], output_hidden_states=True).hidden_states[-1][0, :POSITIONS]
    rows = []
    for head in range(heads):
        x = states
        for layer in range(layers):
            x = x + F.silu(F.linear(x, w[f"{head}.{layer}.linear.weight"], w[f"{head}.{layer}.linear.bias"]))
        rows.append(F.linear(x, model.get_output_embeddings().weight[draft_ids]))
    write("medusa", {
        "medusa_num_heads": heads, "medusa_num_layers": layers, "hidden_size": hidden, "vocab_size": vocab,
        "truncated_vocab_size": drafted, "original_lm_head": True,
    }, {**w, "token_map": draft_ids},
        {"ids": ids, "states": states, "embedded": model.get_input_embeddings()(ids)[1:], "logits": torch.stack(rows)})


def mtp() -> None:
    """With its whole target, whose states these are not; `logits` are the rows that it would make them from."""
    config = transformers.DeepseekV3Config(
        vocab_size=31, hidden_size=24, intermediate_size=32, moe_intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2,
        n_group=2, topk_group=2, first_k_dense_replace=1, q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=8,
        qk_rope_head_dim=4, v_head_dim=8, max_position_embeddings=128, attn_implementation="eager")
    hidden, index, eps = config.hidden_size, config.num_hidden_layers, config.rms_norm_eps
    model = transformers.DeepseekV3ForCausalLM(config).eval()
    block = model.model.layers[index - 1]
    for name, weight in block.named_parameters():
        weight.data = norm_weight(len(weight)) if weight.dim() == 1 else random_weight(*weight.shape)
    for name, buffer in block.named_buffers():
        buffer.copy_((torch.randn_like(buffer) * 0.1).bfloat16().float())
    joined, norms = random_weight(hidden, 2 * hidden), {name: norm_weight(hidden) for name in ("e", "h", "shared")}

    states, embedded = torch.randn(POSITIONS, hidden), torch.randn(POSITIONS + GUESSES - 1, hidden)
    inputs: list[Tensor] = []
    rows = []
    for position in range(POSITIONS + GUESSES - 1):
        state = states[position] if position < POSITIONS else state
        inputs.append(F.linear(torch.cat((rms_norm(embedded[position], norms["e"], eps),
                                          rms_norm(state, norms["h"], eps))), joined))
        x = torch.stack(inputs)[None]
        mask = torch.full((len(inputs), len(inputs)), -torch.inf).triu(1)[None, None]
        angles = model.model.rotary_emb(x, torch.arange(len(inputs))[None])
        state = block(x, attention_mask=mask, position_embeddings=angles)[0, -1]
        rows.append(rms_norm(state, norms["shared"], eps))

    with tempfile.TemporaryDirectory() as folder:  # for the names that checkpoints have
        model.save_pretrained(folder)
        saved = load_file(pathlib.Path(folder) / "model.safetensors")
        saved_config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    old, new = f"model.layers.{index - 1}.", f"model.layers.{index}."
    w = saved | {new + key.removeprefix(old): value for key, value in saved.items() if key.startswith(old)}
    w |= {new + "eh_proj.weight": joined, new + "enorm.weight": norms["e"], new + "hnorm.weight": norms["h"],
          new + "shared_head.norm.weight": norms["shared"]}
    write("mtp", {**saved_config, "torch_dtype": "bfloat16"}, w,
          {"states": states, "embedded": embedded, "logits": torch.stack(rows)})


def main() -> None:
    transformers.logging.set_verbosity_error()
    with torch.no_grad():
        for seed, make in enumerate((eagle3, medusa, mtp)):
            torch.manual_seed(seed)
            make()


if __name__ == "__main__":
    main()
