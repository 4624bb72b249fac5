// The model files of SentencePiece ("tokenizer.model", "spiece.model"): a protocol buffer with the
// pieces, how they were trained and how text is prepared (sentencepiece_model.proto).
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "gale/sampling_params.h"
#include "gale/status.h"
#include "text/sentencepiece_normalizer.h"

namespace gale::text {

/// Views into the file, which must outlive it.
struct SentencePieceModel {
  enum class Algorithm { kUnigram = 1, kBpe = 2 };
  struct Piece {
    enum class Type {
      kNormal = 1,
      kUnknown = 2,
      kControl = 3,
      kUserDefined = 4,
      kUnused = 5,
      kByte = 6
    };
    std::string_view text;
    float score = 0;
    Type type = Type::kNormal;
  };

  std::vector<Piece> pieces;  ///< [id]
  Algorithm algorithm = Algorithm::kUnigram;
  bool byte_fallback = false;
  TokenId unk = 0;
  std::optional<TokenId> bos, eos;
  SentencePieceNormalizer normalizer;

  /// Errors: kDataCorrupt when the file contradicts itself or the format; kUnsupported for word and
  /// character models.
  static Result<SentencePieceModel> Parse(std::string_view file);

  /// For pieces that did not come through Parse: sets what follows from them, `unk` and the
  /// normalizer's. Errors: kDataCorrupt unless each is text of a sane length with a score, none is
  /// there twice, and exactly one is for unknown characters.
  Status CheckPieces();
};

}  // namespace gale::text
