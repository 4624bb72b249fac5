#include "quantize/gguf_export.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include <fmt/format.h>

#include "base/json.h"
#include "base/status_macros.h"
#include "gale/tokenizer.h"
#include "quantize/gguf_file.h"
#include "quantize/layer_quantizer.h"
#include "quantize/super_block.h"
#include "quantize/whole_file.h"
#include "text/word_splitter.h"
#include "weights/float_convert.h"
#include "weights/gguf_architecture.h"
#include "weights/json_file.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

/// ggml's numbers of its types.
uint32_t TypeNumber(GgmlType type) {
  switch (type) {
    case GgmlType::kQ4_0: return 2;
    case GgmlType::kQ8_0: return 8;
    case GgmlType::kQ4K: return 12;
    case GgmlType::kQ6K: return 14;
    default: return 0;  // f32
  }
}
constexpr uint32_t kF16Number = 1;
constexpr uint32_t kBf16Number = 30;

/// How one tensor is stored.
struct Storage {
  std::string name;
  GgmlType blocks = GgmlType::kNone;
  DType dtype = DType::kF32;  ///< without blocks

  uint32_t type() const {
    if (blocks != GgmlType::kNone || dtype == DType::kF32) return TypeNumber(blocks);
    return dtype == DType::kF16 ? kF16Number : kBf16Number;
  }
  uint64_t BytesOf(const CheckpointTensor& tensor) const {
    uint64_t elements = 1;
    for (const int64_t dim : tensor.shape) elements *= static_cast<uint64_t>(dim);
    const GgmlTypeInfo info = GgmlInfo(blocks);
    if (blocks == GgmlType::kNone) return elements * DTypeBytes(dtype);
    return elements / static_cast<uint64_t>(info.elements) * static_cast<uint64_t>(info.bytes);
  }
};

Result<Storage> StorageOf(const CheckpointTensor& tensor, GgmlType type) {
  Storage storage{.name = GgufName(tensor.name)};
  if (storage.name.empty() || !tensor.dtype) {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{}: GGUF has no name for such a tensor", tensor.name));
  }
  if (IsQuantizable(tensor)) {
    GALE_ASSIGN_OR_RETURN(storage.blocks, BlockTypeOf(tensor, type));
  } else if (tensor.shape.size() > 1) {
    storage.dtype = *tensor.dtype;
  }
  return storage;
}

/// llama.cpp rotates neighbours: of each head of q and k, row i of the first half is followed by
/// row i of the second.
Matrix Interleaved(const Matrix& weight, int64_t head_dim) {
  Matrix result(weight.rows(), weight.cols());
  for (int64_t row = 0; row < weight.rows(); ++row) {
    const int64_t at = row % head_dim;
    result.row(row) = weight.row(row - at + at / 2 + at % 2 * head_dim / 2);
  }
  return result;
}

Result<std::string> BytesOf(const CheckpointTensor& tensor, const Storage& storage,
                            int64_t interleaved_head_dim, ThreadPool& threads) {
  const int64_t rows = tensor.shape[0];
  const int64_t columns = tensor.shape.size() == 1 ? 1 : tensor.shape[1];
  Matrix matrix(rows, columns);
  ConvertElements(tensor.data, *tensor.dtype,
                  TensorView(matrix.data(), DType::kF32, {rows, columns}));
  if (interleaved_head_dim > 0) matrix = Interleaved(matrix, interleaved_head_dim);
  if (storage.blocks != GgmlType::kNone) return ToGgmlBlocks(matrix, storage.blocks, threads);
  return ToBytes({matrix.data(), static_cast<size_t>(matrix.size())}, storage.dtype);
}

Status AddModel(const HfConfig& config, std::string_view name, GgufHeader& header) {
  if (config.rope.type != RopeType::kDefault || config.rotary_dim != config.head_dim) {
    return MakeError(ErrorCode::kUnsupported, "GGUF: expected a model without rope scaling");
  }
  const auto count = [&](std::string_view key, int value) {
    header.Add(fmt::format("{}.{}", name, key), static_cast<uint32_t>(value));
  };
  header.Add("general.architecture", name);
  count("context_length", config.max_position);
  count("embedding_length", config.hidden_size);
  count("block_count", config.num_layers);
  count("feed_forward_length", config.intermediate_size);
  count("attention.head_count", config.num_heads);
  count("attention.head_count_kv", config.num_kv_heads);
  count("attention.key_length", config.head_dim);
  count("attention.value_length", config.head_dim);
  header.Add(fmt::format("{}.attention.layer_norm_rms_epsilon", name),
             static_cast<float>(config.rms_norm_eps));
  header.Add(fmt::format("{}.rope.freq_base", name), static_cast<float>(config.rope.theta));
  constexpr std::array kEnds = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"};
  for (size_t i = 0; i < std::min(kEnds.size(), config.eos_token_ids.size()); ++i) {
    header.Add(kEnds[i], static_cast<uint32_t>(config.eos_token_ids[i]));
  }
  return {};
}

/// The name of the expression that cuts text into words.
Result<std::string_view> PreTokenization(const JsonObject& tokenizer) {
  constexpr std::array kNames = {std::pair{text::kGpt2Expression, "gpt-2"},
                                 std::pair{text::kLlama3Expression, "llama-bpe"},
                                 std::pair{text::kQwen2Expression, "qwen2"}};
  const auto unknown =
      MakeError(ErrorCode::kUnsupported,
                "GGUF: expected a byte-level BPE that cuts text as gpt-2, llama-bpe or qwen2 do");
  const auto pre = tokenizer.Find("pre_tokenizer");
  if (!pre) return unknown;
  GALE_ASSIGN_OR_RETURN(const JsonObject outer, pre->Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue type, outer.Get("type"));
  GALE_ASSIGN_OR_RETURN(const std::string_view type_name, type.String());
  if (type_name == "ByteLevel") return "gpt-2";
  const auto parts = outer.Find("pretokenizers");
  if (!parts) return unknown;
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, parts->Items());
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(const JsonObject part, item.Object());
    const auto pattern = part.Find("pattern");
    if (!pattern) continue;
    GALE_ASSIGN_OR_RETURN(const JsonObject kind, pattern->Object());
    GALE_ASSIGN_OR_RETURN(const JsonValue regex, kind.Get("Regex"));
    GALE_ASSIGN_OR_RETURN(const std::string_view expression, regex.String());
    for (const auto& [known, name] : kNames) {
      if (known == expression) return name;
    }
  }
  return unknown;
}

Status AddTokenizer(const std::string& folder, int vocab_size, GgufHeader& header) {
  const std::string path = fs::path(folder) / "tokenizer.json";
  GALE_ASSIGN_OR_RETURN(const MappedFile file, OpenJsonFile(path));
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(file.text(), path));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue model_value, root.Get("model"));
  GALE_ASSIGN_OR_RETURN(const JsonObject model, model_value.Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue vocab, model.Get("vocab"));
  GALE_ASSIGN_OR_RETURN(const JsonObject words, vocab.Object());
  enum : int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };
  const auto size = static_cast<size_t>(vocab_size);
  std::vector<std::string> tokens(size);
  std::vector<int32_t> types(size, kUnused);
  for (size_t i = 0; i < size; ++i) tokens[i] = fmt::format("[PAD{}]", i);
  GALE_RETURN_IF_ERROR(words.ForEach([&](std::string_view word, const JsonValue& id) -> Status {
    GALE_ASSIGN_OR_RETURN(const int64_t at, id.Int(0, vocab_size - 1));
    tokens[static_cast<size_t>(at)] = word;
    types[static_cast<size_t>(at)] = kNormal;
    return {};
  }));
  if (const auto added = root.Find("added_tokens")) {
    GALE_RETURN_IF_ERROR(added->ForEachItem([&](const JsonValue& item) -> Status {
      GALE_ASSIGN_OR_RETURN(const JsonObject token, item.Object());
      GALE_ASSIGN_OR_RETURN(const JsonValue id, token.Get("id"));
      GALE_ASSIGN_OR_RETURN(const int64_t at, id.Int(0, vocab_size - 1));
      GALE_ASSIGN_OR_RETURN(const JsonValue content, token.Get("content"));
      GALE_ASSIGN_OR_RETURN(tokens[static_cast<size_t>(at)], content.String());
      GALE_ASSIGN_OR_RETURN(const JsonValue special, token.Get("special"));
      GALE_ASSIGN_OR_RETURN(const bool is_special, special.Bool());
      types[static_cast<size_t>(at)] = is_special ? kControl : kUserDefined;
      return {};
    }));
  }
  std::vector<std::string> merges;
  GALE_ASSIGN_OR_RETURN(const JsonValue merge_list, model.Get("merges"));
  GALE_RETURN_IF_ERROR(merge_list.ForEachItem([&](const JsonValue& merge) -> Status {
    if (merge.is_string()) {
      GALE_ASSIGN_OR_RETURN(const std::string_view pair, merge.String());
      merges.emplace_back(pair);
      return {};
    }
    GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> pair, merge.Items());
    if (pair.size() != 2) return tl::unexpected(merge.Wrong("two tokens"));
    GALE_ASSIGN_OR_RETURN(const std::string_view left, pair[0].String());
    GALE_ASSIGN_OR_RETURN(const std::string_view right, pair[1].String());
    merges.push_back(fmt::format("{} {}", left, right));
    return {};
  }));
  GALE_ASSIGN_OR_RETURN(const std::string_view pre, PreTokenization(root));
  header.Add("tokenizer.ggml.model", std::string_view("gpt2"));
  header.Add("tokenizer.ggml.pre", pre);
  header.Add("tokenizer.ggml.tokens", std::span<const std::string>(tokens));
  header.Add("tokenizer.ggml.token_type", std::span<const int32_t>(types));
  header.Add("tokenizer.ggml.merges", std::span<const std::string>(merges));
  // What begins every text.
  GALE_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::FromFolder(folder));
  const std::vector<TokenId> begin = tokenizer->Encode("");
  header.Add("tokenizer.ggml.add_bos_token", !begin.empty());
  if (!begin.empty()) {
    header.Add("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(begin.front()));
  }
  return {};
}

Status AddChatTemplate(const std::string& folder, GgufHeader& header) {
  std::ifstream file(fs::path(folder) / "chat_template.jinja", std::ios::binary);
  if (file) {
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    header.Add("tokenizer.chat_template", text);
    return {};
  }
  const std::string path = fs::path(folder) / "tokenizer_config.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  GALE_ASSIGN_OR_RETURN(const MappedFile config, OpenJsonFile(path));
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(config.text(), path));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  const auto chat = root.Find("chat_template");
  if (!chat || !chat->is_string()) return {};
  GALE_ASSIGN_OR_RETURN(const std::string_view text, chat->String());
  header.Add("tokenizer.chat_template", text);
  return {};
}

}  // namespace

Result<GgmlType> BlockTypeOf(const CheckpointTensor& tensor, GgmlType type) {
  const int64_t in = tensor.shape.back();
  if (in % GgmlInfo(type).elements == 0) return type;
  if (in % kGgmlBlockElements == 0) return GgmlType::kQ8_0;
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("{} has {} inputs: ggml's blocks need a multiple of {}", tensor.name,
                               in, kGgmlBlockElements));
}

Status ExportGguf(const ModelSource& source, const Checkpoint& checkpoint, GgmlType type,
                  const std::string& path, ThreadPool& threads,
                  const std::function<void(const CheckpointTensor&)>& done) {
  std::error_code ignored;
  if (!path.ends_with(".gguf") || fs::exists(path, ignored)) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: expected the name of a .gguf file that does not exist", path));
  }
  const GgufArchitecture* architecture = FindPlainArchitecture(source.config.architecture);
  if (architecture == nullptr) {
    return MakeError(
        ErrorCode::kUnsupported,
        fmt::format("{} as GGUF: expected a dense Llama, Qwen2 or Qwen3; other schemes "
                    "take every model",
                    source.config.architecture));
  }
  GgufHeader header;
  GALE_RETURN_IF_ERROR(AddModel(source.config, architecture->name, header));
  GALE_RETURN_IF_ERROR(AddTokenizer(source.folder, source.config.vocab_size, header));
  GALE_RETURN_IF_ERROR(AddChatTemplate(source.folder, header));
  std::vector<std::pair<const CheckpointTensor*, Storage>> tensors;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    // Tied embeddings are there under either name, or both.
    const bool is_tied = source.config.tie_word_embeddings && tensor.name == "lm_head.weight";
    if (is_tied && checkpoint.Find("model.embed_tokens.weight") != nullptr) continue;
    GALE_ASSIGN_OR_RETURN(Storage storage, StorageOf(tensor, type));
    if (is_tied) storage.name = GgufName("model.embed_tokens.weight");
    header.AddTensor(storage.name, tensor.shape, storage.type(), storage.BytesOf(tensor));
    tensors.emplace_back(&tensor, std::move(storage));
  }
  WholeFile file(path);
  const std::string front = header.Bytes();
  GALE_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(front))));
  for (const auto& [tensor, storage] : tensors) {
    const bool is_rotated = tensor->name.find(".q_proj.") != std::string::npos ||
                            tensor->name.find(".k_proj.") != std::string::npos;
    const int64_t head_dim =
        architecture->has_interleaved_heads && is_rotated ? source.config.head_dim : 0;
    GALE_ASSIGN_OR_RETURN(std::string bytes, BytesOf(*tensor, storage, head_dim, threads));
    bytes.append(GgufHeader::Padding(bytes.size()), '\0');
    GALE_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(bytes))));
    done(*tensor);
  }
  return file.Finish();
}

}  // namespace gale
