#include "text/sentencepiece.h"

#include <unordered_set>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "text/hash.h"
#include "text/protobuf.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace gale::text {
namespace {

using Piece = SentencePieceModel::Piece;

// A piece is looked for at every position of a text, so its length is what a position may cost.
constexpr size_t kMaxPieceBytes = 4096;

tl::unexpected<Error> Corrupt(std::string_view what) {
  return MakeError(ErrorCode::kDataCorrupt, fmt::format("SentencePiece model: {}", what));
}

Status CheckPiece(const Piece& piece) {
  if (piece.text.empty() || piece.text.size() > kMaxPieceBytes || !IsValidUtf8(piece.text)) {
    return Corrupt(fmt::format("expected pieces of 1 to {} bytes of UTF-8", kMaxPieceBytes));
  }
  if (piece.type < Piece::Type::kNormal || piece.type > Piece::Type::kByte) {
    return Corrupt(fmt::format("piece \"{}\" has type {}, expected 1 to 6", piece.text,
                               static_cast<int64_t>(piece.type)));
  }
  // Not a number would make every comparison of paths false.
  if (!(piece.score >= -1e30F && piece.score <= 1e30F)) {
    return Corrupt(fmt::format("piece \"{}\" has no finite score", piece.text));
  }
  return {};
}

Result<Piece> ParsePiece(std::string_view message) {
  Piece piece;
  ProtobufReader reader(message);
  for (ProtobufField field; reader.Next(&field);) {
    if (field.number == 1 && field.is_bytes()) piece.text = field.bytes;
    if (field.number == 2 && field.wire == ProtobufField::Wire::kFixed32) {
      piece.score = field.AsFloat();
    }
    if (field.number == 3 && field.is_varint()) piece.type = static_cast<Piece::Type>(field.value);
  }
  if (!reader.ok()) return Corrupt("a piece is cut off");
  return piece;
}

/// Members of TrainerSpec that matter after training.
struct Training {
  uint64_t model_type = 1;
  int64_t bos = 1;
  int64_t eos = 2;
};

Result<Training> ParseTraining(std::string_view message, SentencePieceModel* model) {
  Training training;
  ProtobufReader reader(message);
  for (ProtobufField field; reader.Next(&field);) {
    if (!field.is_varint()) continue;
    switch (field.number) {
      case 3: training.model_type = field.value; break;
      case 24: model->normalizer.whitespace_as_suffix = field.value != 0; break;
      case 35: model->byte_fallback = field.value != 0; break;
      case 41: training.bos = static_cast<int64_t>(field.value); break;
      case 42: training.eos = static_cast<int64_t>(field.value); break;
      default: break;
    }
  }
  if (!reader.ok()) return Corrupt("trainer_spec is cut off");
  return training;
}

Status ParseNormalizer(std::string_view message, SentencePieceNormalizer* normalizer) {
  ProtobufReader reader(message);
  for (ProtobufField field; reader.Next(&field);) {
    if (field.number == 2 && field.is_bytes()) {
      Result<Charsmap> charsmap = Charsmap::Parse(field.bytes);
      if (!charsmap) return Corrupt(fmt::format("expected {}", charsmap.error().message));
      normalizer->charsmap = *std::move(charsmap);
    }
    if (!field.is_varint()) continue;
    if (field.number == 3) normalizer->add_dummy_prefix = field.value != 0;
    if (field.number == 4) normalizer->remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) normalizer->escape_whitespaces = field.value != 0;
  }
  if (!reader.ok()) return Corrupt("normalizer_spec is cut off");
  return {};
}

}  // namespace

Status SentencePieceModel::CheckPieces() {
  std::unordered_set<std::string_view, StringHash> seen;
  int num_unknown = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    GALE_RETURN_IF_ERROR(CheckPiece(piece));
    if (!seen.insert(piece.text).second) {
      return Corrupt(fmt::format("piece \"{}\" is there twice", piece.text));
    }
    if (piece.type == Piece::Type::kUserDefined) {
      normalizer.kept.Insert(piece.text, static_cast<int>(i));
    }
    if (piece.type != Piece::Type::kUnknown) continue;
    unk = static_cast<TokenId>(i);
    ++num_unknown;
  }
  if (num_unknown == 1) return {};
  return Corrupt(fmt::format("expected one piece for unknown characters, got {}", num_unknown));
}

Result<SentencePieceModel> SentencePieceModel::Parse(std::string_view file) {
  SentencePieceModel model;
  Training training;
  ProtobufReader reader(file);
  for (ProtobufField field; reader.Next(&field);) {
    if (!field.is_bytes()) continue;
    if (field.number == 1) {
      GALE_ASSIGN_OR_RETURN(const Piece piece, ParsePiece(field.bytes));
      model.pieces.push_back(piece);
      if (static_cast<int64_t>(model.pieces.size()) > kMaxTokenId) {
        return Corrupt(fmt::format("expected at most {} pieces", kMaxTokenId));
      }
    } else if (field.number == 2) {
      GALE_ASSIGN_OR_RETURN(training, ParseTraining(field.bytes, &model));
    } else if (field.number == 3) {
      GALE_RETURN_IF_ERROR(ParseNormalizer(field.bytes, &model.normalizer));
    }
  }
  if (!reader.ok()) return Corrupt("the file is cut off, or not of this format");
  GALE_RETURN_IF_ERROR(model.CheckPieces());
  if (training.model_type != 1 && training.model_type != 2) {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("SentencePiece model: model_type {} is not supported; known are "
                                 "1 (unigram) and 2 (BPE)",
                                 training.model_type));
  }
  model.algorithm = static_cast<Algorithm>(training.model_type);
  const auto control = [&](int64_t id) -> std::optional<TokenId> {
    const bool is_there = id >= 0 && id < static_cast<int64_t>(model.pieces.size()) &&
                          model.pieces[static_cast<size_t>(id)].type == Piece::Type::kControl;
    return is_there ? std::optional(static_cast<TokenId>(id)) : std::nullopt;
  };
  model.bos = control(training.bos);
  model.eos = control(training.eos);
  return model;
}

}  // namespace gale::text
