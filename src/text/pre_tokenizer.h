// The "pre_tokenizer" of tokenizer.json: cuts normalized text into pieces that the model merges in.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.h"

namespace gale::text {

/// Text and the pieces it is cut into, in order and without overlap.
struct PieceList {
  struct Piece {
    size_t begin;
    size_t end;
  };
  std::string text;
  std::vector<Piece> pieces;
  bool at_text_start;  ///< the first piece begins where the whole input begins

  std::string_view operator[](size_t i) const {
    return std::string_view(text).substr(pieces[i].begin, pieces[i].end - pieces[i].begin);
  }
};

/// What becomes of the matches of a pattern that cuts.
enum class MatchRole { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

class PreTokenizer {
 public:
  PreTokenizer() = default;  ///< leaves one piece
  static Result<PreTokenizer> Parse(const JsonValue& value);

  /// `text` must be valid UTF-8. Cost: linear, one regex match per piece.
  PieceList Cut(std::string text, bool at_text_start) const;

  /// Whether pieces are byte-level spellings in the end; LeaveBytes() has them stay bytes, for a
  /// model that takes these.
  bool EndsInByteLevel() const;
  void LeaveBytes();

  /// The first position from `from` on where a piece certainly ends, whatever stands around it:
  /// text that is cut there gives the same pieces. text.size() when none is known.
  size_t SafeCut(std::string_view text, size_t from) const;

 private:
  struct Split {
    Pattern pattern;
    MatchRole role;
    bool invert;
  };
  /// Cuts at characters of a kind.
  struct Characters {
    bool (*is_match)(char32_t);
    MatchRole role;
  };
  struct Words {};  ///< runs of word characters and runs of others; white space goes
  struct FixedLength {
    size_t num_characters;
  };
  struct ByteLevel {
    bool add_prefix_space;
    std::optional<Pattern> pattern;
    bool spells = true;  ///< rewrites bytes to their byte-level spelling
  };
  struct Metaspace {
    enum class Prepend { kAlways, kFirst, kNever };
    std::string replacement;
    Pattern separator;
    Prepend prepend;
    bool split;
  };
  using Step = std::variant<Split, Characters, Words, FixedLength, ByteLevel, Metaspace>;

  Status AddSteps(const JsonValue& at, std::string_view type, const JsonObject& object);
  static Result<Split> ParseSplit(const JsonObject& object);
  static Result<Split> ParseCharDelimiterSplit(const JsonObject& object);
  static Result<Metaspace> ParseMetaspace(const JsonObject& object);
  static Result<ByteLevel> ParseByteLevel(const JsonObject& object);
  static void Apply(const Split& split, PieceList* list);
  static void Apply(const Characters& characters, PieceList* list);
  static void Apply(const Words& words, PieceList* list);
  static void Apply(const FixedLength& fixed_length, PieceList* list);
  static void Apply(const ByteLevel& byte_level, PieceList* list);
  static void Apply(const Metaspace& metaspace, PieceList* list);

  std::vector<Step> steps_;
};

}  // namespace gale::text
