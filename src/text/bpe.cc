#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
constexpr TokenId kMerged = -1;

/// A node of the list of symbols that a word still consists of.
struct Symbol {
  TokenId id;  ///< kMerged once it is part of the symbol before it
  uint32_t previous;
  uint32_t next;
};

/// A pair that could merge. It may be stale by the time it comes up.
struct Candidate {
  uint32_t rank;
  uint32_t left;  ///< index of the left symbol
  TokenId id;

  /// For a heap with the lowest rank on top, the leftmost of equals first.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

uint64_t PairKey(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

/// Merges the symbols of one word, lowest rank first, leftmost first among equals.
class WordMerger {
 public:
  WordMerger(const MergeTable& merges, const std::vector<TokenId>& ids) : merges_(merges) {
    const auto size = static_cast<uint32_t>(ids.size());
    symbols_.reserve(size);
    for (uint32_t i = 0; i < size; ++i) {
      symbols_.push_back({ids[i], i == 0 ? kNone : i - 1, i + 1 == size ? kNone : i + 1});
    }
    for (uint32_t i = 0; i + 1 < size; ++i) Consider(i);
  }

  void AppendMerged(std::vector<TokenId>* ids) {
    while (!candidates_.empty()) {
      const Candidate candidate = candidates_.top();
      candidates_.pop();
      Symbol& left = symbols_[candidate.left];
      if (left.id == kMerged || left.next == kNone) continue;
      Symbol& right = symbols_[left.next];
      const MergeTable::Merge* merge = merges_.Find(left.id, right.id);
      if (merge == nullptr || merge->id != candidate.id) continue;

      left.id = merge->id;
      left.next = right.next;
      right.id = kMerged;
      if (left.next != kNone) symbols_[left.next].previous = candidate.left;
      if (left.previous != kNone) Consider(left.previous);
      if (left.next != kNone) Consider(candidate.left);
    }
    for (const Symbol& symbol : symbols_) {
      if (symbol.id != kMerged) ids->push_back(symbol.id);
    }
  }

 private:
  void Consider(uint32_t left) {
    const Symbol& symbol = symbols_[left];
    if (const auto* merge = merges_.Find(symbol.id, symbols_[symbol.next].id)) {
      candidates_.push({merge->rank, left, merge->id});
    }
  }

  const MergeTable& merges_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> candidates_;
};

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

}  // namespace

MergeTable::MergeTable(size_t num_merges) : slots_(std::bit_ceil(num_merges * 2 + 1)) {}

size_t MergeTable::Locate(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  const auto* bytes = reinterpret_cast<const char*>(&key);
  size_t slot = HashBytes({bytes, sizeof(key)}) & mask;
  while (slots_[slot].key != key && slots_[slot].key != kEmpty) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::Insert(TokenId left, TokenId right, Merge merge) {
  const uint64_t key = PairKey(left, right);
  slots_[Locate(key)] = {key, merge};
}

const MergeTable::Merge* MergeTable::Find(TokenId left, TokenId right) const {
  const Slot& slot = slots_[Locate(PairKey(left, right))];
  return slot.key == kEmpty ? nullptr : &slot.merge;
}

Bpe::Bpe(Vocabulary vocabulary, MergeTable merges, Options options)
    : TokenModel(std::move(vocabulary)), merges_(std::move(merges)), options_(std::move(options)) {
  // Byte fallback marks what came from SentencePiece. Affixes and whole pieces depend on their
  // ends.
  if (options_.byte_fallback && !options_.ignore_merges && options_.prefix.empty() &&
      options_.suffix.empty()) {
    cuts_.emplace(this->vocabulary());
  }
}

Result<std::unique_ptr<TokenModel>> Bpe::Parse(const JsonObject& model) {
  Options options;
  GALE_ASSIGN_OR_RETURN(options.fuse_unk, BoolOr(model, "fuse_unk", false));
  GALE_ASSIGN_OR_RETURN(options.byte_fallback, BoolOr(model, "byte_fallback", false));
  GALE_ASSIGN_OR_RETURN(options.ignore_merges, BoolOr(model, "ignore_merges", false));
  GALE_ASSIGN_OR_RETURN(options.prefix, StringOr(model, "continuing_subword_prefix", ""));
  GALE_ASSIGN_OR_RETURN(options.suffix, StringOr(model, "end_of_word_suffix", ""));

  GALE_ASSIGN_OR_RETURN(const JsonValue vocab, model.Get("vocab"));
  GALE_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Parse(vocab));
  if (const auto unk = model.Find("unk_token")) {
    GALE_ASSIGN_OR_RETURN(const std::string_view token, unk->String());
    options.unk = vocabulary.Find(token);
    if (!options.unk) return tl::unexpected(unk->Wrong("a token of model.vocab"));
  }
  GALE_ASSIGN_OR_RETURN(MergeTable merges, ParseMerges(model, vocabulary, options.prefix));
  return std::unique_ptr<TokenModel>(
      new Bpe(std::move(vocabulary), std::move(merges), std::move(options)));
}

Result<MergeTable> Bpe::ParseMerges(const JsonObject& model, const Vocabulary& vocabulary,
                                    std::string_view prefix) {
  GALE_ASSIGN_OR_RETURN(const JsonValue list, model.Get("merges"));
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, list.Items());
  MergeTable merges(items.size());
  std::string merged;
  for (size_t rank = 0; rank < items.size(); ++rank) {
    GALE_ASSIGN_OR_RETURN(const auto halves, ParseMerge(items[rank]));
    const auto [left, right] = halves;
    merged = left;
    merged += right.substr(right.starts_with(prefix) ? prefix.size() : 0);
    const auto left_id = vocabulary.Find(left);
    const auto right_id = vocabulary.Find(right);
    const auto merged_id = vocabulary.Find(merged);
    if (!left_id || !right_id || !merged_id) {
      return tl::unexpected(items[rank].Wrong("tokens whose halves and whole are in model.vocab"));
    }
    merges.Insert(*left_id, *right_id, {static_cast<uint32_t>(rank), *merged_id});
  }
  return merges;
}

void Bpe::Tokenize(std::string_view piece, std::vector<TokenId>* ids) const {
  if (!cuts_) return TokenizeWord(piece, ids);
  size_t begin = 0;
  char32_t left = 0;
  for (size_t pos = 0; pos < piece.size();) {
    const Utf8Char c = DecodeUtf8(piece.substr(pos));
    if (pos > begin && cuts_->CanCut(left, c.code_point)) {
      TokenizeWord(piece.substr(begin, pos - begin), ids);
      begin = pos;
    }
    left = c.code_point;
    pos += c.size;
  }
  TokenizeWord(piece.substr(begin), ids);
}

void Bpe::TokenizeWord(std::string_view word, std::vector<TokenId>* ids) const {
  if (word.empty()) return;
  if (const auto known = cache_.Find(word); !known.empty()) {
    ids->insert(ids->end(), known.begin(), known.end());
    return;
  }
  const size_t first = ids->size();
  const auto whole = options_.ignore_merges ? vocabulary().Find(word) : std::nullopt;
  if (whole) {
    ids->push_back(*whole);
  } else {
    MergeWord(word, ids);
  }
  cache_.Insert(word, std::span(*ids).subspan(first));
}

void Bpe::MergeWord(std::string_view word, std::vector<TokenId>* ids) const {
  WordMerger(merges_, Characters(word)).AppendMerged(ids);
}

std::vector<TokenId> Bpe::Characters(std::string_view word) const {
  std::vector<TokenId> ids;
  ids.reserve(word.size());
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
      if (unk_waits) ids.push_back(*options_.unk);
      unk_waits = false;
      ids.push_back(*id);
    } else if (options_.byte_fallback && AppendBytes(spelling, &ids)) {
      // A waiting unk stays behind these bytes; odd, but so does `tokenizers`.
    } else if (options_.unk) {
      if (unk_waits && !options_.fuse_unk) ids.push_back(*options_.unk);
      unk_waits = true;
    }
  }
  if (unk_waits) ids.push_back(*options_.unk);
  return ids;
}

bool Bpe::AppendBytes(std::string_view character, std::vector<TokenId>* ids) const {
  const size_t old_size = ids->size();
  for (const char c : character) {
    const auto id = vocabulary().Find(fmt::format("<0x{:02X}>", static_cast<uint8_t>(c)));
    if (!id) {
      ids->resize(old_size);
      return false;
    }
    ids->push_back(*id);
  }
  return true;
}

}  // namespace gale::text
