#include "text/pre_tokenizer.h"

#include "text/byte_level.h"
#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

constexpr std::string_view kKnown = "ByteLevel, Digits, Metaspace, Sequence, Split";

/// Turns matches and the text between them into pieces by the role that matches have.
void AppendPieces(const std::vector<Segment>& segments, MatchRole role,
                  std::vector<PieceList::Piece>* pieces) {
  const size_t first = pieces->size();
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& s = segments[i];
    const bool after_match = i > 0 && segments[i - 1].is_match;
    bool joins_previous = false;
    switch (role) {
      case MatchRole::kRemoved:
        if (s.is_match) continue;
        break;
      case MatchRole::kIsolated: break;
      case MatchRole::kMergedWithPrevious: joins_previous = s.is_match && !after_match; break;
      case MatchRole::kMergedWithNext: joins_previous = !s.is_match && after_match; break;
      case MatchRole::kContiguous: joins_previous = s.is_match == after_match; break;
    }
    if (joins_previous && pieces->size() > first) {
      pieces->back().end = s.end;
    } else {
      pieces->push_back({s.begin, s.end});
    }
  }
}

/// Rewrites each piece: rewrite(piece, is_first, out) appends its new text.
template <class Rewrite>
void RewritePieces(PieceList* list, Rewrite&& rewrite) {
  std::string text;
  text.reserve(list->text.size() * 2);
  for (size_t i = 0; i < list->pieces.size(); ++i) {
    const size_t begin = text.size();
    rewrite((*list)[i], i == 0, &text);
    list->pieces[i] = {begin, text.size()};
  }
  list->text = std::move(text);
}

/// Cuts each piece by find(piece, offset, segments), which appends its Segments.
template <class Find>
void CutPieces(PieceList* list, MatchRole role, Find&& find) {
  std::vector<PieceList::Piece> pieces;
  pieces.reserve(list->text.size() / 4);
  std::vector<Segment> segments;
  for (size_t i = 0; i < list->pieces.size(); ++i) {
    segments.clear();
    find((*list)[i], list->pieces[i].begin, &segments);
    AppendPieces(segments, role, &pieces);
  }
  const bool begins_alike = !pieces.empty() && pieces[0].begin == list->pieces[0].begin;
  list->at_text_start = list->at_text_start && begins_alike;
  list->pieces = std::move(pieces);
}

}  // namespace

Result<PreTokenizer> PreTokenizer::Parse(const JsonValue& value) {
  PreTokenizer result;
  GALE_RETURN_IF_ERROR(ForEachPart(
      value, "pretokenizers", [&](const JsonValue& at, const Component& part) -> Status {
        if (part.type == "Split") {
          GALE_ASSIGN_OR_RETURN(Split split, ParseSplit(part.object));
          result.steps_.emplace_back(std::move(split));
        } else if (part.type == "Digits") {
          GALE_ASSIGN_OR_RETURN(const bool individual,
                                BoolOr(part.object, "individual_digits", false));
          result.steps_.emplace_back(Digits{individual});
        } else if (part.type == "ByteLevel") {
          GALE_ASSIGN_OR_RETURN(ByteLevel byte_level, ParseByteLevel(part.object));
          result.steps_.emplace_back(std::move(byte_level));
        } else if (part.type == "Metaspace") {
          GALE_ASSIGN_OR_RETURN(Metaspace metaspace, ParseMetaspace(part.object));
          result.steps_.emplace_back(std::move(metaspace));
        } else {
          return UnknownType(at, part.type, kKnown);
        }
        return {};
      }));
  return result;
}

Result<PreTokenizer::Split> PreTokenizer::ParseSplit(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const JsonValue pattern_value, object.Get("pattern"));
  GALE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(pattern_value));
  GALE_ASSIGN_OR_RETURN(const bool invert, BoolOr(object, "invert", false));
  GALE_ASSIGN_OR_RETURN(const JsonValue behavior_value, object.Get("behavior"));
  GALE_ASSIGN_OR_RETURN(const std::string_view behavior, behavior_value.String());
  MatchRole role = MatchRole::kIsolated;
  if (behavior == "Removed") {
    role = MatchRole::kRemoved;
  } else if (behavior == "MergedWithPrevious") {
    role = MatchRole::kMergedWithPrevious;
  } else if (behavior == "MergedWithNext") {
    role = MatchRole::kMergedWithNext;
  } else if (behavior == "Contiguous") {
    role = MatchRole::kContiguous;
  } else if (behavior != "Isolated") {
    return tl::unexpected(behavior_value.Wrong(
        "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous"));
  }
  return Split{std::move(pattern), role, invert};
}

Result<PreTokenizer::Metaspace> PreTokenizer::ParseMetaspace(const JsonObject& object) {
  using Prepend = Metaspace::Prepend;
  GALE_ASSIGN_OR_RETURN(const std::string_view replacement, StringOr(object, "replacement", "▁"));
  GALE_ASSIGN_OR_RETURN(const bool split, BoolOr(object, "split", true));
  // Older files say add_prefix_space where newer ones have prepend_scheme.
  GALE_ASSIGN_OR_RETURN(const bool prefix_space, BoolOr(object, "add_prefix_space", true));
  GALE_ASSIGN_OR_RETURN(const std::string_view scheme,
                        StringOr(object, "prepend_scheme", prefix_space ? "always" : "never"));
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return tl::unexpected(object.Find("prepend_scheme")->Wrong("always, first or never"));
  }
  const Prepend prepend = scheme == "always"  ? Prepend::kAlways
                          : scheme == "first" ? Prepend::kFirst
                                              : Prepend::kNever;
  GALE_ASSIGN_OR_RETURN(Pattern separator, Pattern::Literal(replacement));
  return Metaspace{std::string(replacement), std::move(separator), prepend, split};
}

Result<PreTokenizer::ByteLevel> PreTokenizer::ParseByteLevel(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const bool add_prefix_space, BoolOr(object, "add_prefix_space", true));
  GALE_ASSIGN_OR_RETURN(const bool use_regex, BoolOr(object, "use_regex", true));
  ByteLevel byte_level{add_prefix_space, std::nullopt};
  if (use_regex) {
    GALE_ASSIGN_OR_RETURN(byte_level.pattern, Pattern::Regex(kGpt2Expression));
  }
  return byte_level;
}

PieceList PreTokenizer::Cut(std::string text, bool at_text_start) const {
  const size_t size = text.size();
  PieceList list{std::move(text), {}, at_text_start};
  if (size > 0) list.pieces.push_back({0, size});
  for (const Step& step : steps_) {
    std::visit([&](const auto& s) { Apply(s, &list); }, step);
  }
  return list;
}

bool PreTokenizer::EndsInByteLevel() const {
  return !steps_.empty() && std::holds_alternative<ByteLevel>(steps_.back());
}

void PreTokenizer::LeaveBytes() { std::get<ByteLevel>(steps_.back()).spells = false; }

size_t PreTokenizer::SafeCut(std::string_view text, size_t from) const {
  const Pattern* pattern = nullptr;  // of the first step: those behind it see its pieces only
  if (!steps_.empty()) {
    const auto* split = std::get_if<Split>(&steps_[0]);
    const auto* byte_level = std::get_if<ByteLevel>(&steps_[0]);
    if (split != nullptr && split->role == MatchRole::kIsolated) pattern = &split->pattern;
    if (byte_level != nullptr && !byte_level->add_prefix_space && byte_level->pattern) {
      pattern = &*byte_level->pattern;
    }
  }
  return pattern == nullptr ? text.size() : pattern->SafeCut(text, from);
}

void PreTokenizer::Apply(const Split& split, PieceList* list) {
  CutPieces(list, split.role,
            [&](std::string_view piece, size_t offset, std::vector<Segment>* segments) {
              split.pattern.Split(piece, offset, segments);
              if (!split.invert) return;
              for (Segment& s : *segments) s.is_match = !s.is_match;
            });
}

void PreTokenizer::Apply(const Digits& digits, PieceList* list) {
  const MatchRole role = digits.individual ? MatchRole::kIsolated : MatchRole::kContiguous;
  CutPieces(list, role, [](std::string_view piece, size_t offset, std::vector<Segment>* segments) {
    size_t done = 0;
    for (size_t pos = 0; pos < piece.size();) {
      const Utf8Char c = DecodeUtf8(piece.substr(pos));
      const size_t end = pos + c.size;
      if (IsNumeric(c.code_point)) {
        if (done < pos) segments->push_back({done + offset, pos + offset, false});
        segments->push_back({pos + offset, end + offset, true});
        done = end;
      }
      pos = end;
    }
    if (done < piece.size()) segments->push_back({done + offset, piece.size() + offset, false});
  });
}

void PreTokenizer::Apply(const ByteLevel& byte_level, PieceList* list) {
  if (byte_level.add_prefix_space) {
    RewritePieces(list, [](std::string_view piece, bool /*is_first*/, std::string* out) {
      if (!piece.starts_with(' ')) out->push_back(' ');
      out->append(piece);
    });
  }
  if (byte_level.pattern) {
    CutPieces(list, MatchRole::kIsolated,
              [&](std::string_view piece, size_t offset, std::vector<Segment>* segments) {
                byte_level.pattern->Split(piece, offset, segments);
              });
  }
  if (!byte_level.spells) return;
  RewritePieces(list, [](std::string_view piece, bool /*is_first*/, std::string* out) {
    AppendByteLevel(piece, out);
  });
}

void PreTokenizer::Apply(const Metaspace& metaspace, PieceList* list) {
  const bool at_text_start = list->at_text_start;
  RewritePieces(list, [&](std::string_view piece, bool is_first, std::string* out) {
    const bool may_prepend =
        metaspace.prepend == Metaspace::Prepend::kAlways ||
        (metaspace.prepend == Metaspace::Prepend::kFirst && is_first && at_text_start);
    const bool has_one = piece.starts_with(' ') || piece.starts_with(metaspace.replacement);
    if (may_prepend && !has_one) out->append(metaspace.replacement);
    for (const char c : piece) {
      if (c == ' ') {
        out->append(metaspace.replacement);
      } else {
        out->push_back(c);
      }
    }
  });
  if (!metaspace.split) return;
  CutPieces(list, MatchRole::kMergedWithNext,
            [&](std::string_view piece, size_t offset, std::vector<Segment>* segments) {
              metaspace.separator.Split(piece, offset, segments);
            });
}

}  // namespace gale::text
