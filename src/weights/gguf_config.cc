// A GGUF file's metadata in the words of config.json, so that both are checked by the same code.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/status_macros.h"
#include "weights/gguf_architecture.h"
#include "weights/gguf_model.h"

namespace gale {
namespace {

constexpr int64_t kMaxCount = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxLayers = 4096;

/// Writes the members of a config.json from the keys of one architecture.
class ConfigWriter {
 public:
  ConfigWriter(const Gguf& gguf, std::string_view architecture)
      : gguf_(gguf), architecture_(architecture) {}

  std::string Key(std::string_view name) const { return fmt::format("{}.{}", architecture_, name); }
  bool Has(std::string_view name) const { return gguf_.Has(Key(name)); }
  Result<int64_t> Int(std::string_view name) const { return gguf_.Int(Key(name), 1, kMaxCount); }
  Result<double> Number(std::string_view name) const { return gguf_.Number(Key(name)); }

  void Add(std::string_view field, const std::string& json) {
    json_ += fmt::format("{}\"{}\":{}", json_.empty() ? "" : ",", field, json);
  }
  Status AddCount(std::string_view name, std::string_view field) {
    GALE_ASSIGN_OR_RETURN(const int64_t count, Int(name));
    Add(field, fmt::format("{}", count));
    return {};
  }
  Status AddNumber(std::string_view name, std::string_view field) {
    GALE_ASSIGN_OR_RETURN(const double number, Number(name));
    // The file has 32 bits of it: the shortest decimal that gives them back.
    Add(field, fmt::format("{}", static_cast<float>(number)));
    return {};
  }
  /// Those of the keys that are there.
  Status AddCounts(std::span<const NamePair> pairs) {
    for (const auto& [name, field] : pairs) {
      if (Has(name)) GALE_RETURN_IF_ERROR(AddCount(name, field));
    }
    return {};
  }
  Status AddNumbers(std::span<const NamePair> pairs) {
    for (const auto& [name, field] : pairs) {
      if (Has(name)) GALE_RETURN_IF_ERROR(AddNumber(name, field));
    }
    return {};
  }

  tl::unexpected<Error> Unsupported(std::string_view name, std::string_view expected) const {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{} (not supported)", gguf_.Wrong(Key(name), expected).message));
  }
  /// For an object in this one.
  ConfigWriter Nested() const { return {gguf_, architecture_}; }
  std::string Object() const { return "{" + json_ + "}"; }

 private:
  const Gguf& gguf_;
  std::string_view architecture_;
  std::string json_;
};

/// What each frequency is divided by: a tensor of one number for each rotated pair.
Result<std::vector<float>> RopeDivisors(const GgufTensor& tensor, const std::string& source,
                                        int64_t rotary_dim) {
  const auto count = static_cast<size_t>(rotary_dim) / 2;
  std::vector<float> divisors(count);
  const bool fits = tensor.type_name == "F32" && tensor.data.size() == count * sizeof(float);
  if (fits) std::memcpy(divisors.data(), tensor.data.data(), tensor.data.size());
  const auto is_positive = [](float value) { return std::isfinite(value) && value > 0; };
  if (fits && std::all_of(divisors.begin(), divisors.end(), is_positive)) return divisors;
  return MakeError(
      ErrorCode::kDataCorrupt,
      fmt::format("{}: {}: expected {} positive F32 numbers, one for each two elements "
                  "of a head, got {} [{}]",
                  source, tensor.name, count, tensor.type_name, fmt::join(tensor.shape, ", ")));
}

/// Heads and rotary embedding.
Status AddHeads(const GgufArchitecture& architecture, int64_t head_dim, ConfigWriter& writer,
                int64_t& rotary_dim) {
  writer.Add("head_dim", fmt::format("{}", head_dim));
  if (writer.Has("attention.value_length")) {
    GALE_ASSIGN_OR_RETURN(const int64_t length, writer.Int("attention.value_length"));
    if (length != head_dim) {
      return writer.Unsupported("attention.value_length", fmt::format("key_length = {}", head_dim));
    }
  }
  rotary_dim = head_dim;
  if (writer.Has("rope.dimension_count")) {
    GALE_ASSIGN_OR_RETURN(rotary_dim, writer.Int("rope.dimension_count"));
  }
  if (rotary_dim == head_dim) {
    if (architecture.has_partial_rope) writer.Add("partial_rotary_factor", "1");
    return {};
  }
  if (!architecture.has_partial_rope || rotary_dim > head_dim) {
    return writer.Unsupported("rope.dimension_count", fmt::format("the head's size {}", head_dim));
  }
  // Half an element more, so that the product with head_dim is cut off to the same number.
  writer.Add("partial_rotary_factor",
             fmt::format("{}", (static_cast<double>(rotary_dim) + 0.5) / head_dim));
  return {};
}

Status AddRopeScaling(const GgufModel& model, const GgufArchitecture& architecture,
                      int64_t rotary_dim, ConfigWriter& writer) {
  const GgufTensor* short_factors = model.FindTensor("rope_factors_short.weight");
  const GgufTensor* long_factors = model.FindTensor("rope_factors_long.weight");
  if (short_factors != nullptr && long_factors != nullptr) {
    const std::string& source = model.parts[0].source();
    GALE_ASSIGN_OR_RETURN(const auto shorts, RopeDivisors(*short_factors, source, rotary_dim));
    GALE_ASSIGN_OR_RETURN(const auto longs, RopeDivisors(*long_factors, source, rotary_dim));
    GALE_RETURN_IF_ERROR(writer.AddCount("rope.scaling.original_context_length",
                                         "original_max_position_embeddings"));
    writer.Add("rope_scaling",
               fmt::format(R"({{"rope_type":"longrope","short_factor":[{}],"long_factor":[{}]}})",
                           fmt::join(shorts, ","), fmt::join(longs, ",")));
    return {};
  }
  if (!writer.Has("rope.scaling.type")) return {};
  GALE_ASSIGN_OR_RETURN(const std::string_view type,
                        model.parts[0].String(writer.Key("rope.scaling.type")));
  if (type == "none") return {};
  if (type != "linear" && type != "yarn") {
    return writer.Unsupported("rope.scaling.type", "\"none\", \"linear\" or \"yarn\"");
  }
  ConfigWriter scaling = writer.Nested();
  scaling.Add("rope_type", fmt::format("\"{}\"", type));
  GALE_RETURN_IF_ERROR(scaling.AddNumber("rope.scaling.factor", "factor"));
  if (type == "yarn") {
    constexpr std::array kCounts = {
        NamePair{"rope.scaling.original_context_length", "original_max_position_embeddings"}};
    constexpr std::array kNumbers = {NamePair{"rope.scaling.yarn_beta_fast", "beta_fast"},
                                     NamePair{"rope.scaling.yarn_beta_slow", "beta_slow"}};
    GALE_RETURN_IF_ERROR(scaling.AddCounts(kCounts));
    GALE_RETURN_IF_ERROR(scaling.AddNumbers(kNumbers));
    if (architecture.has_exact_yarn) scaling.Add("truncate", "false");
    if (scaling.Has("rope.scaling.yarn_log_multiplier")) {
      // A tenth of both of DeepSeek's numbers, which are the same in its models.
      GALE_ASSIGN_OR_RETURN(const double tenth, scaling.Number("rope.scaling.yarn_log_multiplier"));
      const auto mscale = static_cast<float>(10 * tenth);
      scaling.Add("mscale", fmt::format("{}", mscale));
      scaling.Add("mscale_all_dim", fmt::format("{}", mscale));
    }
  }
  writer.Add("rope_scaling", scaling.Object());
  return {};
}

Status AddWindow(const GgufArchitecture& architecture, ConfigWriter& writer) {
  constexpr std::string_view kName = "attention.sliding_window";
  if (!writer.Has(kName)) return {};
  GALE_ASSIGN_OR_RETURN(const double window, writer.Number(kName));
  if (window == 0) return {};
  if (!architecture.has_window) return writer.Unsupported(kName, "0");
  return writer.AddCount(kName, "sliding_window");
}

Status AddExperts(const GgufModel& model, const GgufArchitecture& architecture,
                  ConfigWriter& writer) {
  if (!architecture.has_experts) return {};
  GALE_RETURN_IF_ERROR(writer.AddCount("expert_count", "num_experts"));
  GALE_RETURN_IF_ERROR(writer.AddCount("expert_used_count", "num_experts_per_tok"));
  constexpr std::array kCounts = {
      NamePair{"expert_feed_forward_length", "moe_intermediate_size"},
      NamePair{"expert_shared_feed_forward_length", "shared_expert_intermediate_size"},
  };
  GALE_RETURN_IF_ERROR(writer.AddCounts(kCounts));
  bool renormalizes = architecture.renormalizes_experts;
  if (writer.Has("expert_weights_norm")) {
    GALE_ASSIGN_OR_RETURN(renormalizes, model.parts[0].Bool(writer.Key("expert_weights_norm")));
  }
  writer.Add("norm_topk_prob", renormalizes ? "true" : "false");
  constexpr std::array kNumbers = {NamePair{"expert_weights_scale", "routed_scaling_factor"}};
  GALE_RETURN_IF_ERROR(writer.AddNumbers(kNumbers));
  GALE_ASSIGN_OR_RETURN(const int64_t layers, writer.Int("block_count"));
  std::vector<int64_t> dense;
  for (int64_t i = 0; i < std::min(layers, kMaxLayers); ++i) {
    if (model.FindTensor(fmt::format("blk.{}.ffn_gate_inp.weight", i)) == nullptr) {
      dense.push_back(i);
    }
  }
  writer.Add("mlp_only_layers", fmt::format("[{}]", fmt::join(dense, ",")));
  return {};
}

/// Latent attention: the file's heads are those of keys made of the latent, unless *_mla tells.
Status AddLatentAttention(ConfigWriter& writer) {
  const auto width = [&](std::string_view name) {
    const std::string mla = fmt::format("{}_mla", name);
    return writer.Int(writer.Has(mla) ? std::string_view(mla) : name);
  };
  GALE_ASSIGN_OR_RETURN(const int64_t key, width("attention.key_length"));
  GALE_ASSIGN_OR_RETURN(const int64_t value, width("attention.value_length"));
  GALE_ASSIGN_OR_RETURN(const int64_t rope, writer.Int("rope.dimension_count"));
  writer.Add("head_dim", fmt::format("{}", rope));
  writer.Add("qk_nope_head_dim", fmt::format("{}", key - rope));
  writer.Add("qk_rope_head_dim", fmt::format("{}", rope));
  writer.Add("v_head_dim", fmt::format("{}", value));
  GALE_RETURN_IF_ERROR(writer.AddCount("attention.kv_lora_rank", "kv_lora_rank"));
  constexpr std::array kCounts = {
      NamePair{"attention.q_lora_rank", "q_lora_rank"},
      NamePair{"expert_shared_count", "n_shared_experts"},
      NamePair{"expert_group_count", "n_group"},
      NamePair{"expert_group_used_count", "topk_group"},
  };
  return writer.AddCounts(kCounts);
}

/// What llama.cpp knows of Gemma without being told. All is written out, as config.json has
/// defaults.
Status AddGemma(const GgufArchitecture& architecture, int64_t head_dim, ConfigWriter& writer) {
  if (architecture.large_layers == 0) return {};
  writer.Add("hidden_activation", "\"gelu_pytorch_tanh\"");
  for (const char* cap : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (!writer.Has(cap)) {
      writer.Add(cap, "null");
    } else {
      GALE_RETURN_IF_ERROR(writer.AddNumber(cap, cap));
    }
  }
  int64_t scalar = head_dim;
  GALE_ASSIGN_OR_RETURN(const int64_t layers, writer.Int("block_count"));
  if (layers == architecture.large_layers) {
    GALE_ASSIGN_OR_RETURN(const int64_t hidden, writer.Int("embedding_length"));
    GALE_ASSIGN_OR_RETURN(const int64_t heads, writer.Int("attention.head_count"));
    scalar = hidden / heads;
  }
  writer.Add("query_pre_attn_scalar", fmt::format("{}", scalar));
  if (architecture.name != "gemma3") return {};
  if (writer.Has("rope.freq_base_swa")) {
    GALE_RETURN_IF_ERROR(writer.AddNumber("rope.freq_base_swa", "rope_local_base_freq"));
  } else {
    writer.Add("rope_local_base_freq", "10000");
  }
  if (!writer.Has("attention.sliding_window_pattern")) {
    writer.Add("sliding_window_pattern", "6");
    return {};
  }
  return writer.AddCount("attention.sliding_window_pattern", "sliding_window_pattern");
}

Status AddEndTokens(const Gguf& gguf, int64_t vocab_size, ConfigWriter& writer) {
  std::vector<int64_t> eos;
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    if (!gguf.Has(key)) continue;
    GALE_ASSIGN_OR_RETURN(const int64_t id, gguf.Int(key, 0, vocab_size - 1));
    if (std::find(eos.begin(), eos.end(), id) == eos.end()) eos.push_back(id);
  }
  writer.Add("eos_token_id", fmt::format("[{}]", fmt::join(eos, ",")));
  return {};
}

Result<std::string> ConfigJson(const GgufModel& model, const GgufArchitecture& architecture,
                               int64_t head_dim, int64_t vocab_size, int64_t& rotary_dim) {
  const Gguf& gguf = model.parts[0];
  ConfigWriter writer(gguf, architecture.name);
  writer.Add("architectures", fmt::format("[\"{}\"]", architecture.hugging_face));
  writer.Add("vocab_size", fmt::format("{}", vocab_size));
  constexpr std::array kCounts = {
      NamePair{"context_length", "max_position_embeddings"},
      NamePair{"embedding_length", "hidden_size"},
      NamePair{"feed_forward_length", "intermediate_size"},
      NamePair{"block_count", "num_hidden_layers"},
      NamePair{"attention.head_count", "num_attention_heads"},
  };
  for (const auto& [name, field] : kCounts) GALE_RETURN_IF_ERROR(writer.AddCount(name, field));
  constexpr std::array kOptional = {NamePair{"attention.head_count_kv", "num_key_value_heads"}};
  if (!architecture.has_latent_attention) GALE_RETURN_IF_ERROR(writer.AddCounts(kOptional));
  GALE_RETURN_IF_ERROR(writer.AddNumber("attention.layer_norm_rms_epsilon", "rms_norm_eps"));
  constexpr std::array kNumbers = {NamePair{"rope.freq_base", "rope_theta"}};
  GALE_RETURN_IF_ERROR(writer.AddNumbers(kNumbers));
  if (architecture.has_latent_attention) {
    GALE_RETURN_IF_ERROR(AddLatentAttention(writer));
  } else {
    GALE_RETURN_IF_ERROR(AddHeads(architecture, head_dim, writer, rotary_dim));
  }
  GALE_RETURN_IF_ERROR(AddRopeScaling(model, architecture, rotary_dim, writer));
  GALE_RETURN_IF_ERROR(AddWindow(architecture, writer));
  GALE_RETURN_IF_ERROR(AddExperts(model, architecture, writer));
  GALE_RETURN_IF_ERROR(AddGemma(architecture, head_dim, writer));
  GALE_RETURN_IF_ERROR(AddEndTokens(gguf, vocab_size, writer));
  return writer.Object();
}

}  // namespace

Result<int64_t> GgufModel::HeadDim() const {
  const Gguf& gguf = parts[0];
  GALE_ASSIGN_OR_RETURN(const std::string_view architecture, gguf.String("general.architecture"));
  const ConfigWriter keys(gguf, architecture);
  if (keys.Has("attention.key_length")) return keys.Int("attention.key_length");
  GALE_ASSIGN_OR_RETURN(const int64_t heads, keys.Int("attention.head_count"));
  GALE_ASSIGN_OR_RETURN(const int64_t hidden, keys.Int("embedding_length"));
  if (hidden % heads == 0) return hidden / heads;
  return tl::unexpected(gguf.Wrong(
      keys.Key("attention.head_count"),
      fmt::format("a divisor of embedding_length = {}, as there is no key_length", hidden)));
}

Result<HfConfig> GgufModel::Config(std::span<const std::string> known_architectures) const {
  const Gguf& gguf = parts[0];
  GALE_ASSIGN_OR_RETURN(const GgufArchitecture architecture, FindGgufArchitecture(gguf));
  GALE_ASSIGN_OR_RETURN(const int64_t head_dim, HeadDim());
  const GgufTensor* embedding = FindTensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("{}: expected a tensor token_embd.weight of two dimensions, got "
                                 "{}; files with a vocabulary only are no models",
                                 gguf.source(), embedding == nullptr ? "none" : "others"));
  }
  int64_t rotary_dim = 0;
  GALE_ASSIGN_OR_RETURN(const std::string json,
                        ConfigJson(*this, architecture, head_dim, embedding->shape[0], rotary_dim));
  GALE_ASSIGN_OR_RETURN(HfConfig config, ParseHfConfig(json, gguf.source(), known_architectures));
  config.tie_word_embeddings = FindTensor("output.weight") == nullptr;
  config.attention_bias = FindTensor(fmt::format("blk.0.{}.bias", architecture.bias)) != nullptr;
  config.mlp_bias = FindTensor("blk.0.ffn_down.bias") != nullptr;
  config.moe.has_separate_experts = true;
  if (const GgufTensor* tensor = FindTensor("blk.0.attn_output.weight")) {
    config.dtype = GgufDType(tensor->type_name);
  }
  for (const Gguf& part : parts) {
    for (const GgufTensor& tensor : part.tensors()) {
      if (GgufBlocks(tensor.type_name) == GgmlType::kNone) continue;
      config.quant_method = "gguf";
      config.dtype = DType::kBf16;  // what quantized models mostly were before, and run in
    }
  }
  if (const GgufTensor* factors = FindTensor("rope_freqs.weight")) {
    GALE_ASSIGN_OR_RETURN(config.rope.divisors, RopeDivisors(*factors, gguf.source(), rotary_dim));
  }
  return config;
}

}  // namespace gale
