// Byte-pair encoding: the "model" of most tokenizers (Sennrich et al. 2016, arXiv:1508.07909).
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/safe_cuts.h"
#include "text/token_model.h"
#include "text/word_cache.h"

namespace gale::text {

class Bpe : public TokenModel {
 public:
  struct Options {
    std::optional<TokenId> unk;  ///< for characters that are not in the vocabulary; unset: dropped
    bool fuse_unk = false;       ///< a run of unknown characters is one unk
    bool byte_fallback = false;  ///< unknown characters become <0xXX> tokens where all of them
                                 ///< exist
    bool ignore_merges = false;  ///< a piece that is a token as a whole stays one
    std::string prefix, suffix;  ///< of characters inside a word, and at its end
  };

  Bpe(Vocabulary vocabulary, MergeTable merges, Options options);
  static Result<std::unique_ptr<TokenModel>> Parse(const JsonObject& model);

  /// Cost: O(n log n) in the characters of `piece`; a table lookup for words seen before.
  void Tokenize(std::string_view piece, std::vector<TokenId>* ids) const override;
  bool TakeBytes() override;
  bool Save(CacheWriter* cache) const override;
  /// As Parse, with the vocabulary and the merges from `cache`. Nothing when these are damaged.
  static std::unique_ptr<TokenModel> Load(const JsonObject& model, CacheReader* cache);

 private:
  Bpe(Vocabulary vocabulary, MergeTable merges, Options options, std::optional<SafeCuts> cuts,
      std::optional<ByteCuts> byte_cuts);
  static Result<Options> ParseOptions(const JsonObject& model, const Vocabulary& vocabulary);
  static Result<MergeTable> ParseMerges(const JsonObject& model, const Vocabulary& vocabulary,
                                        std::string_view prefix);
  template <class Cuts>
  void TokenizeCut(std::string_view piece, const Cuts& cuts, std::vector<TokenId>* ids) const;
  void TokenizeWord(std::string_view word, std::vector<TokenId>* ids) const;
  void TokenizePart(std::string_view part, std::vector<TokenId>* ids) const;
  std::optional<TokenId> WholeWord(std::string_view word) const;
  void MergeWord(std::string_view word, std::vector<TokenId>* ids) const;
  void AppendCharacters(std::string_view word, std::vector<TokenId>* ids) const;

  MergeTable merges_;
  Options options_;
  std::optional<SafeCuts> cuts_;  ///< for vocabularies whose pieces are whole texts
  std::optional<std::array<TokenId, 256>> byte_ids_;  ///< set when pieces are bytes
  std::optional<ByteCuts> byte_cuts_;                 ///< and so is this
  mutable WordCache parts_;                           ///< what merging makes
  mutable WordCache whole_words_;                     ///< with ignore_merges: what pieces become
};

}  // namespace gale::text
