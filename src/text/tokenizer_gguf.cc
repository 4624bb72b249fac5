// Tokenizers out of GGUF files: byte-level BPE ("gpt2") and SentencePiece's BPE ("llama").
#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/gguf.h"
#include "base/mapped_file.h"
#include "base/status_macros.h"
#include "text/bpe.h"
#include "text/builtin_parts.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_impl.h"
#include "text/vocabulary_merges.h"
#include "text/word_splitter.h"

namespace gale {
namespace {

using text::AddedToken;
using text::SentencePieceModel;
using text::TokenizerConfig;
using Piece = SentencePieceModel::Piece;
using PieceType = Piece::Type;

constexpr char kTokens[] = "tokenizer.ggml.tokens";
constexpr char kTypes[] = "tokenizer.ggml.token_type";
constexpr char kScores[] = "tokenizer.ggml.scores";

/// What "tokenizer.ggml.pre" says about byte-level BPE.
struct PreTokenization {
  std::string_view name;
  std::string_view expression;  ///< cuts text into words
  bool is_nfc;                  ///< text is normalized first
  bool ignores_merges;          ///< words that are tokens stay whole
};
constexpr std::array kPreTokenizations = {
    PreTokenization{"gpt-2", text::kGpt2Expression, false, false},
    PreTokenization{"llama-bpe", text::kLlama3Expression, false, true},
    PreTokenization{"qwen2", text::kQwen2Expression, true, false},
    PreTokenization{"deepseek-r1-qwen", text::kQwen2Expression, false, false},
    PreTokenization{"gpt-4o", text::kO200kExpression, false, false},        // gpt-oss
    PreTokenization{"tekken", text::kTekkenExpression, false, true},        // Mistral NeMo
    PreTokenization{"dbrx", text::kLlama3Expression, false, false},         // Phi-4
    PreTokenization{"glm4", text::kLlama3Expression, false, false},         // GLM-4-0414
    PreTokenization{"chatglm-bpe", text::kLlama3Expression, false, false},  // GLM-4-9B
};

Result<PreTokenization> FindPreTokenization(const Gguf& gguf) {
  GALE_ASSIGN_OR_RETURN(const std::string_view name, gguf.String("tokenizer.ggml.pre"));
  std::vector<std::string_view> known;
  for (const PreTokenization& pre : kPreTokenizations) {
    if (pre.name == name) return pre;
    known.push_back(pre.name);
  }
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{}: tokenizer.ggml.pre: expected one of {}, got \"{}\" (not "
                               "supported)",
                               gguf.source(), fmt::join(known, ", "), name));
}

/// The tokens with their types and scores, where the file has these.
Result<std::vector<Piece>> ReadPieces(const Gguf& gguf) {
  GALE_ASSIGN_OR_RETURN(const auto tokens, gguf.Strings(kTokens));
  if (tokens.empty() || static_cast<int64_t>(tokens.size()) > text::kMaxTokenId) {
    return tl::unexpected(gguf.Wrong(kTokens, fmt::format("1 to {} tokens", text::kMaxTokenId)));
  }
  std::vector<Piece> pieces;
  for (const std::string_view token : tokens) pieces.push_back({token});
  const std::string one_each = fmt::format("{} items, one for each token", tokens.size());
  if (gguf.Has(kTypes)) {
    GALE_ASSIGN_OR_RETURN(const auto types, gguf.Numbers(kTypes));
    if (types.size() != tokens.size()) return tl::unexpected(gguf.Wrong(kTypes, one_each));
    for (size_t i = 0; i < types.size(); ++i) {
      if (!(types[i] >= 1 && types[i] <= 6)) {
        return tl::unexpected(gguf.Wrong(kTypes, "types from 1 to 6"));
      }
      pieces[i].type = static_cast<PieceType>(static_cast<int>(types[i]));
    }
  }
  if (gguf.Has(kScores)) {
    GALE_ASSIGN_OR_RETURN(const auto scores, gguf.Numbers(kScores));
    if (scores.size() != tokens.size()) return tl::unexpected(gguf.Wrong(kScores, one_each));
    for (size_t i = 0; i < scores.size(); ++i) pieces[i].score = static_cast<float>(scores[i]);
  }
  return pieces;
}

Result<bool> BoolOr(const Gguf& gguf, std::string_view key, bool fallback) {
  return gguf.Has(key) ? gguf.Bool(key) : Result<bool>(fallback);
}

/// The id that "tokenizer.ggml.NAME_token_id" tells.
Result<std::optional<TokenId>> SpecialId(const Gguf& gguf, std::string_view name, size_t tokens) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  if (!gguf.Has(key)) return std::optional<TokenId>();
  GALE_ASSIGN_OR_RETURN(const int64_t id, gguf.Int(key, 0, static_cast<int64_t>(tokens) - 1));
  return std::optional(static_cast<TokenId>(id));
}

/// What stands around texts.
Result<TokenizerConfig> ReadEnds(const Gguf& gguf, const std::vector<Piece>& pieces, bool add_bos) {
  TokenizerConfig config;
  GALE_ASSIGN_OR_RETURN(const auto bos, SpecialId(gguf, "bos", pieces.size()));
  GALE_ASSIGN_OR_RETURN(const auto eos, SpecialId(gguf, "eos", pieces.size()));
  if (bos) config.bos_token = pieces[static_cast<size_t>(*bos)].text;
  if (eos) config.eos_token = pieces[static_cast<size_t>(*eos)].text;
  GALE_ASSIGN_OR_RETURN(config.add_bos_token,
                        BoolOr(gguf, "tokenizer.ggml.add_bos_token", add_bos));
  GALE_ASSIGN_OR_RETURN(config.add_eos_token, BoolOr(gguf, "tokenizer.ggml.add_eos_token", false));
  return config;
}

}  // namespace

Result<std::unique_ptr<Tokenizer::Impl>> Tokenizer::Impl::FromGguf(const std::string& path) {
  GALE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  GALE_ASSIGN_OR_RETURN(const Gguf gguf, Gguf::Parse(file.bytes(), path));
  constexpr std::string_view kModel = "tokenizer.ggml.model";
  if (!gguf.Has(kModel)) {
    return MakeError(ErrorCode::kNotFound, fmt::format("{}: the file has no tokenizer", path));
  }
  GALE_ASSIGN_OR_RETURN(const std::string_view model, gguf.String(kModel));
  if (model != "gpt2" && model != "llama") {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{}: {}: expected \"gpt2\" or \"llama\", got \"{}\" (not "
                                 "supported)",
                                 path, kModel, model));
  }
  GALE_ASSIGN_OR_RETURN(std::vector<Piece> pieces, ReadPieces(gguf));
  GALE_ASSIGN_OR_RETURN(TokenizerConfig config, ReadEnds(gguf, pieces, model == "llama"));
  if (model == "llama") {
    SentencePieceModel sentencepiece;
    GALE_ASSIGN_OR_RETURN(sentencepiece.normalizer.add_dummy_prefix,
                          BoolOr(gguf, "tokenizer.ggml.add_space_prefix", true));
    GALE_ASSIGN_OR_RETURN(sentencepiece.normalizer.remove_extra_whitespaces,
                          BoolOr(gguf, "tokenizer.ggml.remove_extra_whitespaces", false));
    sentencepiece.algorithm = SentencePieceModel::Algorithm::kBpe;
    sentencepiece.byte_fallback = std::any_of(
        pieces.begin(), pieces.end(), [](const Piece& p) { return p.type == PieceType::kByte; });
    sentencepiece.pieces = std::move(pieces);
    if (Status status = sentencepiece.CheckPieces(); !status) {
      return MakeError(status.error().code, fmt::format("{}: {}", path, status.error().message));
    }
    return FromSentencePiece(std::move(sentencepiece), std::move(config));
  }

  GALE_ASSIGN_OR_RETURN(const PreTokenization pre, FindPreTokenization(gguf));
  std::string merges_text;
  GALE_ASSIGN_OR_RETURN(const auto lines, gguf.Strings("tokenizer.ggml.merges"));
  for (const std::string_view line : lines) merges_text.append(line).push_back('\n');
  std::vector<std::string_view> spellings;
  std::vector<AddedToken> added;
  for (size_t i = 0; i < pieces.size(); ++i) {
    spellings.push_back(pieces[i].text);
    if (pieces[i].text.empty()) continue;
    if (pieces[i].type != PieceType::kControl && pieces[i].type != PieceType::kUserDefined)
      continue;
    added.push_back(AddedToken::Special(pieces[i].text, static_cast<TokenId>(i)));
    added.back().special = pieces[i].type == PieceType::kControl;
  }
  auto impl = std::make_unique<Impl>();
  text::Vocabulary vocabulary = text::Vocabulary::FromList(spellings);
  auto merges = text::ParseMergesText(merges_text, vocabulary);
  if (!merges) {
    return MakeError(merges.error().code, fmt::format("{}: {}", path, merges.error().message));
  }
  if (pre.is_nfc) {
    GALE_ASSIGN_OR_RETURN(impl->normalizer,
                          text::PartFromJson<text::Normalizer>(R"({"type": "NFC"})"));
  }
  GALE_ASSIGN_OR_RETURN(impl->pre_tokenizer, text::WordsOf(pre.expression));
  GALE_ASSIGN_OR_RETURN(impl->decoder,
                        text::PartFromJson<text::Decoder>(R"({"type": "ByteLevel"})"));
  GALE_ASSIGN_OR_RETURN(impl->added_tokens,
                        text::AddedTokens::FromList(std::move(added), impl->normalizer));
  text::Bpe::Options options{};
  options.ignore_merges = pre.ignores_merges;
  impl->model =
      std::make_unique<text::Bpe>(std::move(vocabulary), *std::move(merges), std::move(options));
  impl->AddEnds(config, false, false);
  impl->FinishLoading();
  return impl;
}

}  // namespace gale
