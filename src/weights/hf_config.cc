#include "weights/hf_config.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.h"
#include "base/status_macros.h"
#include "weights/config_defaults.h"
#include "weights/generation_config.h"

namespace gale {
namespace {

// Bounds far over any published model; products of any three of them fit in 62 bits.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxLayers = 1 << 12;
constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxHeadDim = 1 << 12;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxPosition = 1 << 28;

tl::unexpected<Error> Unsupported(const JsonValue& value, std::string_view supported) {
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{} (not supported)", value.Wrong(supported).message));
}

Result<int> RequiredInt(const JsonObject& object, std::string_view key, int64_t max) {
  GALE_ASSIGN_OR_RETURN(const JsonValue value, object.Get(key));
  GALE_ASSIGN_OR_RETURN(const int64_t number, value.Int(1, max));
  return static_cast<int>(number);
}

Result<int> OptionalInt(const JsonObject& object, std::string_view key, int64_t max, int fallback) {
  return object.Find(key) ? RequiredInt(object, key, max) : Result<int>(fallback);
}

Result<double> OptionalNumber(const JsonObject& object, std::string_view key, double min,
                              double max, double fallback) {
  const auto value = object.Find(key);
  return value ? value->Number(min, max) : Result<double>(fallback);
}

Result<bool> OptionalBool(const JsonObject& object, std::string_view key) {
  const auto value = object.Find(key);
  return value ? value->Bool() : Result<bool>(false);
}

Result<std::string> ParseArchitecture(const JsonObject& root, const std::string& source,
                                      std::span<const std::string> known) {
  GALE_ASSIGN_OR_RETURN(const JsonValue value, root.Get("architectures"));
  GALE_ASSIGN_OR_RETURN(const auto items, value.Items());
  if (items.empty()) return tl::unexpected(value.Wrong("at least one name"));
  GALE_ASSIGN_OR_RETURN(const std::string_view name, items[0].String());
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{}: unknown architecture \"{}\"; known: {}", source, name,
                                 fmt::join(known, ", ")));
  }
  return std::string(name);
}

/// "dtype" since transformers 4.56, "torch_dtype" before.
Result<std::optional<DType>> ParseDType(const JsonObject& root) {
  auto value = root.Find("dtype");
  if (!value) value = root.Find("torch_dtype");
  if (!value) return std::optional<DType>();
  GALE_ASSIGN_OR_RETURN(const std::string_view name, value->String());
  if (name == "float32") return DType::kF32;
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBf16;
  return Unsupported(*value, "\"float32\", \"float16\" or \"bfloat16\"");
}

/// rope_parameters as transformers 5 writes them, rope_scaling as 4.x does; for models whose
/// layers with a window have their own, an object for each kind of layers.
struct RopeParams {
  std::optional<JsonObject> all;
  std::optional<JsonObject> sliding;
};

Result<RopeParams> FindRopeParams(const JsonObject& root) {
  RopeParams params;
  auto value = root.Find("rope_parameters");
  if (!value) value = root.Find("rope_scaling");
  if (!value) return params;
  GALE_ASSIGN_OR_RETURN(params.all, value->Object());
  const auto full = params.all->Find("full_attention");
  const auto sliding = params.all->Find("sliding_attention");
  if (sliding) {
    GALE_ASSIGN_OR_RETURN(params.sliding, sliding->Object());
  }
  if (full) {
    GALE_ASSIGN_OR_RETURN(params.all, full->Object());
  }
  return params;
}

Result<int> ParseRotaryDim(const JsonObject& root, const RopeParams& params, int head_dim) {
  auto factor = root.Find("partial_rotary_factor");
  if (params.all && params.all->Find("partial_rotary_factor")) {
    factor = params.all->Find("partial_rotary_factor");
  }
  if (!factor) return head_dim;
  GALE_ASSIGN_OR_RETURN(const double part, factor->Number(0, 1));
  const int rotary_dim = static_cast<int>(head_dim * part);
  if (rotary_dim >= 2 && rotary_dim % 2 == 0) return rotary_dim;
  return tl::unexpected(factor->Wrong(
      fmt::format("an even number of a head's {} elements (it is {})", head_dim, rotary_dim)));
}

/// YaRN and the dynamic scaling are made for more positions than the file counts.
int ScaledMaxPosition(const RopeConfig& rope, int max_position) {
  if (rope.type != RopeType::kYarn && rope.type != RopeType::kDynamic) return max_position;
  const double scaled = std::min(rope.factor * rope.original_max_position, double{kMaxPosition});
  return std::max(max_position, static_cast<int>(scaled));
}

Status ParseRope(const JsonObject& root, HfConfig& config) {
  constexpr double kMaxTheta = 1e12;
  GALE_ASSIGN_OR_RETURN(const RopeParams params, FindRopeParams(root));
  GALE_ASSIGN_OR_RETURN(config.rotary_dim, ParseRotaryDim(root, params, config.head_dim));
  RopeConfig rope;
  GALE_ASSIGN_OR_RETURN(rope.theta, OptionalNumber(root, "rope_theta", 1, kMaxTheta, rope.theta));
  GALE_ASSIGN_OR_RETURN(
      rope.original_max_position,
      OptionalInt(root, "original_max_position_embeddings", kMaxPosition, config.max_position));
  rope.context = config.max_position;
  config.rope = rope;
  if (params.all) {
    GALE_ASSIGN_OR_RETURN(config.rope, ParseRopeParams(*params.all, rope, config.rotary_dim));
  }
  if (params.sliding) {
    GALE_ASSIGN_OR_RETURN(config.sliding_rope,
                          ParseRopeParams(*params.sliding, rope, config.rotary_dim));
  } else if (root.Find("rope_local_base_freq")) {
    GALE_ASSIGN_OR_RETURN(rope.theta,
                          OptionalNumber(root, "rope_local_base_freq", 1, kMaxTheta, rope.theta));
    config.sliding_rope = rope;
  }
  config.max_position = ScaledMaxPosition(config.rope, config.max_position);
  config.rope.context = config.max_position;
  if (config.sliding_rope) config.sliding_rope->context = config.max_position;
  return {};
}

Status ParseHeads(const JsonObject& root, HfConfig& config) {
  GALE_ASSIGN_OR_RETURN(config.num_heads, RequiredInt(root, "num_attention_heads", kMaxHeads));
  GALE_ASSIGN_OR_RETURN(config.num_kv_heads,
                        OptionalInt(root, "num_key_value_heads", kMaxHeads, config.num_heads));
  if (config.num_heads % config.num_kv_heads != 0) {
    return tl::unexpected(
        root.Get("num_key_value_heads")
            ->Wrong(fmt::format("a divisor of num_attention_heads = {}", config.num_heads)));
  }
  GALE_ASSIGN_OR_RETURN(config.mla, ParseMlaConfig(root));
  if (config.mla.kv_lora_rank > 0) {  // heads have parts of their own widths; this one is rotated
    config.head_dim = config.mla.qk_rope_head_dim;
    return {};
  }
  if (!root.Find("head_dim") && config.hidden_size % config.num_heads != 0) {
    return tl::unexpected(root.Get("num_attention_heads")
                              ->Wrong(fmt::format("a divisor of hidden_size = {}, as there is no "
                                                  "head_dim",
                                                  config.hidden_size)));
  }
  GALE_ASSIGN_OR_RETURN(config.head_dim, OptionalInt(root, "head_dim", kMaxHeadDim,
                                                     config.hidden_size / config.num_heads));
  if (config.head_dim % 2 != 0) {
    const auto given = root.Find("head_dim");
    return tl::unexpected((given ? *given : *root.Get("num_attention_heads"))
                              .Wrong(fmt::format("an even head_dim (it is {})", config.head_dim)));
  }
  return {};
}

Result<Activation> ParseActivation(const JsonObject& root) {
  auto value = root.Find("hidden_activation");
  if (!value) value = root.Find("hidden_act");
  if (!value) return Activation::kSilu;
  GALE_ASSIGN_OR_RETURN(const std::string_view name, value->String());
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::kGeluTanh;
  return Unsupported(*value, "\"silu\" or \"gelu_pytorch_tanh\"");
}

Status ParseLayerTypes(const JsonObject& root, HfConfig& config) {
  const auto types = root.Find("layer_types");
  if (!types) return {};
  GALE_ASSIGN_OR_RETURN(const auto items, types->Items());
  if (std::ssize(items) != config.num_layers) {
    return tl::unexpected(types->Wrong(fmt::format("{} items, one for each layer (there are {})",
                                                   config.num_layers, items.size())));
  }
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(const std::string_view type, item.String());
    if (type != "full_attention" && type != "sliding_attention") {
      return Unsupported(item, "\"full_attention\" or \"sliding_attention\"");
    }
    config.has_window.push_back(type == "sliding_attention");
    if (config.has_window.back() && config.sliding_window == 0) {
      return tl::unexpected(item.Wrong("a sliding_window over 0 beside such layers"));
    }
  }
  return {};
}

Status ParseAttention(const JsonObject& root, HfConfig& config) {
  constexpr double kMaxScore = 1e6;
  for (const auto& [key, field] :
       {std::pair("query_pre_attn_scalar", &config.query_pre_attn_scalar),
        std::pair("attn_logit_softcapping", &config.attn_logit_softcap),
        std::pair("final_logit_softcapping", &config.final_logit_softcap)}) {
    GALE_ASSIGN_OR_RETURN(*field, OptionalNumber(root, key, 1e-6, kMaxScore, 0));
  }
  if (config.query_pre_attn_scalar == 0) config.query_pre_attn_scalar = config.head_dim;
  if (const auto window = root.Find("sliding_window")) {  // 0: Qwen2-MoE's word for none
    GALE_ASSIGN_OR_RETURN(const int64_t positions, window->Int(0, kMaxPosition));
    config.sliding_window = static_cast<int>(positions);
  }
  GALE_ASSIGN_OR_RETURN(config.sliding_window_pattern,
                        OptionalInt(root, "sliding_window_pattern", kMaxLayers, 0));
  if (root.Find("use_sliding_window")) {
    GALE_ASSIGN_OR_RETURN(config.use_sliding_window, OptionalBool(root, "use_sliding_window"));
  }
  if (const auto first = root.Find("max_window_layers")) {
    GALE_ASSIGN_OR_RETURN(const int64_t layer, first->Int(0, kMaxLayers));
    config.max_window_layers = static_cast<int>(layer);
  }
  GALE_ASSIGN_OR_RETURN(const bool sees_ahead, OptionalBool(root, "use_bidirectional_attention"));
  if (sees_ahead) return Unsupported(*root.Find("use_bidirectional_attention"), "false");
  return ParseLayerTypes(root, config);
}

Status ParseQuantization(const JsonObject& root, const std::string& source, HfConfig& config) {
  auto value = root.Find("quantization_config");
  if (!value) value = root.Find("compression_config");  // its name of old
  config.quant.source = source;
  config.quant.json = R"({"quantization_config":{}})";
  if (!value) return {};
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value->Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue method, object.Get("quant_method"));
  GALE_ASSIGN_OR_RETURN(config.quant_method, method.String());
  config.quant.json = fmt::format(R"({{"quantization_config":{}}})", value->Minified());
  return {};
}

}  // namespace

Result<HfConfig> ParseHfConfig(std::string_view json, const std::string& source,
                               std::span<const std::string> known_architectures) {
  GALE_ASSIGN_OR_RETURN(const JsonDocument file, JsonDocument::Parse(json, source));
  GALE_ASSIGN_OR_RETURN(const JsonObject given, file.root().Object());
  HfConfig config;
  GALE_ASSIGN_OR_RETURN(config.architecture, ParseArchitecture(given, source, known_architectures));
  GALE_ASSIGN_OR_RETURN(const std::string complete, CompleteConfig(given, config.architecture));
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(complete, source));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  GALE_ASSIGN_OR_RETURN(config.dtype, ParseDType(root));
  GALE_ASSIGN_OR_RETURN(config.vocab_size, RequiredInt(root, "vocab_size", kMaxVocab));
  GALE_ASSIGN_OR_RETURN(config.hidden_size, RequiredInt(root, "hidden_size", kMaxWidth));
  GALE_ASSIGN_OR_RETURN(config.intermediate_size,
                        RequiredInt(root, "intermediate_size", kMaxWidth));
  GALE_ASSIGN_OR_RETURN(config.num_layers, RequiredInt(root, "num_hidden_layers", kMaxLayers));
  GALE_RETURN_IF_ERROR(ParseHeads(root, config));
  GALE_ASSIGN_OR_RETURN(config.max_position,
                        RequiredInt(root, "max_position_embeddings", kMaxPosition));
  GALE_ASSIGN_OR_RETURN(config.rms_norm_eps,
                        OptionalNumber(root, "rms_norm_eps", 0, 1, config.rms_norm_eps));
  GALE_RETURN_IF_ERROR(ParseRope(root, config));
  GALE_RETURN_IF_ERROR(ParseAttention(root, config));
  GALE_ASSIGN_OR_RETURN(config.activation, ParseActivation(root));
  GALE_ASSIGN_OR_RETURN(config.tie_word_embeddings, OptionalBool(root, "tie_word_embeddings"));
  GALE_ASSIGN_OR_RETURN(config.attention_bias, OptionalBool(root, "attention_bias"));
  GALE_ASSIGN_OR_RETURN(config.mlp_bias, OptionalBool(root, "mlp_bias"));
  GALE_ASSIGN_OR_RETURN(config.moe,
                        ParseMoeConfig(root, config.num_layers, config.intermediate_size));
  GALE_RETURN_IF_ERROR(ParseQuantization(root, source, config));
  GALE_ASSIGN_OR_RETURN(config.eos_token_ids,
                        ParseTokenIds(root, "eos_token_id", config.vocab_size));
  return config;
}

}  // namespace gale
