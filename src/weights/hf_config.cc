#include "weights/hf_config.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.h"
#include "base/status_macros.h"

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

Result<std::vector<TokenId>> ParseTokenIds(const JsonObject& root, std::string_view key,
                                           int vocab_size) {
  const auto value = root.Find(key);
  if (!value) return std::vector<TokenId>();
  std::vector<JsonValue> items = {*value};
  if (value->is_array()) {
    GALE_ASSIGN_OR_RETURN(items, value->Items());
  }
  std::vector<TokenId> ids;
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(const int64_t id, item.Int(0, vocab_size - 1));
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

/// transformers 5 writes rope_parameters with rope_theta inside; 4.x writes rope_theta beside
/// rope_scaling, whose "rope_type" was once called "type".
Result<RopeConfig> ParseRope(const JsonObject& root) {
  RopeConfig rope;
  constexpr double kMaxTheta = 1e12;
  GALE_ASSIGN_OR_RETURN(rope.theta, OptionalNumber(root, "rope_theta", 1, kMaxTheta, rope.theta));
  auto value = root.Find("rope_parameters");
  if (!value) value = root.Find("rope_scaling");
  if (!value) return rope;
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value->Object());
  GALE_ASSIGN_OR_RETURN(rope.theta, OptionalNumber(object, "rope_theta", 1, kMaxTheta, rope.theta));
  if (const auto part = object.Find("partial_rotary_factor")) {
    GALE_ASSIGN_OR_RETURN(const double factor, part->Number());
    if (factor != 1) return Unsupported(*part, "1");
  }
  auto type = object.Find("rope_type");
  if (!type) type = object.Find("type");
  if (!type) return rope;
  GALE_ASSIGN_OR_RETURN(const std::string_view name, type->String());
  if (name == "default") return rope;
  if (name != "llama3") return Unsupported(*type, "\"default\" or \"llama3\"");
  rope.type = RopeType::kLlama3;
  constexpr double kMaxFactor = 1e6;
  for (const auto& [key, field] :
       {std::pair("factor", &rope.factor), std::pair("low_freq_factor", &rope.low_freq_factor),
        std::pair("high_freq_factor", &rope.high_freq_factor)}) {
    GALE_ASSIGN_OR_RETURN(const JsonValue number, object.Get(key));
    GALE_ASSIGN_OR_RETURN(*field, number.Number(1e-6, kMaxFactor));
  }
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    return tl::unexpected(value->Wrong("high_freq_factor over low_freq_factor"));
  }
  GALE_ASSIGN_OR_RETURN(rope.original_max_position,
                        RequiredInt(object, "original_max_position_embeddings", kMaxPosition));
  return rope;
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

/// Refuses what would run but give wrong output.
Status CheckVariant(const JsonObject& root, int num_layers) {
  if (const auto act = root.Find("hidden_act")) {
    GALE_ASSIGN_OR_RETURN(const std::string_view name, act->String());
    if (name != "silu" && name != "swish") return Unsupported(*act, "\"silu\"");
  }
  GALE_ASSIGN_OR_RETURN(const bool window, OptionalBool(root, "use_sliding_window"));
  if (window) {
    // Layers from max_window_layers on have the window: with as many layers or fewer, none has.
    int64_t first = 0;
    if (const auto value = root.Find("max_window_layers")) {
      GALE_ASSIGN_OR_RETURN(first, value->Int(0, kMaxLayers));
    }
    if (first < num_layers) {
      return Unsupported(*root.Find("use_sliding_window"),
                         fmt::format("false, or max_window_layers of at least {}", num_layers));
    }
  }
  if (const auto types = root.Find("layer_types")) {
    GALE_ASSIGN_OR_RETURN(const auto items, types->Items());
    for (const JsonValue& item : items) {
      GALE_ASSIGN_OR_RETURN(const std::string_view type, item.String());
      if (type != "full_attention") return Unsupported(item, "\"full_attention\"");
    }
  }
  return {};
}

Status ParseExperts(const JsonObject& root, HfConfig& config) {
  constexpr int64_t kMaxExperts = 1 << 16;
  const char* key = root.Find("num_experts") ? "num_experts" : "num_local_experts";
  GALE_ASSIGN_OR_RETURN(config.num_experts, OptionalInt(root, key, kMaxExperts, 0));
  if (config.num_experts == 0) return {};
  GALE_ASSIGN_OR_RETURN(config.num_experts_per_token,
                        RequiredInt(root, "num_experts_per_tok", config.num_experts));
  GALE_ASSIGN_OR_RETURN(config.moe_intermediate_size,
                        RequiredInt(root, "moe_intermediate_size", kMaxWidth));
  return {};
}

Status ParseQuantization(const JsonObject& root, HfConfig& config) {
  const auto value = root.Find("quantization_config");
  if (!value) return {};
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value->Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue method, object.Get("quant_method"));
  GALE_ASSIGN_OR_RETURN(config.quant_method, method.String());
  return {};
}

}  // namespace

Result<HfConfig> ParseHfConfig(std::string_view json, const std::string& source,
                               std::span<const std::string> known_architectures) {
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(json, source));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  HfConfig config;
  GALE_ASSIGN_OR_RETURN(config.architecture, ParseArchitecture(root, source, known_architectures));
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
  GALE_ASSIGN_OR_RETURN(config.rope, ParseRope(root));
  GALE_ASSIGN_OR_RETURN(config.tie_word_embeddings, OptionalBool(root, "tie_word_embeddings"));
  GALE_ASSIGN_OR_RETURN(config.attention_bias, OptionalBool(root, "attention_bias"));
  GALE_ASSIGN_OR_RETURN(config.mlp_bias, OptionalBool(root, "mlp_bias"));
  GALE_RETURN_IF_ERROR(CheckVariant(root, config.num_layers));
  GALE_RETURN_IF_ERROR(ParseExperts(root, config));
  GALE_RETURN_IF_ERROR(ParseQuantization(root, config));
  GALE_ASSIGN_OR_RETURN(config.eos_token_ids,
                        ParseTokenIds(root, "eos_token_id", config.vocab_size));
  return config;
}

Result<GenerationConfig> ParseGenerationConfig(std::string_view json, const std::string& source,
                                               int vocab_size) {
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(json, source));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  GenerationConfig config;
  SamplingParams& sampling = config.sampling;
  constexpr double kMaxTemperature = 1e4;
  GALE_ASSIGN_OR_RETURN(
      sampling.temperature,
      OptionalNumber(root, "temperature", 0, kMaxTemperature, sampling.temperature));
  // The value 0 means "off" to transformers and to us.
  if (const auto top_k = root.Find("top_k")) {
    GALE_ASSIGN_OR_RETURN(sampling.top_k, top_k->Int(0, kMaxVocab));
  }
  GALE_ASSIGN_OR_RETURN(sampling.top_p, OptionalNumber(root, "top_p", 1e-9, 1, sampling.top_p));
  GALE_ASSIGN_OR_RETURN(sampling.min_p, OptionalNumber(root, "min_p", 0, 1, sampling.min_p));
  // transformers decodes greedily unless told to sample; only an explicit "false" is advice.
  if (const auto do_sample = root.Find("do_sample")) {
    GALE_ASSIGN_OR_RETURN(const bool sample, do_sample->Bool());
    if (!sample) sampling.temperature = 0;
  }
  GALE_ASSIGN_OR_RETURN(config.eos_token_ids, ParseTokenIds(root, "eos_token_id", vocab_size));
  return config;
}

}  // namespace gale
