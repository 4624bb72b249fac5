#!/usr/bin/env python3
"""Makes the tiny random checkpoints of tests/data/models and transformers' answers to them.

    python3 -m venv /tmp/goldens
    /tmp/goldens/bin/pip install torch transformers safetensors numpy \
        --extra-index-url https://download.pytorch.org/whl/cpu
    /tmp/goldens/bin/python tools/goldens/model_goldens.py

Only needed when a case is added: the tests read the committed files and no Python. Each folder gets
a checkpoint as transformers saves it and golden.safetensors: for prompt i the ids `prompt.i`, the
f32 logits of all its positions `logits.i`, and the ids that greedy decoding adds, `greedy.i`.

The models are small but not tame: weights of deviation 0.3 and perturbed norms give logits of
deviation over 1, and softmaxes far from uniform, so that a wrong angle or mask shows. Sizes are odd
on purpose (head_dim * heads is not hidden, 5 query heads on one key head, head_dim 12).
"""

import argparse
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import save_file

PROMPT_LENGTHS = (1, 9, 37)
GREEDY_TOKENS = 16
# Greedy ids must not hang on rounding: the best logit leads by far more than the tests' tolerance.
MIN_MARGIN = 2e-3

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# name: (config class, config, dtype saved, largest shard)
CASES = {
    "llama_gqa5": (
        transformers.LlamaConfig,
        dict(vocab_size=151, hidden_size=60, intermediate_size=88, num_hidden_layers=3,
             num_attention_heads=10, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5,
             max_position_embeddings=256, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=False,
             eos_token_id=[2, 3]),
        torch.bfloat16, "1GB"),
    "llama_bias": (
        transformers.LlamaConfig,
        dict(vocab_size=97, hidden_size=48, intermediate_size=60, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=4, attention_bias=True, mlp_bias=True,
             max_position_embeddings=128, tie_word_embeddings=True),
        torch.float32, "1GB"),
    "qwen2_gqa3": (
        transformers.Qwen2Config,
        dict(vocab_size=139, hidden_size=48, intermediate_size=60, num_hidden_layers=3,
             num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=256,
             tie_word_embeddings=False, use_sliding_window=False, sliding_window=64,
             max_window_layers=2, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
        torch.bfloat16, "1GB"),
    "qwen2_tied": (
        transformers.Qwen2Config,
        dict(vocab_size=101, hidden_size=32, intermediate_size=84, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=128,
             tie_word_embeddings=True),
        torch.float32, "1GB"),
    "qwen3_gqa5": (
        transformers.Qwen3Config,
        dict(vocab_size=131, hidden_size=40, intermediate_size=104, num_hidden_layers=3,
             num_attention_heads=5, num_key_value_heads=1, head_dim=16,
             max_position_embeddings=256, tie_word_embeddings=False,
             rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
        torch.bfloat16, "60KB"),
    "qwen3_tied": (
        transformers.Qwen3Config,
        dict(vocab_size=113, hidden_size=64, intermediate_size=72, num_hidden_layers=3,
             num_attention_heads=6, num_key_value_heads=3, head_dim=20,
             max_position_embeddings=256, tie_word_embeddings=True),
        torch.float16, "1GB"),
}


def make_model(config_class, fields, seed):
    """A random model whose every norm weight and bias differs from its neutral value."""
    config = config_class(initializer_range=0.3, **fields)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.25 * torch.randn_like(parameter))
            elif name.endswith("bias"):
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return model.eval()


@torch.no_grad()
def answer(model, prompt):
    """(logits of all prompt positions, greedy ids, smallest lead of a greedy id)."""
    ids = list(prompt)
    margins = []
    for step in range(GREEDY_TOKENS):
        logits = model(torch.tensor([ids])).logits[0]
        if step == 0:
            prompt_logits = logits
        best = torch.topk(logits[-1], 2)
        margins.append((best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return prompt_logits, ids[len(prompt):], min(margins)


def write_case(name, folder):
    config_class, fields, dtype, shard = CASES[name]
    for seed in range(100):
        # Saved first and read back, so that the goldens belong to the rounded weights.
        shutil.rmtree(folder, ignore_errors=True)
        make_model(config_class, fields, seed).to(dtype).save_pretrained(folder, max_shard_size=shard)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        generator = torch.Generator().manual_seed(seed)
        golden = {}
        for i, length in enumerate(PROMPT_LENGTHS):
            prompt = torch.randint(fields["vocab_size"], (length,), generator=generator)
            logits, greedy, margin = answer(model, prompt.tolist())
            if margin < MIN_MARGIN or logits.std() < 1:
                break
            golden[f"prompt.{i}"] = prompt.to(torch.int32)
            golden[f"logits.{i}"] = logits.to(torch.float32).contiguous()
            golden[f"greedy.{i}"] = torch.tensor(greedy, dtype=torch.int32)
        else:
            save_file(golden, folder / "golden.safetensors")
            std = torch.cat([golden[f"logits.{i}"].flatten() for i in range(len(PROMPT_LENGTHS))]).std()
            size = sum(file.stat().st_size for file in folder.iterdir())
            print(f"{name}: seed {seed}, logits deviation {std:.2f}, {size} bytes")
            return
    raise SystemExit(f"{name}: no seed gives clear greedy ids")


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
