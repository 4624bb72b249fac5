#!/usr/bin/env python3
"""Makes the tiny random checkpoints of tests/data/models and transformers' answers to them.

    python3 -m venv /tmp/goldens
    /tmp/goldens/bin/pip install torch transformers safetensors numpy \
        --extra-index-url https://download.pytorch.org/whl/cpu
    /tmp/goldens/bin/python tools/goldens/model_goldens.py

Only needed when a case is added: the tests read the committed files and no Python. Each folder gets
a checkpoint as transformers saves it and golden.safetensors: for prompt i the ids `prompt.i`, the
f32 logits of all its positions `logits.i`, and the ids that greedy decoding adds, `greedy.i`. A rope
that depends on how long the context is takes that of the model for these, always; of a dynamic one
there are also the logits that transformers gives by itself, which goes by the prompt's own length:
`own.i`.

The models are small but not tame: weights of deviation 0.3 and perturbed norms give logits of
deviation over 1, and softmaxes far from uniform, so that a wrong angle or mask shows. Sizes are odd
on purpose (head_dim * heads is not hidden, 5 query heads on one key head, head_dim 12). Windows
are shorter than the longest prompt, soft caps lower than many scores.
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
# What a mistake must change to be noticed by mutation_test, relative to the largest logit.
MIN_EFFECT = 0.1

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 2.0,
    "beta_fast": 2.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 64,
}

DYNAMIC_ROPE = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}

LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.4, 1.7, 2.0],
    "long_factor": [1.5, 2.0, 3.0, 4.5, 6.0, 8.0],
    "original_max_position_embeddings": 32,
}

GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
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
    "llama_dynamic": (
        transformers.LlamaConfig,
        dict(vocab_size=61, hidden_size=24, intermediate_size=32, num_hidden_layers=3,
             num_attention_heads=3, num_key_value_heads=1, head_dim=8, max_position_embeddings=16,
             rope_parameters=DYNAMIC_ROPE, tie_word_embeddings=False),
        torch.bfloat16, "1GB"),
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
    "mistral_window": (
        transformers.MistralConfig,
        dict(vocab_size=89, hidden_size=36, intermediate_size=44, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, head_dim=14, sliding_window=11,
             max_position_embeddings=128, tie_word_embeddings=False, rope_parameters=YARN_ROPE),
        torch.bfloat16, "1GB"),
    "gemma2": (
        transformers.Gemma2Config,
        dict(vocab_size=83, hidden_size=36, intermediate_size=44, num_hidden_layers=4,
             num_attention_heads=4, num_key_value_heads=2, head_dim=12, sliding_window=9,
             query_pre_attn_scalar=4, attn_logit_softcapping=2.0, final_logit_softcapping=4.0,
             max_position_embeddings=128),
        torch.bfloat16, "1GB"),
    "gemma3": (
        transformers.Gemma3TextConfig,
        dict(vocab_size=83, hidden_size=36, intermediate_size=44, num_hidden_layers=4,
             num_attention_heads=3, num_key_value_heads=1, head_dim=16, sliding_window=7,
             sliding_window_pattern=2, query_pre_attn_scalar=6, max_position_embeddings=128,
             rope_parameters=GEMMA3_ROPE),
        torch.bfloat16, "1GB"),
    "phi3_longrope": (
        transformers.Phi3Config,
        dict(vocab_size=89, hidden_size=48, intermediate_size=40, num_hidden_layers=3,
             num_attention_heads=3, num_key_value_heads=1, original_max_position_embeddings=32,
             max_position_embeddings=128, partial_rotary_factor=0.75, rope_parameters=LONG_ROPE,
             pad_token_id=0, eos_token_id=2),
        torch.bfloat16, "1GB"),
    "glm": (
        transformers.GlmConfig,
        dict(vocab_size=83, hidden_size=36, intermediate_size=44, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, head_dim=12, partial_rotary_factor=0.5,
             max_position_embeddings=128, pad_token_id=0, eos_token_id=2),
        torch.bfloat16, "1GB"),
    "glm4": (
        transformers.Glm4Config,
        dict(vocab_size=83, hidden_size=36, intermediate_size=44, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=1, head_dim=16, partial_rotary_factor=0.5,
             max_position_embeddings=128, pad_token_id=0, eos_token_id=2),
        torch.bfloat16, "1GB"),
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
                neutral = 0 if config.model_type.startswith("gemma") else 1
                parameter.copy_(neutral + 0.25 * torch.randn_like(parameter))
            elif name.endswith("bias"):
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return model.eval()


def pin_rope(model):
    """Lets a rope that depends on the length of the context take that of the model, always."""
    rotary = model.model.rotary_emb
    if getattr(rotary, "rope_type", None) in ("dynamic", "longrope"):
        make = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[rotary.rope_type]
        length = model.config.max_position_embeddings
        if rotary.rope_type == "dynamic":  # made for so many times what the file counts
            length = int(length * model.config.rope_parameters["factor"])
        inv_freq, _ = make(model.config, "cpu", seq_len=length)
        rotary.inv_freq.copy_(inv_freq)
        rotary.rope_type = "default"


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


@torch.no_grad()
def logits_at_own_length(folder, prompt):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    return model(torch.tensor([prompt])).logits[0].contiguous()


@torch.no_grad()
def sees_itself(model, prompt, logits):
    """Whether the last position would show it if it did not attend to itself."""
    if getattr(model.config, "sliding_window", None):
        return True  # such models take no mask
    length = len(prompt)
    mask = torch.full((length, length), float("-inf")).triu(1)
    mask[-1, -1] = float("-inf")
    blind = model(torch.tensor([prompt]), attention_mask=mask[None, None]).logits[0, -1]
    return (blind - logits[-1]).abs().max() > MIN_EFFECT * logits[-1].abs().max()


def write_case(name, folder):
    config_class, fields, dtype, shard = CASES[name]
    for seed in range(100):
        # Saved first and read back, so that the goldens belong to the rounded weights.
        shutil.rmtree(folder, ignore_errors=True)
        make_model(config_class, fields, seed).to(dtype).save_pretrained(folder, max_shard_size=shard)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        pin_rope(model)
        generator = torch.Generator().manual_seed(seed)
        golden = {}
        for i, length in enumerate(PROMPT_LENGTHS):
            prompt = torch.randint(fields["vocab_size"], (length,), generator=generator)
            logits, greedy, margin = answer(model, prompt.tolist())
            if margin < MIN_MARGIN or logits.std() < 1:
                break
            if length > 1 and not sees_itself(model, prompt.tolist(), logits):
                break
            golden[f"prompt.{i}"] = prompt.to(torch.int32)
            golden[f"logits.{i}"] = logits.to(torch.float32).contiguous()
            golden[f"greedy.{i}"] = torch.tensor(greedy, dtype=torch.int32)
            if fields.get("rope_parameters", {}).get("rope_type") == "dynamic":
                golden[f"own.{i}"] = logits_at_own_length(folder, prompt.tolist())
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
