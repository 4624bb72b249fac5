#!/usr/bin/env python3
"""Makes the tiny checkpoints with experts in tests/data/models, as model_goldens.py does the others.

    /tmp/goldens/bin/python tools/goldens/moe_goldens.py

A router's choice jumps where two experts score nearly alike. So that rounding in bf16 does not turn
a comparison of logits into one of choices, each prompt is put together token by token: a token is
taken if the routers of all layers keep their choice when their input is shaken by more than bf16
does.
"""

import argparse
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import save_file

import model_goldens as goldens

SHAKES = 24
SHAKE = 0.08  # of an input's deviation; golden_test.cc's tolerance for bf16 is 0.09 of the logits'
MAX_BF16_ERROR = 0.055  # of transformers in bf16, so that ours keeps a margin

GPT_OSS_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "beta_fast": 4.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 32,
}

DEEPSEEK_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "beta_fast": 4.0,
    "beta_slow": 1.0,
    "mscale": 0.7,
    "mscale_all_dim": 0.9,
    "original_max_position_embeddings": 32,
}

# name: (config class, config)
CASES = {
    "mixtral": (
        transformers.MixtralConfig,
        dict(vocab_size=71, hidden_size=40, intermediate_size=20, num_hidden_layers=3,
             num_attention_heads=5, num_key_value_heads=1, num_local_experts=5,
             num_experts_per_tok=2, max_position_embeddings=128, tie_word_embeddings=False)),
    "qwen3_moe": (
        transformers.Qwen3MoeConfig,
        dict(vocab_size=67, hidden_size=32, intermediate_size=36, moe_intermediate_size=12,
             num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=12,
             num_experts=6, num_experts_per_tok=3, norm_topk_prob=True, mlp_only_layers=[1],
             max_position_embeddings=128, tie_word_embeddings=True)),
    "qwen2_moe": (
        transformers.Qwen2MoeConfig,
        dict(vocab_size=67, hidden_size=32, intermediate_size=36, moe_intermediate_size=12,
             shared_expert_intermediate_size=20, num_hidden_layers=4, num_attention_heads=4,
             num_key_value_heads=2, num_experts=7, num_experts_per_tok=2, norm_topk_prob=False,
             decoder_sparse_step=2, max_position_embeddings=128, tie_word_embeddings=False)),
    "gpt_oss": (
        transformers.GptOssConfig,
        dict(vocab_size=67, hidden_size=32, intermediate_size=20, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, head_dim=12, num_local_experts=4,
             num_experts_per_tok=2, sliding_window=9, swiglu_limit=1.5, max_position_embeddings=128,
             rope_parameters=GPT_OSS_ROPE, tie_word_embeddings=False)),
    "deepseek_v2": (
        transformers.DeepseekV2Config,
        dict(vocab_size=67, hidden_size=32, intermediate_size=36, moe_intermediate_size=12,
             num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
             n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3,
             routed_scaling_factor=1.5, topk_method="group_limited_greedy", n_group=4,
             topk_group=2, first_k_dense_replace=1, kv_lora_rank=24, q_lora_rank=None,
             qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10,
             max_position_embeddings=128, rope_parameters=DEEPSEEK_ROPE,
             tie_word_embeddings=False)),
    "deepseek_v3": (
        transformers.DeepseekV3Config,
        dict(vocab_size=67, hidden_size=32, intermediate_size=36, moe_intermediate_size=12,
             num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
             n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3,
             routed_scaling_factor=1.7, n_group=4, topk_group=2, norm_topk_prob=True,
             first_k_dense_replace=1, kv_lora_rank=32, q_lora_rank=20, qk_nope_head_dim=8,
             qk_rope_head_dim=12, v_head_dim=16, max_position_embeddings=128,
             rope_parameters=DEEPSEEK_ROPE, tie_word_embeddings=False)),
}


def make_model(config_class, fields, seed):
    """A random model whose every norm weight, bias, sink and correction differs from its neutral
    value."""
    config = config_class(initializer_range=0.3, **fields)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "norm" in name:
                tensor.copy_(1 + 0.25 * torch.randn_like(tensor))
            elif name.endswith("sinks"):
                tensor.copy_(1 + torch.randn_like(tensor))
            elif name.endswith("bias"):
                tensor.copy_(0.3 * torch.randn_like(tensor))
            elif ".experts." in name or name.endswith(("gate.weight", "router.weight")):
                tensor.copy_(0.3 * torch.randn_like(tensor))
    return model.eval()


def routers(model):
    return [m for name, m in model.named_modules()
            if name.endswith((".mlp.gate", ".block_sparse_moe.gate", ".mlp.router"))
            and type(m).__name__.endswith("Router")]


@torch.no_grad()
def chooses_steadily(model, ids, generator):
    """Whether the routers' choice for the last token stands firm."""
    inputs = {}
    handles = [router.register_forward_pre_hook(
        lambda module, args: inputs.__setitem__(module, args[0].reshape(-1, args[0].shape[-1])[-1:]))
        for router in routers(model)]
    model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    for router, x in inputs.items():
        noise = SHAKE * x.std() * torch.randn((SHAKES, x.shape[-1]), generator=generator)
        choice = router(x)[2].sort(-1).values
        if not (router(x + noise)[2].sort(-1).values == choice).all():
            return False
    return True


def make_prompt(model, vocab, length, generator):
    ids = []
    for _ in range(200 * length):
        token = torch.randint(vocab, (1,), generator=generator).item()
        if chooses_steadily(model, ids + [token], generator):
            ids.append(token)
        if len(ids) == length:
            return ids
    return None


@torch.no_grad()
def bf16_error(folder, prompt, logits):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="eager",
        experts_implementation="eager").eval()
    rounded = model(torch.tensor([prompt])).logits[0].float()
    return ((rounded - logits).abs().max() / logits.abs().max()).item()


def write_case(name, folder):
    config_class, fields = CASES[name]
    for seed in range(100):
        # Saved first and read back, so that the goldens belong to the rounded weights.
        shutil.rmtree(folder, ignore_errors=True)
        make_model(config_class, fields, seed).to(torch.bfloat16).save_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        assert routers(model), "the model has routers"
        generator = torch.Generator().manual_seed(seed)
        golden = {}
        for i, length in enumerate(goldens.PROMPT_LENGTHS):
            prompt = make_prompt(model, fields["vocab_size"], length, generator)
            if prompt is None:
                break
            logits, greedy, margin = goldens.answer(model, prompt)
            if margin < goldens.MIN_MARGIN or logits.std() < 1:
                break
            if bf16_error(folder, prompt, logits) > MAX_BF16_ERROR:
                break
            golden[f"prompt.{i}"] = torch.tensor(prompt, dtype=torch.int32)
            golden[f"logits.{i}"] = logits.to(torch.float32).contiguous()
            golden[f"greedy.{i}"] = torch.tensor(greedy, dtype=torch.int32)
        else:
            save_file(golden, folder / "golden.safetensors")
            size = sum(file.stat().st_size for file in folder.iterdir())
            print(f"{name}: seed {seed}, {size} bytes")
            return
    raise SystemExit(f"{name}: no seed gives steady choices and clear greedy ids")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/data/models")
    parser.add_argument("cases", nargs="*", default=list(CASES), help="which cases; default: all")
    arguments = parser.parse_args()
    for name in arguments.cases:
        write_case(name, arguments.out / name)


if __name__ == "__main__":
    main()
