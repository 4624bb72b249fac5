#include "weights/gguf_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/status_macros.h"
#include "tensor/ggml_block.h"

namespace gale {
namespace {

constexpr std::string_view kEnding = ".gguf";
constexpr std::string_view kFirstShard = "-00001-of-";
constexpr std::string_view kRopeFactors = "rope_freqs.weight";
constexpr int64_t kMaxShards = 99999;  // five digits in a file's name
constexpr int64_t kMaxCount = std::numeric_limits<int32_t>::max();

struct Architecture {
  std::string_view gguf, hugging_face;
  bool has_interleaved_heads;  ///< of the rows of q and k
};
constexpr std::array kArchitectures = {
    Architecture{"llama", "LlamaForCausalLM", true},
    Architecture{"qwen2", "Qwen2ForCausalLM", false},
    Architecture{"qwen3", "Qwen3ForCausalLM", false},
};

using NamePair = std::pair<std::string_view, std::string_view>;
constexpr std::array kModelNames = {
    NamePair{"token_embd", "model.embed_tokens"},
    NamePair{"output_norm", "model.norm"},
    NamePair{"output", "lm_head"},
};
constexpr std::array kLayerNames = {
    NamePair{"attn_norm", "input_layernorm"},    NamePair{"attn_q", "self_attn.q_proj"},
    NamePair{"attn_k", "self_attn.k_proj"},      NamePair{"attn_v", "self_attn.v_proj"},
    NamePair{"attn_output", "self_attn.o_proj"}, NamePair{"attn_q_norm", "self_attn.q_norm"},
    NamePair{"attn_k_norm", "self_attn.k_norm"}, NamePair{"ffn_norm", "post_attention_layernorm"},
    NamePair{"ffn_gate", "mlp.gate_proj"},       NamePair{"ffn_up", "mlp.up_proj"},
    NamePair{"ffn_down", "mlp.down_proj"},
};

std::optional<std::string_view> Translate(std::span<const NamePair> names, std::string_view name) {
  const auto found = std::find_if(names.begin(), names.end(),
                                  [&](const auto& pair) { return pair.first == name; });
  return found == names.end() ? std::nullopt : std::optional(found->second);
}

/// "blk.7.attn_q.weight" becomes "model.layers.7.self_attn.q_proj.weight". Names that no model of
/// these architectures has stay, so that they are reported as the file spells them.
std::string HuggingFaceName(std::string_view name) {
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
  const auto translated = Translate(kLayerNames, layer.substr(dot + 1));
  if (!translated) return std::string(name);
  return fmt::format("model.layers.{}.{}{}", layer.substr(0, dot), *translated, kind);
}

Result<Architecture> FindArchitecture(const Gguf& gguf) {
  GALE_ASSIGN_OR_RETURN(const std::string_view name, gguf.String("general.architecture"));
  std::vector<std::string_view> known;
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.gguf == name) return architecture;
    known.push_back(architecture.gguf);
  }
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{}: general.architecture: expected one of {}, got \"{}\" (not "
                               "supported)",
                               gguf.source(), fmt::join(known, ", "), name));
}

std::optional<DType> FindDType(std::string_view type_name) {
  if (type_name == "F32") return DType::kF32;
  if (type_name == "F16") return DType::kF16;
  if (type_name == "BF16") return DType::kBf16;
  return {};
}

GgmlType FindBlocks(std::string_view type_name) {
  for (const GgmlType type : {GgmlType::kQ4_0, GgmlType::kQ8_0}) {
    if (type_name == GgmlTypeName(type)) return type;
  }
  return GgmlType::kNone;
}

/// Of a head of q and k: explicit, or an equal share of the hidden size.
Result<int64_t> HeadDim(const Gguf& gguf, std::string_view architecture) {
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", architecture, name); };
  if (gguf.Has(key("attention.key_length"))) {
    return gguf.Int(key("attention.key_length"), 1, kMaxCount);
  }
  GALE_ASSIGN_OR_RETURN(const int64_t heads, gguf.Int(key("attention.head_count"), 1, kMaxCount));
  GALE_ASSIGN_OR_RETURN(const int64_t hidden, gguf.Int(key("embedding_length"), 1, kMaxCount));
  if (hidden % heads == 0) return hidden / heads;
  return tl::unexpected(gguf.Wrong(
      key("attention.head_count"),
      fmt::format("a divisor of embedding_length = {}, as there is no key_length", hidden)));
}

/// Keys that must be there with this value, or not at all.
Status CheckUnscaled(const Gguf& gguf, const std::string& architecture, int64_t head_dim) {
  const auto unsupported = [&](const std::string& key, std::string_view expected) {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{} (not supported)", gguf.Wrong(key, expected).message));
  };
  if (const std::string key = architecture + ".rope.scaling.type"; gguf.Has(key)) {
    GALE_ASSIGN_OR_RETURN(const std::string_view type, gguf.String(key));
    if (type != "none") return unsupported(key, "\"none\"");
  }
  if (const std::string key = architecture + ".rope.dimension_count"; gguf.Has(key)) {
    GALE_ASSIGN_OR_RETURN(const int64_t count, gguf.Int(key));
    if (count != head_dim) return unsupported(key, fmt::format("the head's size {}", head_dim));
  }
  if (const std::string key = architecture + ".attention.value_length"; gguf.Has(key)) {
    GALE_ASSIGN_OR_RETURN(const int64_t length, gguf.Int(key));
    if (length != head_dim) return unsupported(key, fmt::format("key_length = {}", head_dim));
  }
  for (const char* name : {".expert_count", ".attention.sliding_window"}) {
    const std::string key = architecture + name;
    if (!gguf.Has(key)) continue;
    GALE_ASSIGN_OR_RETURN(const int64_t count, gguf.Int(key));
    if (count != 0) return unsupported(key, "0");
  }
  return {};
}

/// rope_freqs.weight: what each frequency is divided by.
Result<std::vector<float>> RopeDivisors(const GgufTensor& tensor, const std::string& source,
                                        int head_dim) {
  const size_t count = static_cast<size_t>(head_dim) / 2;
  std::vector<float> divisors(count);
  const bool fits = tensor.type_name == "F32" && tensor.data.size() == count * sizeof(float);
  if (fits) std::memcpy(divisors.data(), tensor.data.data(), tensor.data.size());
  const auto is_positive = [](float value) { return std::isfinite(value) && value > 0; };
  if (fits && std::all_of(divisors.begin(), divisors.end(), is_positive)) return divisors;
  return MakeError(
      ErrorCode::kDataCorrupt,
      fmt::format("{}: {}: expected {} positive F32 numbers, one for each two elements "
                  "of a head, got {} [{}]",
                  source, kRopeFactors, count, tensor.type_name, fmt::join(tensor.shape, ", ")));
}

/// The metadata in the words of config.json, so that both are checked by the same code.
Result<std::string> ConfigJson(const Gguf& gguf, const Architecture& architecture,
                               int64_t vocab_size) {
  const std::string prefix(architecture.gguf);
  GALE_ASSIGN_OR_RETURN(const int64_t head_dim, HeadDim(gguf, prefix));
  GALE_RETURN_IF_ERROR(CheckUnscaled(gguf, prefix, head_dim));
  std::string json = fmt::format(R"({{"architectures":["{}"],"vocab_size":{},"head_dim":{})",
                                 architecture.hugging_face, vocab_size, head_dim);
  constexpr std::array kCounts = {
      NamePair{"context_length", "max_position_embeddings"},
      NamePair{"embedding_length", "hidden_size"},
      NamePair{"feed_forward_length", "intermediate_size"},
      NamePair{"block_count", "num_hidden_layers"},
      NamePair{"attention.head_count", "num_attention_heads"},
      NamePair{"attention.head_count_kv", "num_key_value_heads"},
  };
  for (const auto& [name, field] : kCounts) {
    const std::string key = fmt::format("{}.{}", prefix, name);
    if (name == "attention.head_count_kv" && !gguf.Has(key)) continue;
    GALE_ASSIGN_OR_RETURN(const int64_t count, gguf.Int(key, 1, kMaxCount));
    json += fmt::format(R"(,"{}":{})", field, count);
  }
  constexpr std::array kNumbers = {
      NamePair{"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
      NamePair{"rope.freq_base", "rope_theta"},
  };
  for (const auto& [name, field] : kNumbers) {
    const std::string key = fmt::format("{}.{}", prefix, name);
    if (name == "rope.freq_base" && !gguf.Has(key)) continue;
    GALE_ASSIGN_OR_RETURN(const double number, gguf.Number(key));
    // The file has 32 bits of it: the shortest decimal that gives them back.
    json += fmt::format(R"(,"{}":{})", field, static_cast<float>(number));
  }
  std::vector<int64_t> eos;
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    if (!gguf.Has(key)) continue;
    GALE_ASSIGN_OR_RETURN(const int64_t id, gguf.Int(key, 0, vocab_size - 1));
    if (std::find(eos.begin(), eos.end(), id) == eos.end()) eos.push_back(id);
  }
  return json + fmt::format(R"(,"eos_token_id":[{}]}})", fmt::join(eos, ","));
}

const GgufTensor* FindTensor(const GgufModel& model, std::string_view name) {
  for (const Gguf& part : model.parts) {
    for (const GgufTensor& tensor : part.tensors()) {
      if (tensor.name == name) return &tensor;
    }
  }
  return nullptr;
}

}  // namespace

bool IsGgufPath(const std::string& path) { return path.ends_with(kEnding); }

Result<GgufModel> GgufModel::Open(const std::string& path) {
  GgufModel model;
  const auto add = [&model](const std::string& file_name) -> Status {
    GALE_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(file_name));
    GALE_ASSIGN_OR_RETURN(Gguf part, Gguf::Parse(file.bytes(), file_name));
    model.files.push_back(std::move(file));
    model.parts.push_back(std::move(part));
    return {};
  };
  GALE_RETURN_IF_ERROR(add(path));
  if (!model.parts[0].Has("split.count")) return model;
  GALE_ASSIGN_OR_RETURN(const int64_t count, model.parts[0].Int("split.count", 0, kMaxShards));
  if (count <= 1) return model;

  const std::string ending = fmt::format("{}{:05}{}", kFirstShard, count, kEnding);
  if (!path.ends_with(ending)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{}: expected the first of the {} files of this model, which is "
                                 "named *{}",
                                 path, count, ending));
  }
  const std::string base = path.substr(0, path.size() - ending.size());
  for (int64_t i = 1; i < count; ++i) {
    GALE_RETURN_IF_ERROR(add(fmt::format("{}-{:05}-of-{:05}{}", base, i + 1, count, kEnding)));
  }
  for (int64_t i = 0; i < count; ++i) {
    GALE_RETURN_IF_ERROR(model.parts[i].Int("split.no", i, i));
    GALE_RETURN_IF_ERROR(model.parts[i].Int("split.count", count, count));
  }
  return model;
}

Result<HfConfig> GgufModel::Config(std::span<const std::string> known_architectures) const {
  const Gguf& gguf = parts[0];
  GALE_ASSIGN_OR_RETURN(const Architecture architecture, FindArchitecture(gguf));
  const GgufTensor* embedding = FindTensor(*this, "token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("{}: expected a tensor token_embd.weight of two dimensions, got "
                                 "{}; files with a vocabulary only are no models",
                                 gguf.source(), embedding == nullptr ? "none" : "others"));
  }
  GALE_ASSIGN_OR_RETURN(const std::string json,
                        ConfigJson(gguf, architecture, embedding->shape[0]));
  GALE_ASSIGN_OR_RETURN(HfConfig config, ParseHfConfig(json, gguf.source(), known_architectures));
  config.tie_word_embeddings = FindTensor(*this, "output.weight") == nullptr;
  config.attention_bias = FindTensor(*this, "blk.0.attn_output.bias") != nullptr;
  config.mlp_bias = FindTensor(*this, "blk.0.ffn_down.bias") != nullptr;
  if (const GgufTensor* q = FindTensor(*this, "blk.0.attn_q.weight")) {
    config.dtype = FindDType(q->type_name);
  }
  for (const Gguf& part : parts) {
    for (const GgufTensor& tensor : part.tensors()) {
      if (FindBlocks(tensor.type_name) != GgmlType::kNone) config.quant_method = "gguf";
    }
  }
  if (const GgufTensor* factors = FindTensor(*this, kRopeFactors)) {
    GALE_ASSIGN_OR_RETURN(config.rope.divisors,
                          RopeDivisors(*factors, gguf.source(), config.head_dim));
  }
  return config;
}

Result<std::vector<CheckpointTensor>> GgufModel::Tensors() const {
  GALE_ASSIGN_OR_RETURN(const Architecture architecture, FindArchitecture(parts[0]));
  GALE_ASSIGN_OR_RETURN(const int64_t head_dim, HeadDim(parts[0], architecture.gguf));
  std::vector<CheckpointTensor> entries;
  std::unordered_set<std::string_view> names;
  for (const Gguf& part : parts) {
    for (const GgufTensor& tensor : part.tensors()) {
      const auto wrong = [&](ErrorCode code, std::string_view what) {
        return MakeError(code, fmt::format("{}: {}: {}", part.source(), tensor.name, what));
      };
      if (!names.insert(tensor.name).second) {
        return wrong(ErrorCode::kDataCorrupt, "stands in two files of the model");
      }
      if (tensor.name == kRopeFactors) continue;
      CheckpointTensor entry{HuggingFaceName(tensor.name), std::string(tensor.type_name),
                             FindDType(tensor.type_name), tensor.shape, tensor.data};
      entry.blocks = FindBlocks(tensor.type_name);
      if (!entry.dtype && entry.blocks == GgmlType::kNone) {
        return wrong(ErrorCode::kUnsupported,
                     fmt::format("expected elements of type F32, F16, BF16, Q8_0 or Q4_0, got {} "
                                 "(not supported yet); take the model's Q8_0, BF16 or F16 file",
                                 tensor.type_name));
      }
      const bool is_rotated =
          tensor.name.ends_with(".attn_q.weight") || tensor.name.ends_with(".attn_k.weight") ||
          tensor.name.ends_with(".attn_q.bias") || tensor.name.ends_with(".attn_k.bias");
      if (architecture.has_interleaved_heads && is_rotated) {
        if (tensor.shape.empty() || head_dim % 2 != 0 || tensor.shape[0] % head_dim != 0) {
          return wrong(ErrorCode::kDataCorrupt,
                       fmt::format("expected rows for whole heads of {} elements, an even number",
                                   head_dim));
        }
        entry.interleaved_head_dim = static_cast<int>(head_dim);
      }
      entries.push_back(std::move(entry));
    }
  }
  return entries;
}

}  // namespace gale
