#include "weights/gguf_architecture.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr std::array kModelNames = {
    NamePair{"token_embd", "model.embed_tokens"},
    NamePair{"output_norm", "model.norm"},
    NamePair{"output", "lm_head"},
};
constexpr std::array kLayerNames = {
    NamePair{"attn_norm", "input_layernorm"},
    NamePair{"attn_q", "self_attn.q_proj"},
    NamePair{"attn_k", "self_attn.k_proj"},
    NamePair{"attn_v", "self_attn.v_proj"},
    NamePair{"attn_qkv", "self_attn.qkv_proj"},
    NamePair{"attn_output", "self_attn.o_proj"},
    NamePair{"attn_q_norm", "self_attn.q_norm"},
    NamePair{"attn_k_norm", "self_attn.k_norm"},
    NamePair{"ffn_norm", "post_attention_layernorm"},
    NamePair{"ffn_gate", "mlp.gate_proj"},
    NamePair{"ffn_up", "mlp.up_proj"},
    NamePair{"ffn_down", "mlp.down_proj"},
};
constexpr std::array kGemmaNames = {
    NamePair{"post_attention_norm", "post_attention_layernorm"},
    NamePair{"ffn_norm", "pre_feedforward_layernorm"},
    NamePair{"post_ffw_norm", "post_feedforward_layernorm"},
};
constexpr std::array kPhi3Names = {NamePair{"ffn_up", "mlp.gate_up_proj"}};
constexpr std::array kGlm4Names = {
    NamePair{"post_attention_norm", "post_self_attn_layernorm"},
    NamePair{"post_ffw_norm", "post_mlp_layernorm"},
    NamePair{"ffn_up", "mlp.gate_up_proj"},
};
constexpr std::array kQwenMoeNames = {
    NamePair{"ffn_gate_inp", "mlp.gate"},
    NamePair{"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
    NamePair{"ffn_up_exps", "mlp.experts.{}.up_proj"},
    NamePair{"ffn_down_exps", "mlp.experts.{}.down_proj"},
    NamePair{"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
    NamePair{"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
    NamePair{"ffn_up_shexp", "mlp.shared_expert.up_proj"},
    NamePair{"ffn_down_shexp", "mlp.shared_expert.down_proj"},
};
constexpr std::array kMixtralNames = {
    NamePair{"ffn_gate_inp", "block_sparse_moe.gate"},
    NamePair{"ffn_gate_exps", "block_sparse_moe.experts.{}.w1"},
    NamePair{"ffn_up_exps", "block_sparse_moe.experts.{}.w3"},
    NamePair{"ffn_down_exps", "block_sparse_moe.experts.{}.w2"},
};

constexpr std::array kDeepseekNames = {
    NamePair{"attn_q_a", "self_attn.q_a_proj"},
    NamePair{"attn_q_a_norm", "self_attn.q_a_layernorm"},
    NamePair{"attn_q_b", "self_attn.q_b_proj"},
    NamePair{"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
    NamePair{"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
    NamePair{"attn_kv_b", "self_attn.kv_b_proj"},
    NamePair{"attn_k_b", "self_attn.kv_b_proj"},  // with attn_v_b: see GgufModel::Tensors
    NamePair{"ffn_gate_inp", "mlp.gate"},
    NamePair{"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"},
    NamePair{"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
    NamePair{"ffn_up_exps", "mlp.experts.{}.up_proj"},
    NamePair{"ffn_down_exps", "mlp.experts.{}.down_proj"},
    NamePair{"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
    NamePair{"ffn_up_shexp", "mlp.shared_experts.up_proj"},
    NamePair{"ffn_down_shexp", "mlp.shared_experts.down_proj"},
};

constexpr std::array kGptOssNames = {
    NamePair{"post_attention_norm", "post_attention_layernorm"},
    NamePair{"attn_sinks.weight", "self_attn.sinks"},
    NamePair{"ffn_gate_inp", "mlp.router"},
    NamePair{"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
    NamePair{"ffn_up_exps", "mlp.experts.{}.up_proj"},
    NamePair{"ffn_down_exps", "mlp.experts.{}.down_proj"},
};

constexpr std::array kArchitectures = {
    GgufArchitecture{
        .name = "llama", .hugging_face = "LlamaForCausalLM", .has_interleaved_heads = true},
    GgufArchitecture{.name = "llama",
                     .hugging_face = "MixtralForCausalLM",
                     .has_experts = true,
                     .layer_names = kMixtralNames,
                     .has_interleaved_heads = true},
    GgufArchitecture{.name = "qwen2", .hugging_face = "Qwen2ForCausalLM"},
    GgufArchitecture{.name = "qwen2moe",
                     .hugging_face = "Qwen2MoeForCausalLM",
                     .has_experts = true,
                     .layer_names = kQwenMoeNames},
    GgufArchitecture{.name = "qwen3", .hugging_face = "Qwen3ForCausalLM"},
    GgufArchitecture{.name = "qwen3moe",
                     .hugging_face = "Qwen3MoeForCausalLM",
                     .has_experts = true,
                     .layer_names = kQwenMoeNames,
                     .renormalizes_experts = true},
    GgufArchitecture{.name = "gemma2",
                     .hugging_face = "Gemma2ForCausalLM",
                     .layer_names = kGemmaNames,
                     .norm_offset = 1,
                     .has_window = true,
                     .large_layers = 46},
    GgufArchitecture{.name = "gemma3",
                     .hugging_face = "Gemma3ForCausalLM",
                     .layer_names = kGemmaNames,
                     .norm_offset = 1,
                     .has_window = true,
                     .large_layers = 62},
    GgufArchitecture{.name = "phi3",
                     .hugging_face = "Phi3ForCausalLM",
                     .layer_names = kPhi3Names,
                     .has_window = true,
                     .has_partial_rope = true},
    GgufArchitecture{.name = "glm4",
                     .hugging_face = "Glm4ForCausalLM",
                     .layer_names = kGlm4Names,
                     .has_partial_rope = true,
                     .bias = "attn_q"},
    GgufArchitecture{.name = "deepseek2",
                     .hugging_face = "DeepseekV2ForCausalLM",
                     .has_experts = true,
                     .has_latent_attention = true,
                     .layer_names = kDeepseekNames},
    GgufArchitecture{.name = "deepseek2",
                     .hugging_face = "DeepseekV3ForCausalLM",
                     .has_experts = true,
                     .has_sigmoid_router = true,
                     .has_latent_attention = true,
                     .layer_names = kDeepseekNames},
    GgufArchitecture{.name = "gpt-oss",
                     .hugging_face = "GptOssForCausalLM",
                     .has_experts = true,
                     .layer_names = kGptOssNames,
                     .has_window = true,
                     .has_exact_yarn = true},
};

/// llama.cpp's number of the sigmoid, in expert_gating_func.
constexpr int64_t kSigmoid = 2;

std::optional<std::string_view> Translate(std::span<const NamePair> names, std::string_view name) {
  const auto found = std::find_if(names.begin(), names.end(),
                                  [&](const auto& pair) { return pair.first == name; });
  return found == names.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace

Result<GgufArchitecture> FindGgufArchitecture(const Gguf& gguf) {
  GALE_ASSIGN_OR_RETURN(const std::string_view name, gguf.String("general.architecture"));
  const std::string experts = fmt::format("{}.expert_count", name);
  int64_t num_experts = 0;
  if (gguf.Has(experts)) {
    GALE_ASSIGN_OR_RETURN(num_experts, gguf.Int(experts, 0));
  }
  const std::string gating = fmt::format("{}.expert_gating_func", name);
  int64_t score = 0;
  if (gguf.Has(gating)) {
    GALE_ASSIGN_OR_RETURN(score, gguf.Int(gating, 0));
  }
  std::vector<std::string_view> known;
  for (const GgufArchitecture& architecture : kArchitectures) {
    if (architecture.name == name && architecture.has_experts == (num_experts > 0) &&
        architecture.has_sigmoid_router == (score == kSigmoid)) {
      return architecture;
    }
    if (known.empty() || known.back() != architecture.name) known.push_back(architecture.name);
  }
  if (std::find(known.begin(), known.end(), name) != known.end()) {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{}: a {} with {} = {} and {} = {} is not supported",
                                 gguf.source(), name, experts, num_experts, gating, score));
  }
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{}: general.architecture: expected one of {}, got \"{}\" (not "
                               "supported)",
                               gguf.source(), fmt::join(known, ", "), name));
}

std::string HuggingFaceName(const GgufArchitecture& architecture, std::string_view name) {
  const size_t last_dot = name.rfind('.');
  if (last_dot == std::string_view::npos) return std::string(name);
  const std::string_view kind = name.substr(last_dot);  // ".weight" or ".bias"
  std::string_view layer = name.substr(0, last_dot);
  if (const auto translated = Translate(kModelNames, layer)) {
    return fmt::format("{}{}", *translated, kind);
  }
  constexpr std::string_view kBlock = "blk.";
  if (!layer.starts_with(kBlock)) return std::string(name);
  layer.remove_prefix(kBlock.size());
  const size_t dot = layer.find('.');
  if (dot == std::string_view::npos) return std::string(name);
  const std::string number(layer.substr(0, dot));
  if (const auto whole =
          Translate(architecture.layer_names, name.substr(kBlock.size() + dot + 1))) {
    return fmt::format("model.layers.{}.{}", number, *whole);
  }
  auto translated = Translate(architecture.layer_names, layer.substr(dot + 1));
  if (!translated) translated = Translate(kLayerNames, layer.substr(dot + 1));
  if (!translated) return std::string(name);
  return fmt::format("model.layers.{}.{}{}", number, *translated, kind);
}

const GgufArchitecture* FindPlainArchitecture(std::string_view hugging_face) {
  for (const GgufArchitecture& architecture : kArchitectures) {
    const bool is_plain = architecture.layer_names.empty() && !architecture.has_window;
    if (architecture.hugging_face == hugging_face && is_plain) return &architecture;
  }
  return nullptr;
}

std::string GgufName(std::string_view name) {
  constexpr std::string_view kLayers = "model.layers.";
  const size_t last_dot = name.rfind('.');
  if (last_dot == std::string_view::npos) return {};
  std::string_view part = name.substr(0, last_dot);
  std::string prefix;
  if (part.starts_with(kLayers)) {
    const size_t dot = part.find('.', kLayers.size());
    if (dot == std::string_view::npos) return {};
    prefix = fmt::format("blk.{}.", part.substr(kLayers.size(), dot - kLayers.size()));
    part.remove_prefix(dot + 1);
  }
  const std::span<const NamePair> names =
      prefix.empty() ? std::span<const NamePair>(kModelNames) : kLayerNames;
  const auto found = std::ranges::find(names, part, &NamePair::second);
  if (found == names.end()) return {};
  return fmt::format("{}{}{}", prefix, found->first, name.substr(last_dot));
}

}  // namespace gale
