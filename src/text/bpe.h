// Byte-pair encoding: the "model" of most tokenizers (Sennrich et al. 2016, arXiv:1508.07909).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/safe_cuts.h"
#include "text/token_model.h"
#include "text/word_cache.h"

namespace gale::text {

/// From a pair of neighbouring ids to their merge. Open addressing; immutable once filled.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;  ///< lower merges first
    TokenId id;     ///< what the pair becomes
  };

  explicit MergeTable(size_t num_merges);
  /// A pair given twice keeps the later rank, as in `tokenizers`.
  void Insert(TokenId left, TokenId right, Merge merge);
  /// Null when the pair does not merge.
  const Merge* Find(TokenId left, TokenId right) const;

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge{};
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  size_t Locate(uint64_t key) const;

  std::vector<Slot> slots_;
};

class Bpe : public TokenModel {
 public:
  static Result<std::unique_ptr<TokenModel>> Parse(const JsonObject& model);

  /// Cost: O(n log n) in the characters of `piece`; a table lookup for words seen before.
  void Tokenize(std::string_view piece, std::vector<TokenId>* ids) const override;

 private:
  struct Options {
    std::optional<TokenId> unk;  ///< for characters that are not in the vocabulary; unset: dropped
    bool fuse_unk;               ///< a run of unknown characters is one unk
    bool byte_fallback;  ///< unknown characters become <0xXX> tokens where all of them exist
    bool ignore_merges;  ///< a piece that is a token as a whole stays one
    std::string prefix, suffix;  ///< of characters inside a word, and at its end
  };

  Bpe(Vocabulary vocabulary, MergeTable merges, Options options);
  static Result<MergeTable> ParseMerges(const JsonObject& model, const Vocabulary& vocabulary,
                                        std::string_view prefix);
  void TokenizeWord(std::string_view word, std::vector<TokenId>* ids) const;
  void MergeWord(std::string_view word, std::vector<TokenId>* ids) const;
  std::vector<TokenId> Characters(std::string_view word) const;
  bool AppendBytes(std::string_view character, std::vector<TokenId>* ids) const;

  MergeTable merges_;
  Options options_;
  std::optional<SafeCuts> cuts_;  ///< for vocabularies whose pieces are whole texts
  mutable WordCache cache_;
};

}  // namespace gale::text
