#include "weights/presets.h"

#include <algorithm>
#include <array>

namespace gale {
namespace {

struct Preset {
  std::string_view name;
  std::string_view config;
};

// Copied from the config.json of the models on the Hugging Face hub, sorted by name.
constexpr std::array kPresets = {
    Preset{"deepseek-v2-lite", R"({
      "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2",
      "torch_dtype": "bfloat16", "vocab_size": 102400, "hidden_size": 2048,
      "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64,
      "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1,
      "moe_layer_freq": 1, "topk_method": "greedy", "n_group": 1, "topk_group": 1,
      "scoring_func": "softmax", "norm_topk_prob": false, "routed_scaling_factor": 1.0,
      "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
      "kv_lora_rank": 512, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
      "v_head_dim": 128, "max_position_embeddings": 163840, "rms_norm_eps": 1e-06,
      "rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32,
      "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707,
      "original_max_position_embeddings": 4096}, "attention_bias": false, "hidden_act": "silu",
      "tie_word_embeddings": false, "eos_token_id": 100001})"},
    Preset{"gpt-oss-20b", R"({
      "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "torch_dtype": "bfloat16",
      "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
      "num_local_experts": 32, "num_experts_per_tok": 4, "num_hidden_layers": 24,
      "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
      "max_position_embeddings": 131072, "sliding_window": 128, "swiglu_limit": 7.0,
      "rms_norm_eps": 1e-05, "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn",
      "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
      "original_max_position_embeddings": 4096}, "attention_bias": true, "hidden_act": "silu",
      "tie_word_embeddings": false, "eos_token_id": 200002})"},
    Preset{"llama3-70b", R"({
      "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
      "vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672,
      "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
      "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
      "hidden_act": "silu", "tie_word_embeddings": false, "eos_token_id": 128001})"},
    Preset{"llama3-8b", R"({
      "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
      "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
      "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
      "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
      "hidden_act": "silu", "tie_word_embeddings": false, "eos_token_id": 128001})"},
    Preset{"mixtral-8x7b", R"({
      "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "torch_dtype": "bfloat16",
      "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
      "num_local_experts": 8, "num_experts_per_tok": 2, "num_hidden_layers": 32,
      "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768,
      "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "hidden_act": "silu",
      "tie_word_embeddings": false, "eos_token_id": 2})"},
    Preset{"qwen2.5-1.5b", R"({
      "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16",
      "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960,
      "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
      "max_position_embeddings": 131072, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
      "hidden_act": "silu", "tie_word_embeddings": true, "eos_token_id": 151643})"},
    Preset{"qwen3-0.6b", R"({
      "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16",
      "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
      "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
      "head_dim": 128, "max_position_embeddings": 40960, "rms_norm_eps": 1e-06,
      "rope_theta": 1000000, "hidden_act": "silu", "tie_word_embeddings": true,
      "eos_token_id": 151645})"},
    Preset{"qwen3-1.7b", R"({
      "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16",
      "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
      "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
      "head_dim": 128, "max_position_embeddings": 40960, "rms_norm_eps": 1e-06,
      "rope_theta": 1000000, "hidden_act": "silu", "tie_word_embeddings": true,
      "eos_token_id": 151645})"},
    Preset{"qwen3-30b-a3b", R"({
      "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "torch_dtype": "bfloat16",
      "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
      "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
      "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
      "norm_topk_prob": true, "head_dim": 128, "max_position_embeddings": 40960,
      "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "hidden_act": "silu",
      "tie_word_embeddings": false, "eos_token_id": 151645})"},
};

}  // namespace

std::string_view PresetConfig(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name == name) return preset.config;
  }
  return {};
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

}  // namespace gale
