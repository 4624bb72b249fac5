// Tokenizers from the files of other libraries than `tokenizers`, put together from the same parts.
#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "text/bpe.h"
#include "text/builtin_parts.h"
#include "text/sentencepiece.h"
#include "text/tiktoken.h"
#include "text/tokenizer_impl.h"
#include "text/unigram.h"
#include "text/vocabulary_merges.h"
#include "text/word_splitter.h"

namespace gale {
namespace {

using text::AddedToken;
using text::PartFromJson;
using text::SentencePieceModel;
using text::TokenizerConfig;
using text::WordsOf;
using PieceType = SentencePieceModel::Piece::Type;

/// The highest score has rank 0; equal scores have equal ranks, so that the left pair goes first.
std::vector<uint32_t> RanksByScore(const SentencePieceModel& model) {
  std::vector<float> scores;
  for (const auto& piece : model.pieces) scores.push_back(-piece.score);
  std::vector<float> sorted = scores;
  std::sort(sorted.begin(), sorted.end());
  std::vector<uint32_t> ranks;
  for (size_t i = 0; i < scores.size(); ++i) {
    const PieceType type = model.pieces[i].type;
    const auto position = std::lower_bound(sorted.begin(), sorted.end(), scores[i]);
    const bool merges = type == PieceType::kNormal || type == PieceType::kUserDefined;
    ranks.push_back(merges ? static_cast<uint32_t>(position - sorted.begin())
                           : text::MergeTable::kNoRank);
  }
  return ranks;
}

std::unique_ptr<text::TokenModel> UnigramOf(const SentencePieceModel& model) {
  std::vector<text::Unigram::Piece> pieces;
  for (const auto& piece : model.pieces) {
    const bool is_user_defined = piece.type == PieceType::kUserDefined;
    const bool is_in_text = is_user_defined || piece.type == PieceType::kNormal;
    // SentencePiece's bonus, with which user-defined pieces win over what else text can become.
    const double bonus = 0.1 * static_cast<double>(piece.text.size()) - 0.1;
    pieces.push_back({piece.text, is_user_defined ? bonus : piece.score, is_in_text});
  }
  return std::make_unique<text::Unigram>(
      pieces, text::Unigram::Options{model.unk, model.byte_fallback, /*single_precision=*/true});
}

Result<std::unique_ptr<text::TokenModel>> ModelOf(const SentencePieceModel& model) {
  if (model.algorithm == SentencePieceModel::Algorithm::kUnigram) return UnigramOf(model);
  std::vector<std::string_view> tokens;
  for (const auto& piece : model.pieces) {
    if (piece.type == PieceType::kUnused) {
      return MakeError(ErrorCode::kUnsupported,
                       fmt::format("SentencePiece model: BPE with the unused piece \"{}\" is not "
                                   "supported; train or export it without",
                                   piece.text));
    }
    tokens.push_back(piece.text);
  }
  text::Vocabulary vocabulary = text::Vocabulary::FromList(tokens);
  text::MergeTable merges = text::MergesByRank(vocabulary, RanksByScore(model));
  text::Bpe::Options options{};
  options.unk = model.unk;
  options.fuse_unk = true;
  options.byte_fallback = model.byte_fallback;
  return std::make_unique<text::Bpe>(std::move(vocabulary), std::move(merges), options);
}

/// Adds the configuration's tokens whose ids and spellings are free.
void AddConfigured(const TokenizerConfig& config, std::vector<AddedToken>* tokens) {
  for (const AddedToken& added : config.added_tokens) {
    const bool is_taken = std::any_of(tokens->begin(), tokens->end(), [&](const AddedToken& token) {
      return token.id == added.id || token.content == added.content;
    });
    if (!is_taken) tokens->push_back(added);
  }
}

}  // namespace

void Tokenizer::Impl::FinishLoading() {
  if (pre_tokenizer.EndsInByteLevel() && model->TakeBytes()) pre_tokenizer.LeaveBytes();
  vocab_size = model->vocabulary().size();
  for (const AddedToken& token : added_tokens.tokens()) {
    vocab_size = std::max(vocab_size, token.id + 1);
  }
}

void Tokenizer::Impl::AddEnds(const TokenizerConfig& config, bool add_bos, bool add_eos) {
  const auto ids_of = [this](const std::string& spelling) {
    const AddedToken* token = added_tokens.FindContent(spelling);
    return token == nullptr ? std::vector<TokenId>() : std::vector<TokenId>{token->id};
  };
  post_processor.Wrap(
      config.add_bos_token.value_or(add_bos) ? ids_of(config.bos_token) : std::vector<TokenId>(),
      config.add_eos_token.value_or(add_eos) ? ids_of(config.eos_token) : std::vector<TokenId>());
}

Result<std::unique_ptr<Tokenizer::Impl>> Tokenizer::Impl::FromSentencePiece(
    std::string_view file, TokenizerConfig config) {
  GALE_ASSIGN_OR_RETURN(SentencePieceModel model, SentencePieceModel::Parse(file));
  return FromSentencePiece(std::move(model), std::move(config));
}

Result<std::unique_ptr<Tokenizer::Impl>> Tokenizer::Impl::FromSentencePiece(
    SentencePieceModel model, TokenizerConfig config) {
  auto impl = std::make_unique<Impl>();
  GALE_ASSIGN_OR_RETURN(impl->model, ModelOf(model));
  std::vector<AddedToken> tokens;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& piece = model.pieces[i];
    const auto id = static_cast<TokenId>(i);
    if (piece.type == PieceType::kControl || piece.type == PieceType::kUnknown) {
      tokens.push_back(AddedToken::Special(piece.text, id));
    } else if (piece.type == PieceType::kUserDefined &&
               model.algorithm == SentencePieceModel::Algorithm::kBpe) {
      AddedToken token = AddedToken::Special(piece.text, id);
      token.special = false;
      token.normalized = true;  // found behind the normalizer, which leaves it alone
      tokens.push_back(std::move(token));
    }
  }
  AddConfigured(config, &tokens);
  GALE_ASSIGN_OR_RETURN(impl->added_tokens,
                        text::AddedTokens::FromList(std::move(tokens), text::Normalizer()));
  const auto& rules = model.normalizer;
  using DummyPrefix = text::Decoder::DummyPrefix;
  impl->decoder = text::Decoder::SentencePiece(rules.remove_extra_whitespaces ? DummyPrefix::kAll
                                               : rules.add_dummy_prefix       ? DummyPrefix::kFirst
                                                                              : DummyPrefix::kNone);
  impl->normalizer = text::Normalizer(std::move(model.normalizer));
  if (model.bos) config.bos_token = model.pieces[static_cast<size_t>(*model.bos)].text;
  if (model.eos) config.eos_token = model.pieces[static_cast<size_t>(*model.eos)].text;
  impl->AddEnds(config, model.bos.has_value(), !model.bos.has_value());
  impl->FinishLoading();
  return impl;
}

Result<std::unique_ptr<Tokenizer::Impl>> Tokenizer::Impl::FromTiktoken(std::string_view file,
                                                                       std::string_view file_name,
                                                                       TokenizerConfig config) {
  GALE_ASSIGN_OR_RETURN(text::Vocabulary vocabulary, text::ParseTiktokenRanks(file));
  GALE_ASSIGN_OR_RETURN(
      const text::TiktokenEncoding encoding,
      text::FindTiktokenEncoding(file_name, config.tokenizer_class, vocabulary.size()));
  auto impl = std::make_unique<Impl>();
  std::vector<AddedToken> tokens;
  AddConfigured(config, &tokens);
  TokenizerConfig known;
  for (size_t i = 0; i < encoding.special.size(); ++i) {
    const auto id = vocabulary.size() + static_cast<TokenId>(i);
    if (!encoding.special[i].empty()) {
      known.added_tokens.push_back(AddedToken::Special(encoding.special[i], id));
    }
  }
  AddConfigured(known, &tokens);
  GALE_ASSIGN_OR_RETURN(impl->added_tokens,
                        text::AddedTokens::FromList(std::move(tokens), text::Normalizer()));
  GALE_ASSIGN_OR_RETURN(impl->pre_tokenizer, WordsOf(encoding.pattern));
  GALE_ASSIGN_OR_RETURN(impl->decoder, PartFromJson<text::Decoder>(R"({"type": "ByteLevel"})"));

  std::vector<uint32_t> ranks(static_cast<size_t>(vocabulary.size()));
  for (size_t i = 0; i < ranks.size(); ++i) ranks[i] = static_cast<uint32_t>(i);
  text::MergeTable merges = text::MergesByRank(vocabulary, ranks);
  text::Bpe::Options options{};
  options.ignore_merges = true;
  impl->model =
      std::make_unique<text::Bpe>(std::move(vocabulary), std::move(merges), std::move(options));
  if (config.bos_token.empty()) config.bos_token = encoding.bos;
  impl->AddEnds(config, !encoding.bos.empty(), false);
  impl->FinishLoading();
  return impl;
}

Result<std::unique_ptr<Tokenizer::Impl>> Tokenizer::Impl::FromVocabularyAndMerges(
    std::string_view vocabulary_json, std::string_view merges_text, const TokenizerConfig& config) {
  std::string_view kind = config.tokenizer_class;
  if (kind.ends_with("Fast")) kind.remove_suffix(4);
  if (kind != "" && kind != "GPT2Tokenizer" && kind != "Qwen2Tokenizer") {
    return MakeError(
        ErrorCode::kUnsupported,
        fmt::format("tokenizer_config.json: tokenizer_class: vocab.json with merges.txt "
                    "is read for GPT2Tokenizer and Qwen2Tokenizer, got \"{}\"; save "
                    "the tokenizer as tokenizer.json",
                    config.tokenizer_class));
  }
  auto impl = std::make_unique<Impl>();
  GALE_ASSIGN_OR_RETURN(const JsonDocument document,
                        JsonDocument::Parse(vocabulary_json, "vocab.json"));
  GALE_ASSIGN_OR_RETURN(text::Vocabulary vocabulary, text::Vocabulary::Parse(document.root()));
  GALE_ASSIGN_OR_RETURN(text::MergeTable merges, text::ParseMergesText(merges_text, vocabulary));
  std::vector<AddedToken> tokens;
  AddConfigured(config, &tokens);
  // Both families end texts with it, whatever their files say.
  constexpr std::string_view kEndOfText = "<|endoftext|>";
  if (const auto id = vocabulary.Find(kEndOfText)) {
    TokenizerConfig known;
    known.added_tokens = {AddedToken::Special(kEndOfText, *id)};
    AddConfigured(known, &tokens);
  }
  if (kind == "Qwen2Tokenizer") {
    GALE_ASSIGN_OR_RETURN(impl->normalizer, PartFromJson<text::Normalizer>(R"({"type": "NFC"})"));
    GALE_ASSIGN_OR_RETURN(impl->pre_tokenizer, WordsOf(text::kQwen2Expression));
  } else {
    GALE_ASSIGN_OR_RETURN(
        impl->pre_tokenizer,
        PartFromJson<text::PreTokenizer>(fmt::format(
            R"({{"type": "ByteLevel", "add_prefix_space": {}}})", config.add_prefix_space)));
  }
  GALE_ASSIGN_OR_RETURN(impl->decoder, PartFromJson<text::Decoder>(R"({"type": "ByteLevel"})"));
  GALE_ASSIGN_OR_RETURN(impl->added_tokens,
                        text::AddedTokens::FromList(std::move(tokens), impl->normalizer));
  impl->model =
      std::make_unique<text::Bpe>(std::move(vocabulary), std::move(merges), text::Bpe::Options{});
  impl->AddEnds(config, false, false);
  impl->FinishLoading();
  return impl;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromSentencePiece(std::string_view model_file) {
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<Impl> impl, Impl::FromSentencePiece(model_file, {}));
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromFolder(const std::string& folder) {
  namespace fs = std::filesystem;
  const fs::path path(folder);
  const auto is_there = [&](std::string_view name) { return fs::is_regular_file(path / name); };
  const auto read = [&](std::string_view name) {
    return text::ReadTextFile((path / name).string());
  };
  const auto wrap = [](std::unique_ptr<Impl> impl) {
    return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
  };
  const auto in = [](const fs::path& place) {
    return [place = place.string()](Error error) {
      error.message = fmt::format("{}: {}", place, error.message);
      return error;
    };
  };
  if (folder.ends_with(".gguf") && fs::is_regular_file(path))
    return Impl::FromGguf(folder).map(wrap);
  if (is_there("tokenizer.json")) return FromJsonFile((path / "tokenizer.json").string());

  GALE_ASSIGN_OR_RETURN(const TokenizerConfig config, TokenizerConfig::FromFolder(folder));
  constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kPairs = {
      {{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}};
  for (const auto& [vocabulary, merges] : kPairs) {
    if (!is_there(vocabulary) || !is_there(merges)) continue;
    GALE_ASSIGN_OR_RETURN(const std::string vocabulary_json, read(vocabulary));
    GALE_ASSIGN_OR_RETURN(const std::string merges_text, read(merges));
    return Impl::FromVocabularyAndMerges(vocabulary_json, merges_text, config)
        .map_error(in(path))
        .map(wrap);
  }
  std::vector<std::string> names = {"tokenizer.model", "spiece.model", "sentencepiece.model",
                                    "tiktoken.model"};
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path, error)) {
    if (entry.path().extension() == ".tiktoken") names.push_back(entry.path().filename().string());
  }
  for (const std::string& name : names) {
    if (!is_there(name)) continue;
    GALE_ASSIGN_OR_RETURN(const std::string file, read(name));
    if (text::LooksLikeTiktoken(file)) {
      return Impl::FromTiktoken(file, name, config).map_error(in(path)).map(wrap);
    }
    return Impl::FromSentencePiece(file, config).map_error(in(path / name)).map(wrap);
  }
  return MakeError(ErrorCode::kNotFound,
                   fmt::format("{}: no tokenizer here; looked for tokenizer.json, vocab.json with "
                               "merges.txt, encoder.json with vocab.bpe, tokenizer.model, "
                               "spiece.model, sentencepiece.model, tiktoken.model and *.tiktoken",
                               folder));
}

}  // namespace gale
