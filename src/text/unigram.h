// The "model" of SentencePiece and its kin that picks the likeliest cut of a text into pieces
// (Kudo 2018, arXiv:1804.10959).
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "text/token_model.h"
#include "text/token_trie.h"

namespace gale::text {

class Unigram : public TokenModel {
 public:
  struct Options {
    TokenId unk;
    bool byte_fallback;     ///< unknown characters become <0xXX> tokens where all of them exist
    bool single_precision;  ///< sums as SentencePiece does; `tokenizers` sums in double precision
  };
  struct Piece {
    std::string_view text;
    double score;     ///< logarithm of its probability
    bool is_in_text;  ///< false: no text becomes this token, as of special tokens and bytes
  };
  /// Piece i gets id i.
  Unigram(const std::vector<Piece>& pieces, Options options);
  /// `is_special` tells the tokens that text must not become.
  static Result<std::unique_ptr<TokenModel>> Parse(const JsonObject& model,
                                                   const SpecialTokens& is_special);

  /// Cost: O(n * length of the longest token) for n bytes.
  void Tokenize(std::string_view piece, std::vector<TokenId>* ids) const override;

 private:
  /// The best way to reach a position.
  struct Step {
    double score = 0;
    size_t begin = kUnreached;  ///< where its last token begins
    TokenId id = 0;
  };
  static constexpr size_t kUnreached = ~size_t{0};

  double Rounded(double score) const {
    return options_.single_precision ? static_cast<float>(score) : score;
  }
  std::vector<Step> BestSteps(std::string_view text) const;
  void AppendUnknown(std::string_view text, std::vector<TokenId>* ids) const;

  Options options_;
  TokenTrie trie_;
  std::vector<double> scores_;  ///< [id]
  double unk_score_;
};

}  // namespace gale::text
