#!/usr/bin/env python3
"""Writes what published models look like to tests/data/published: config.json's facts, and the names
and shapes of all tensors.

    /tmp/goldens/bin/python tools/goldens/published_models.py      (see model_goldens.py)

The facts below are those of the models' config.json on the Hugging Face hub that concern their
shapes and arithmetic. transformers builds each model of them without memory (on the meta device) and
says what save_pretrained would write; the number of parameters must be the published one. Runs of
numbers in names are written as {first-last}: model.layers.{0-31}.mlp.up_proj.weight.
"""

import argparse
import json
import pathlib
import re

import torch
import transformers
from transformers.core_model_loading import revert_weight_conversion

LLAMA3_ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192, "rope_type": "llama3"}
PHI4_MINI_ROPE = {
    "type": "longrope",
    "short_factor": [1.0] * 48,
    "long_factor": [
        1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649,
        2.446418898, 2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845,
        5.351743533, 5.984965424, 6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158,
        11.70738129, 13.09260651, 14.64173252, 16.37415215, 18.31155283, 20.47818807, 22.90118105,
        25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71,
        32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77]}


def llama(vocab, hidden, intermediate, layers, heads, kv_heads, context, theta, **more):
    return dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=vocab,
                hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv_heads,
                max_position_embeddings=context, rope_theta=theta, rms_norm_eps=1e-5,
                hidden_act="silu", tie_word_embeddings=False) | more


def mistral(vocab, hidden, layers, context, theta, **more):
    return llama(vocab, hidden, 14336, layers, 32, 8, context, theta,
                 architectures=["MistralForCausalLM"], model_type="mistral") | more


def qwen2(hidden, intermediate, layers, heads, kv_heads, vocab, tied, **more):
    return llama(vocab, hidden, intermediate, layers, heads, kv_heads, 32768, 1000000.0,
                 architectures=["Qwen2ForCausalLM"], model_type="qwen2", rms_norm_eps=1e-6,
                 use_sliding_window=False, sliding_window=32768, tie_word_embeddings=tied) | more


def qwen3(hidden, intermediate, layers, heads, kv_heads, tied, **more):
    return llama(151936, hidden, intermediate, layers, heads, kv_heads, 40960, 1000000,
                 architectures=["Qwen3ForCausalLM"], model_type="qwen3", rms_norm_eps=1e-6,
                 head_dim=128, attention_bias=False, use_sliding_window=False, sliding_window=None,
                 tie_word_embeddings=tied) | more


def qwen3_moe(hidden, intermediate, expert, layers, heads, **more):
    return qwen3(hidden, intermediate, layers, heads, 4, False,
                 architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", num_experts=128,
                 num_experts_per_tok=8, moe_intermediate_size=expert, norm_topk_prob=True,
                 decoder_sparse_step=1, mlp_only_layers=[], rope_theta=1000000.0) | more


GPT_OSS_ROPE = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "truncate": False, "original_max_position_embeddings": 4096}


def gpt_oss(layers, experts):
    return llama(201088, 2880, 2880, layers, 64, 8, 131072, 150000,
                 architectures=["GptOssForCausalLM"], model_type="gpt_oss", head_dim=64,
                 num_local_experts=experts, num_experts_per_tok=4, attention_bias=True,
                 sliding_window=128, swiglu_limit=7.0, rope_scaling=GPT_OSS_ROPE,
                 layer_types=["sliding_attention", "full_attention"] * (layers // 2))


def deepseek(architecture, hidden, intermediate, expert, layers, heads, dense_layers, **more):
    rope = {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 0.707,
            "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096}
    return llama(102400, hidden, intermediate, layers, heads, heads, 163840, 10000,
                 architectures=[architecture], model_type="deepseek_v2",
                 moe_intermediate_size=expert, first_k_dense_replace=dense_layers,
                 moe_layer_freq=1, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
                 v_head_dim=128, attention_bias=False, rms_norm_eps=1e-6,
                 rope_scaling=rope) | more


def gemma2(hidden, intermediate, layers, heads, kv_heads, head_dim, scalar):
    return dict(architectures=["Gemma2ForCausalLM"], model_type="gemma2", vocab_size=256000,
                hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
                query_pre_attn_scalar=scalar, attn_logit_softcapping=50.0,
                final_logit_softcapping=30.0, sliding_window=4096, max_position_embeddings=8192,
                rope_theta=10000.0, rms_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh",
                hidden_activation="gelu_pytorch_tanh", attention_bias=False)


def phi3(vocab, hidden, intermediate, layers, heads, kv_heads, context, **more):
    return llama(vocab, hidden, intermediate, layers, heads, kv_heads, context, 10000.0,
                 architectures=["Phi3ForCausalLM"], model_type="phi3", pad_token_id=0,
                 attention_bias=False) | more


def glm(architecture, model_type, hidden, intermediate, layers, heads, eps, context, bias):
    return llama(151552, hidden, intermediate, layers, heads, 2, context, 10000.0,
                 architectures=[architecture], model_type=model_type, head_dim=128,
                 rms_norm_eps=eps, partial_rotary_factor=0.5, attention_bias=bias)


# name on the hub: (config.json, parameters)
MODELS = {
    "meta-llama/Llama-2-7b-hf":
        (llama(32000, 4096, 11008, 32, 32, 32, 4096, 10000.0), 6_738_415_616),
    "meta-llama/Meta-Llama-3-8B":
        (llama(128256, 4096, 14336, 32, 32, 8, 8192, 500000.0), 8_030_261_248),
    "meta-llama/Llama-3.1-8B-Instruct":
        (llama(128256, 4096, 14336, 32, 32, 8, 131072, 500000.0, rope_scaling=LLAMA3_ROPE),
         8_030_261_248),
    "meta-llama/Llama-3.2-1B-Instruct":
        (llama(128256, 2048, 8192, 16, 32, 8, 131072, 500000.0, head_dim=64,
               tie_word_embeddings=True, rope_scaling=LLAMA3_ROPE | {"factor": 32.0}),
         1_235_814_400),
    "meta-llama/Llama-3.3-70B-Instruct":
        (llama(128256, 8192, 28672, 80, 64, 8, 131072, 500000.0, rope_scaling=LLAMA3_ROPE),
         70_553_706_496),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0":
        (llama(32000, 2048, 5632, 22, 32, 4, 2048, 10000.0), 1_100_048_384),
    "mistralai/Mistral-7B-v0.1":
        (mistral(32000, 4096, 32, 32768, 10000.0, sliding_window=4096), 7_241_732_096),
    "mistralai/Mistral-7B-Instruct-v0.3":
        (mistral(32768, 4096, 32, 32768, 1000000.0, sliding_window=None), 7_248_023_552),
    "mistralai/Mistral-Nemo-Instruct-2407":
        (mistral(131072, 5120, 40, 1024000, 1000000.0, head_dim=128, sliding_window=None),
         12_247_782_400),
    "Qwen/Qwen2.5-0.5B-Instruct":
        (qwen2(896, 4864, 24, 14, 2, 151936, True, max_window_layers=21), 494_032_768),
    "Qwen/Qwen2.5-7B-Instruct":
        (qwen2(3584, 18944, 28, 28, 4, 152064, False, max_window_layers=28, sliding_window=131072),
         7_615_616_512),
    "Qwen/Qwen2.5-72B-Instruct":
        (qwen2(8192, 29568, 80, 64, 8, 152064, False, max_window_layers=70, sliding_window=131072),
         72_706_203_648),
    "Qwen/Qwen3-0.6B": (qwen3(1024, 3072, 28, 16, 8, True), 596_049_920),
    "Qwen/Qwen3-8B": (qwen3(4096, 12288, 36, 32, 8, False), 8_190_735_360),
    "Qwen/Qwen3-32B": (qwen3(5120, 25600, 64, 64, 8, False), 32_762_123_264),
    "Qwen/Qwen3-30B-A3B": (qwen3_moe(2048, 6144, 768, 48, 32), 30_532_122_624),
    "Qwen/Qwen3-235B-A22B": (qwen3_moe(4096, 12288, 1536, 94, 64), 235_093_634_560),
    "mistralai/Mixtral-8x7B-Instruct-v0.1":
        (mistral(32000, 4096, 32, 32768, 1000000.0, architectures=["MixtralForCausalLM"],
                 model_type="mixtral", num_local_experts=8, num_experts_per_tok=2,
                 sliding_window=None), 46_702_792_704),
    "Qwen/Qwen1.5-MoE-A2.7B":
        (qwen2(2048, 5632, 24, 16, 16, 151936, False, architectures=["Qwen2MoeForCausalLM"],
               model_type="qwen2_moe", max_position_embeddings=8192, max_window_layers=21,
               moe_intermediate_size=1408, shared_expert_intermediate_size=5632,
               num_experts_per_tok=4, num_experts=60, decoder_sparse_step=1,
               norm_topk_prob=False), 14_315_784_192),
    "unsloth/gpt-oss-20b-BF16": (gpt_oss(24, 32), 20_914_757_184),
    "deepseek-ai/DeepSeek-V2-Lite":
        (deepseek("DeepseekV2ForCausalLM", 2048, 10944, 1408, 27, 16, 1, n_routed_experts=64,
                  n_shared_experts=2, num_experts_per_tok=6, topk_method="greedy", n_group=1,
                  topk_group=1, norm_topk_prob=False, scoring_func="softmax",
                  routed_scaling_factor=1.0, q_lora_rank=None), 15_706_484_224),
    "deepseek-ai/DeepSeek-V3":
        (deepseek("DeepseekV3ForCausalLM", 7168, 18432, 2048, 61, 128, 3, model_type="deepseek_v3",
                  vocab_size=129280, n_routed_experts=256, n_shared_experts=1,
                  num_experts_per_tok=8, topk_method="noaux_tc", n_group=8, topk_group=4,
                  norm_topk_prob=True, scoring_func="sigmoid", routed_scaling_factor=2.5,
                  q_lora_rank=1536, num_nextn_predict_layers=1,
                  rope_scaling={"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1,
                                "mscale": 1.0, "mscale_all_dim": 1.0,
                                "original_max_position_embeddings": 4096}), 671_026_419_200),
    "google/gemma-2-2b-it": (gemma2(2304, 9216, 26, 8, 4, 256, 256), 2_614_341_888),
    "google/gemma-2-27b-it": (gemma2(4608, 36864, 46, 32, 16, 128, 144), 27_227_128_320),
    "google/gemma-3-1b-it":
        (dict(architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", vocab_size=262144,
              hidden_size=1152, intermediate_size=6912, num_hidden_layers=26, num_attention_heads=4,
              num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256, sliding_window=512,
              sliding_window_pattern=6, rope_theta=1000000, rope_local_base_freq=10000,
              rope_scaling=None, max_position_embeddings=32768, rms_norm_eps=1e-6,
              hidden_activation="gelu_pytorch_tanh", attn_logit_softcapping=None,
              final_logit_softcapping=None, attention_bias=False), 999_885_952),
    "google/gemma-3-4b-it":
        (dict(architectures=["Gemma3ForConditionalGeneration"], model_type="gemma3",
              mm_tokens_per_image=256, image_token_index=262144,
              text_config=dict(model_type="gemma3_text", hidden_size=2560, intermediate_size=10240,
                               num_hidden_layers=34, sliding_window=1024,
                               rope_scaling={"factor": 8.0, "rope_type": "linear"}),
              vision_config=dict(model_type="siglip_vision_model", hidden_size=1152,
                                 image_size=896, intermediate_size=4304, num_attention_heads=16,
                                 num_hidden_layers=27, patch_size=14, vision_use_head=False)),
         4_300_079_472),
    "microsoft/Phi-3-mini-4k-instruct":
        (phi3(32064, 3072, 8192, 32, 32, 32, 4096, original_max_position_embeddings=4096,
              sliding_window=2047, rope_scaling=None), 3_821_079_552),
    "microsoft/phi-4":
        (phi3(100352, 5120, 17920, 40, 40, 10, 16384, original_max_position_embeddings=16384,
              rope_theta=250000, sliding_window=None, rope_scaling=None), 14_659_507_200),
    "microsoft/Phi-4-mini-instruct":
        (phi3(200064, 3072, 8192, 32, 24, 8, 131072, original_max_position_embeddings=4096,
              partial_rotary_factor=0.75, sliding_window=262144, rope_scaling=PHI4_MINI_ROPE,
              tie_word_embeddings=True), 3_836_021_760),
    "zai-org/glm-4-9b-chat-hf":
        (glm("GlmForCausalLM", "glm", 4096, 13696, 40, 32, 1.5625e-07, 131072, True),
         9_399_951_360),
    "zai-org/GLM-4-32B-0414":
        (glm("Glm4ForCausalLM", "glm4", 6144, 23040, 61, 48, 1e-05, 32768, False), 32_566_081_536),
}


def tensor_shapes(facts):
    """{name: shape} of what save_pretrained writes."""
    facts = dict(facts)
    architecture = getattr(transformers, facts.pop("architectures")[0])
    config = transformers.AutoConfig.for_model(facts.pop("model_type"), **facts)
    with torch.device("meta"):
        model = architecture(config)
    state = dict(model.state_dict())
    tied = set(model.all_tied_weights_keys)  # saved under the other name
    state = revert_weight_conversion(model, {k: v for k, v in state.items() if k not in tied})
    return {name: list(tensor.shape) for name, tensor in state.items()}


def compress(shapes):
    """[[pattern, shape]]: names that differ in one or two numbers only, all combinations there."""
    groups = {}
    for name, shape in shapes.items():
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "{}", name)
        numbers = tuple(int(number) for number in re.findall(r"(?<=\.)(\d+)(?=\.)", name))
        groups.setdefault((pattern, tuple(shape)), []).append(numbers)
    compressed = []
    for (pattern, shape), numbers in groups.items():
        ranges = [(min(column), max(column)) for column in zip(*numbers)]
        count = 1
        for first, last in ranges:
            count *= last - first + 1
        if count == len(numbers):
            named = pattern.format(*("{" + f"{first}-{last}" + "}" for first, last in ranges))
            compressed.append([named, list(shape)])
        else:
            compressed += [[pattern.format(*each), list(shape)] for each in numbers]
    return compressed


def write_model(name, facts, published, folder):
    shapes = tensor_shapes(facts)
    total = sum(torch.Size(shape).numel() for shape in shapes.values())
    if total != published:
        raise SystemExit(f"{name}: {total} parameters, published are {published}")
    text = json.dumps({"model": name, "parameters": total, "config": facts})[:-1]
    lines = ",\n ".join(json.dumps(entry) for entry in compress(shapes))
    path = folder / (name.split("/")[1].lower() + ".json")
    path.write_text(f'{text}, "tensors": [\n {lines}]}}\n')
    print(f"{name}: {len(shapes)} tensors, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/data/published")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, (facts, published) in MODELS.items():
        write_model(name, facts, published, arguments.out)


if __name__ == "__main__":
    main()
