#include "weights/gguf_model.h"

#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/status_macros.h"
#include "tensor/ggml_block.h"
#include "weights/gguf_architecture.h"

namespace gale {
namespace {

constexpr std::string_view kEnding = ".gguf";
constexpr std::string_view kFirstShard = "-00001-of-";
constexpr int64_t kMaxShards = 99999;  // five digits in a file's name

/// Part of the configuration, and no weights.
bool IsRopeTable(std::string_view name) {
  return name == "rope_freqs.weight" || name == "rope_factors_short.weight" ||
         name == "rope_factors_long.weight";
}

/// The tensors of the experts that are stacked in one: [experts, out, in], or biases [experts,
/// out].
std::vector<CheckpointTensor> SplitExperts(const CheckpointTensor& stacked) {
  constexpr std::string_view kNumber = "{}";
  const size_t at = stacked.name.find(kNumber);
  if (at == std::string::npos) return {stacked};
  const auto experts = static_cast<size_t>(stacked.shape[0]);
  const size_t bytes = stacked.data.size() / experts;
  std::vector<CheckpointTensor> tensors;
  for (size_t e = 0; e < experts; ++e) {
    CheckpointTensor& tensor = tensors.emplace_back(stacked);
    tensor.name.replace(at, kNumber.size(), std::to_string(e));
    tensor.shape.erase(tensor.shape.begin());
    tensor.data = stacked.data.subspan(e * bytes, bytes);
  }
  return tensors;
}

/// What of a kv_b_proj has the rows for values; `name` is that of the rows for keys.
std::string ValueRowsName(std::string_view name) {
  constexpr std::string_view kKeys = "attn_k_b";
  std::string value_name(name);
  return value_name.replace(value_name.rfind(kKeys), kKeys.size(), "attn_v_b");
}

/// Makes of the rows for keys the whole kv_b_proj (see CheckpointTensor::value_rows). False when
/// the two do not fit together.
bool MergeLatentHeads(const CheckpointTensor& values, CheckpointTensor& keys) {
  if (keys.shape.size() != 3 || values.shape.size() != 3) return false;
  if (keys.shape[0] < 1 || keys.shape[0] != values.shape[0] || keys.shape[1] != values.shape[2]) {
    return false;
  }
  keys.shape = {keys.shape[0] * (keys.shape[2] + values.shape[1]), keys.shape[1]};
  keys.value_rows = std::make_shared<CheckpointTensor>(values);
  return true;
}

std::vector<std::string_view> KnownBlockNames() {
  std::vector<std::string_view> names;
  for (const GgmlTypeInfo& info : kGgmlTypes) names.push_back(info.name);
  return names;
}

}  // namespace

std::optional<DType> GgufDType(std::string_view type_name) {
  if (type_name == "F32") return DType::kF32;
  if (type_name == "F16") return DType::kF16;
  if (type_name == "BF16") return DType::kBf16;
  return {};
}

GgmlType GgufBlocks(std::string_view type_name) {
  for (const GgmlTypeInfo& info : kGgmlTypes) {
    if (type_name == info.name) return info.type;
  }
  return GgmlType::kNone;
}

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

const GgufTensor* GgufModel::FindTensor(std::string_view name) const {
  for (const Gguf& part : parts) {
    for (const GgufTensor& tensor : part.tensors()) {
      if (tensor.name == name) return &tensor;
    }
  }
  return nullptr;
}

Result<CheckpointTensor> GgufModel::Entry(const GgufArchitecture& architecture,
                                          const GgufTensor& tensor) const {
  CheckpointTensor entry{HuggingFaceName(architecture, tensor.name), std::string(tensor.type_name),
                         GgufDType(tensor.type_name), tensor.shape, tensor.data};
  entry.blocks = GgufBlocks(tensor.type_name);
  if (entry.dtype || entry.blocks != GgmlType::kNone) return entry;
  return MakeError(
      ErrorCode::kUnsupported,
      fmt::format("{}: {}: expected elements of type F32, F16, BF16, {}, got {} (not supported); "
                  "take a file of the model in one of those",
                  parts[0].source(), tensor.name, fmt::join(KnownBlockNames(), ", "),
                  tensor.type_name));
}

Result<std::vector<CheckpointTensor>> GgufModel::Tensors() const {
  GALE_ASSIGN_OR_RETURN(const GgufArchitecture architecture, FindGgufArchitecture(parts[0]));
  int64_t head_dim = 0;
  if (architecture.has_interleaved_heads) {
    GALE_ASSIGN_OR_RETURN(head_dim, HeadDim());
  }
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
      const bool is_value_rows =
          architecture.has_latent_attention && tensor.name.ends_with(".attn_v_b.weight");
      if (IsRopeTable(tensor.name) || is_value_rows) continue;
      GALE_ASSIGN_OR_RETURN(CheckpointTensor entry, Entry(architecture, tensor));
      if (architecture.has_latent_attention && tensor.name.ends_with(".attn_k_b.weight")) {
        const GgufTensor* value_rows = FindTensor(ValueRowsName(tensor.name));
        if (value_rows == nullptr)
          return wrong(ErrorCode::kDataCorrupt, "has no attn_v_b beside it");
        GALE_ASSIGN_OR_RETURN(const CheckpointTensor values, Entry(architecture, *value_rows));
        if (!MergeLatentHeads(values, entry)) {
          return wrong(ErrorCode::kDataCorrupt, "does not have the heads of attn_v_b");
        }
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
      if (tensor.name.ends_with("norm.weight")) entry.offset = architecture.norm_offset;
      // At least a byte each: a number of experts is as hostile as any.
      const bool is_stack = entry.name.find("{}") != std::string::npos;
      if (is_stack && (tensor.shape.size() < 2 || tensor.shape[0] < 1 ||
                       static_cast<uint64_t>(tensor.shape[0]) > tensor.data.size())) {
        return wrong(ErrorCode::kDataCorrupt, "expected the tensors of all experts, stacked");
      }
      for (CheckpointTensor& single : SplitExperts(entry)) entries.push_back(std::move(single));
    }
  }
  return entries;
}

}  // namespace gale
