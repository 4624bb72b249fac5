#include "text/bpe.h"

#include <fmt/format.h>

#include "base/status_macros.h"
#include "text/byte_level.h"
#include "text/component.h"
#include "text/utf8.h"
#include "text/word_merger.h"

namespace gale::text {
namespace {

// From here on a piece of bytes is worth looking for cuts in it.
constexpr size_t kMinBytesToCut = 4;

/// The two halves of a merge: "a b" or ["a", "b"].
Result<std::pair<std::string_view, std::string_view>> ParseMerge(const JsonValue& value) {
  if (value.is_array()) {
    GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> halves, value.Items());
    if (halves.size() != 2) return tl::unexpected(value.Wrong("two tokens"));
    GALE_ASSIGN_OR_RETURN(const std::string_view left, halves[0].String());
    GALE_ASSIGN_OR_RETURN(const std::string_view right, halves[1].String());
    return std::pair(left, right);
  }
  GALE_ASSIGN_OR_RETURN(const std::string_view line, value.String());
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    return tl::unexpected(value.Wrong("two tokens separated by one space"));
  }
  return std::pair(line.substr(0, space), line.substr(space + 1));
}

/// Byte fallback marks what came from SentencePiece. Affixes and whole pieces depend on their ends.
bool HasSafeCuts(const Bpe::Options& options) {
  return options.byte_fallback && !options.ignore_merges && options.prefix.empty() &&
         options.suffix.empty();
}

}  // namespace

Bpe::Bpe(Vocabulary vocabulary, MergeTable merges, Options options, std::optional<SafeCuts> cuts,
         std::optional<ByteCuts> byte_cuts)
    : TokenModel(std::move(vocabulary)),
      merges_(std::move(merges)),
      options_(std::move(options)),
      cuts_(std::move(cuts)),
      byte_cuts_(std::move(byte_cuts)) {}

Bpe::Bpe(Vocabulary vocabulary, MergeTable merges, Options options)
    : Bpe(std::move(vocabulary), std::move(merges), std::move(options), std::nullopt,
          std::nullopt) {
  if (HasSafeCuts(options_)) cuts_.emplace(this->vocabulary());
}

Result<std::unique_ptr<TokenModel>> Bpe::Parse(const JsonObject& model) {
  GALE_ASSIGN_OR_RETURN(const JsonValue vocab, model.Get("vocab"));
  GALE_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Parse(vocab));
  GALE_ASSIGN_OR_RETURN(Options options, ParseOptions(model, vocabulary));
  GALE_ASSIGN_OR_RETURN(MergeTable merges, ParseMerges(model, vocabulary, options.prefix));
  return std::unique_ptr<TokenModel>(
      new Bpe(std::move(vocabulary), std::move(merges), std::move(options)));
}

Result<Bpe::Options> Bpe::ParseOptions(const JsonObject& model, const Vocabulary& vocabulary) {
  Options options;
  if (const auto dropout = model.Find("dropout")) {
    GALE_ASSIGN_OR_RETURN(const double probability, dropout->Number(0, 1));
    if (probability != 0) {
      return MakeError(
          ErrorCode::kUnsupported,
          fmt::format("tokenizer.json: {}: merges that are left out at random ({}) are "
                      "for training and not supported; set it to null",
                      dropout->path(), probability));
    }
  }
  GALE_ASSIGN_OR_RETURN(options.fuse_unk, BoolOr(model, "fuse_unk", false));
  GALE_ASSIGN_OR_RETURN(options.byte_fallback, BoolOr(model, "byte_fallback", false));
  GALE_ASSIGN_OR_RETURN(options.ignore_merges, BoolOr(model, "ignore_merges", false));
  GALE_ASSIGN_OR_RETURN(options.prefix, StringOr(model, "continuing_subword_prefix", ""));
  GALE_ASSIGN_OR_RETURN(options.suffix, StringOr(model, "end_of_word_suffix", ""));
  if (const auto unk = model.Find("unk_token")) {
    GALE_ASSIGN_OR_RETURN(const std::string_view token, unk->String());
    options.unk = vocabulary.Find(token);
    if (!options.unk) return tl::unexpected(unk->Wrong("a token of model.vocab"));
  }
  return options;
}

bool Bpe::Save(CacheWriter* cache) const {
  if (!cuts_ && !byte_cuts_) return false;  // no large vocabulary of the field has neither
  vocabulary().Save(cache);
  merges_.Save(cache);
  if (cuts_) {
    cuts_->Save(cache);
  } else {
    byte_cuts_->Save(cache);
  }
  return true;
}

std::unique_ptr<TokenModel> Bpe::Load(const JsonObject& model, CacheReader* cache) {
  auto vocabulary = Vocabulary::Load(cache);
  if (!vocabulary) return nullptr;
  auto merges = MergeTable::Load(cache, vocabulary->size());
  if (!merges) return nullptr;
  auto options = ParseOptions(model, *vocabulary);
  if (!options) return nullptr;
  std::optional<SafeCuts> cuts;
  std::optional<ByteCuts> byte_cuts;
  if (HasSafeCuts(*options)) {
    cuts = SafeCuts::Load(cache);
  } else {
    byte_cuts = ByteCuts::Load(cache);
  }
  if ((!cuts && !byte_cuts) || !cache->AtEnd()) return nullptr;
  return std::unique_ptr<Bpe>(new Bpe(std::move(*vocabulary), std::move(*merges),
                                      std::move(*options), std::move(cuts), std::move(byte_cuts)));
}

Result<MergeTable> Bpe::ParseMerges(const JsonObject& model, const Vocabulary& vocabulary,
                                    std::string_view prefix) {
  GALE_ASSIGN_OR_RETURN(const JsonValue list, model.Get("merges"));
  size_t num_merges = 0;
  GALE_RETURN_IF_ERROR(list.ForEachItem([&](const JsonValue&) -> Status {
    ++num_merges;
    return {};
  }));
  MergeTable merges(num_merges);
  std::string merged;
  uint32_t rank = 0;
  GALE_RETURN_IF_ERROR(list.ForEachItem([&](const JsonValue& item) -> Status {
    GALE_ASSIGN_OR_RETURN(const auto halves, ParseMerge(item));
    const auto [left, right] = halves;
    merged = left;
    merged += right.substr(right.starts_with(prefix) ? prefix.size() : 0);
    const auto left_id = vocabulary.Find(left);
    const auto right_id = vocabulary.Find(right);
    const auto merged_id = vocabulary.Find(merged);
    if (!left_id || !right_id || !merged_id) {
      return tl::unexpected(item.Wrong("tokens whose halves and whole are in model.vocab"));
    }
    merges.Insert(*left_id, *right_id, {rank++, *merged_id});
    return {};
  }));
  return merges;
}

bool Bpe::TakeBytes() {
  if (!options_.prefix.empty() || !options_.suffix.empty()) return false;
  std::array<TokenId, 256> byte_ids{};
  std::string spelling;
  for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
    spelling.clear();
    const char c = static_cast<char>(byte);
    AppendByteLevel({&c, 1}, &spelling);
    const auto id = vocabulary().Find(spelling);
    if (!id) return false;  // unk or nothing stands for this byte
    byte_ids[byte] = *id;
  }
  byte_ids_ = byte_ids;
  if (!byte_cuts_) byte_cuts_.emplace(vocabulary());
  return true;
}

void Bpe::Tokenize(std::string_view piece, std::vector<TokenId>* ids) const {
  if (byte_ids_) {
    if (piece.size() == 1) return TokenizePart(piece, ids);
    // Text in ASCII has few cuts, and its words are short without them.
    const auto is_past_ascii = [&](size_t i) { return static_cast<uint8_t>(piece[i]) > 0x7F; };
    const bool may_cut = piece.size() >= kMinBytesToCut &&
                         (is_past_ascii(piece.size() - 1) || is_past_ascii(piece.size() / 2));
    if (!may_cut) return TokenizeWord(piece, ids);
    // A piece that stays whole does so before it is cut; its parts are always merged.
    if (const auto whole = WholeWord(piece)) return ids->push_back(*whole);
    TokenizeCut(piece, *byte_cuts_, ids);
  } else if (cuts_) {
    TokenizeCut(piece, *cuts_, ids);
  } else {
    TokenizeWord(piece, ids);
  }
}

template <class Cuts>
void Bpe::TokenizeCut(std::string_view piece, const Cuts& cuts, std::vector<TokenId>* ids) const {
  size_t begin = 0;
  size_t left = 0;
  for (size_t pos = 0; pos < piece.size();) {
    const size_t size = Utf8Size(piece[pos]);
    if (pos > begin && cuts.CanCut(piece.substr(left, pos - left), piece.substr(pos, size))) {
      TokenizePart(piece.substr(begin, pos - begin), ids);
      begin = pos;
    }
    left = pos;
    pos += size;
  }
  TokenizePart(piece.substr(begin), ids);
}

void Bpe::TokenizeWord(std::string_view word, std::vector<TokenId>* ids) const {
  if (!options_.ignore_merges) return TokenizePart(word, ids);
  if (word.empty() || whole_words_.Find(word, ids)) return;
  const size_t first = ids->size();
  if (const auto whole = WholeWord(word)) {
    ids->push_back(*whole);
  } else {
    MergeWord(word, ids);
  }
  whole_words_.Insert(word, std::span(*ids).subspan(first));
}

void Bpe::TokenizePart(std::string_view part, std::vector<TokenId>* ids) const {
  if (part.empty()) return;
  // One look at the merges is cheaper than one at the cache.
  if (byte_ids_ && part.size() <= 2) return MergeWord(part, ids);
  if (parts_.Find(part, ids)) return;
  const size_t first = ids->size();
  MergeWord(part, ids);
  parts_.Insert(part, std::span(*ids).subspan(first));
}

std::optional<TokenId> Bpe::WholeWord(std::string_view word) const {
  if (!options_.ignore_merges) return std::nullopt;
  if (!byte_ids_) return vocabulary().Find(word);
  std::string spelling;
  AppendByteLevel(word, &spelling);
  return vocabulary().Find(spelling);
}

void Bpe::MergeWord(std::string_view word, std::vector<TokenId>* ids) const {
  const size_t first = ids->size();
  if (byte_ids_) {
    for (const char c : word) ids->push_back((*byte_ids_)[static_cast<uint8_t>(c)]);
  } else {
    AppendCharacters(word, ids);
  }
  ids->resize(first + MergeSymbols(merges_, std::span(*ids).subspan(first)));
}

void Bpe::AppendCharacters(std::string_view word, std::vector<TokenId>* ids) const {
  bool unk_waits = false;
  std::string affixed;
  for (size_t pos = 0; pos < word.size();) {
    const size_t size = Utf8Size(word[pos]);
    const std::string_view character = word.substr(pos, size);
    std::string_view spelling = character;
    const bool is_first = pos == 0;
    const bool is_last = pos + size == word.size();
    if ((!is_first && !options_.prefix.empty()) || (is_last && !options_.suffix.empty())) {
      affixed = fmt::format("{}{}{}", is_first ? "" : options_.prefix, character,
                            is_last ? options_.suffix : "");
      spelling = affixed;
    }
    pos += size;
    if (const auto id = vocabulary().Find(spelling)) {
      if (unk_waits) ids->push_back(*options_.unk);
      unk_waits = false;
      ids->push_back(*id);
    } else if (options_.byte_fallback && AppendByteTokens(spelling, ids)) {
      // A waiting unk stays behind these bytes; odd, but so does `tokenizers`.
    } else if (options_.unk) {
      if (unk_waits && !options_.fuse_unk) ids->push_back(*options_.unk);
      unk_waits = true;
    }
  }
  if (unk_waits) ids->push_back(*options_.unk);
}

}  // namespace gale::text
