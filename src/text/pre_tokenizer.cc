#include "text/pre_tokenizer.h"

#include <algorithm>

#include <fmt/format.h>

#include "text/byte_level.h"
#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

constexpr std::string_view kKnown =
    "BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, FixedLength, Metaspace, Punctuation, "
    "Sequence, Split, UnicodeScripts, Whitespace, WhitespaceSplit";

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

/// "behavior"; isolated where it is absent.
Result<MatchRole> ParseBehavior(const std::optional<JsonValue>& value) {
  if (!value) return MatchRole::kIsolated;
  GALE_ASSIGN_OR_RETURN(const std::string_view behavior, value->String());
  if (behavior == "Removed") return MatchRole::kRemoved;
  if (behavior == "Isolated") return MatchRole::kIsolated;
  if (behavior == "MergedWithPrevious") return MatchRole::kMergedWithPrevious;
  if (behavior == "MergedWithNext") return MatchRole::kMergedWithNext;
  if (behavior == "Contiguous") return MatchRole::kContiguous;
  return tl::unexpected(
      value->Wrong("Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous"));
}

/// A run of one script, where Japanese is one, and spaces and unassigned characters in it are part
/// of it; what stands before the first run is lost, as in `tokenizers`.
std::string ScriptRunExpression() {
  // The scripts of Unicode 9 and those that PCRE2 knows since; unknown ones are one script less.
  constexpr std::string_view kNames =
      "Common Inherited Latin Greek Cyrillic Armenian Hebrew Arabic Syriac Thaana Nko Samaritan "
      "Mandaic Devanagari Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala "
      "Thai Lao Tibetan Myanmar Georgian Hangul Ethiopic Cherokee Canadian_Aboriginal Ogham Runic "
      "Tagalog Hanunoo Buhid Tagbanwa Khmer Mongolian Limbu Tai_Le New_Tai_Lue Buginese Tai_Tham "
      "Balinese Sundanese Batak Lepcha Ol_Chiki Braille Glagolitic Coptic Tifinagh Bopomofo Yi "
      "Lisu Vai Bamum Syloti_Nagri Phags_Pa Saurashtra Kayah_Li Rejang Javanese Cham Tai_Viet "
      "Meetei_Mayek Linear_B Lycian Carian Old_Italic Gothic Old_Permic Ugaritic Old_Persian "
      "Deseret Shavian Osmanya Osage Elbasan Caucasian_Albanian Linear_A Cypriot Imperial_Aramaic "
      "Palmyrene Nabataean Hatran Phoenician Lydian Meroitic_Hieroglyphs Meroitic_Cursive "
      "Kharoshthi Old_South_Arabian Old_North_Arabian Manichaean Avestan Inscriptional_Parthian "
      "Inscriptional_Pahlavi Psalter_Pahlavi Old_Turkic Old_Hungarian Brahmi Kaithi Sora_Sompeng "
      "Chakma Mahajani Sharada Khojki Multani Khudawadi Grantha Newa Tirhuta Siddham Modi Takri "
      "Ahom Warang_Citi Pau_Cin_Hau Bhaiksuki Marchen Cuneiform Anatolian_Hieroglyphs "
      "Egyptian_Hieroglyphs Mro Bassa_Vah Pahawh_Hmong Miao Tangut Duployan SignWriting "
      "Mende_Kikakui Adlam";
  std::string expression =
      R"((?:[\p{sc:Han}\p{sc:Hiragana}\p{sc:Katakana}\x{30FC}][\p{sc:Han}\p{sc:Hiragana}\p{sc:Katakana}\x{30FC}\p{sc:Zzzz} ]*)";
  for (size_t begin = 0; begin < kNames.size();) {
    const size_t end = std::min(kNames.find(' ', begin), kNames.size());
    const std::string_view name = kNames.substr(begin, end - begin);
    // Of Common, the prolonged sound mark is Japanese and the space is part of every script.
    const std::string_view without = name == "Common" ? R"((?![\x{30FC} ]))" : "";
    expression +=
        fmt::format(R"(|{0}\p{{sc:{1}}}(?:{0}\p{{sc:{1}}}|[\p{{sc:Zzzz}} ])*)", without, name);
    begin = end + 1;
  }
  return expression + ")";
}

}  // namespace

Result<PreTokenizer> PreTokenizer::Parse(const JsonValue& value) {
  PreTokenizer result;
  GALE_RETURN_IF_ERROR(ForEachPart(value, "pretokenizers",
                                   [&](const JsonValue& at, const Component& part) -> Status {
                                     return result.AddSteps(at, part.type, part.object);
                                   }));
  return result;
}

Status PreTokenizer::AddSteps(const JsonValue& at, std::string_view type,
                              const JsonObject& object) {
  if (type == "Split") {
    GALE_ASSIGN_OR_RETURN(Split split, ParseSplit(object));
    steps_.emplace_back(std::move(split));
  } else if (type == "Digits") {
    GALE_ASSIGN_OR_RETURN(const bool individual, BoolOr(object, "individual_digits", false));
    steps_.emplace_back(
        Characters{IsNumeric, individual ? MatchRole::kIsolated : MatchRole::kContiguous});
  } else if (type == "ByteLevel") {
    GALE_ASSIGN_OR_RETURN(ByteLevel byte_level, ParseByteLevel(object));
    steps_.emplace_back(std::move(byte_level));
  } else if (type == "Metaspace") {
    GALE_ASSIGN_OR_RETURN(Metaspace metaspace, ParseMetaspace(object));
    steps_.emplace_back(std::move(metaspace));
  } else if (type == "Punctuation") {
    GALE_ASSIGN_OR_RETURN(const MatchRole role, ParseBehavior(object.Find("behavior")));
    steps_.emplace_back(Characters{IsPunctuation, role});
  } else if (type == "Whitespace") {
    steps_.emplace_back(Words{});
  } else if (type == "WhitespaceSplit") {
    steps_.emplace_back(Characters{IsWhiteSpace, MatchRole::kRemoved});
  } else if (type == "BertPreTokenizer") {
    steps_.emplace_back(Characters{IsWhiteSpace, MatchRole::kRemoved});
    steps_.emplace_back(Characters{IsPunctuation, MatchRole::kIsolated});
  } else if (type == "UnicodeScripts") {
    GALE_ASSIGN_OR_RETURN(Pattern runs, Pattern::Regex(ScriptRunExpression()));
    steps_.emplace_back(Split{std::move(runs), MatchRole::kRemoved, /*invert=*/true});
  } else if (type == "CharDelimiterSplit") {
    GALE_ASSIGN_OR_RETURN(Split split, ParseCharDelimiterSplit(object));
    steps_.emplace_back(std::move(split));
  } else if (type == "FixedLength") {
    const auto length = object.Find("length");
    GALE_ASSIGN_OR_RETURN(const int64_t size, length ? length->Int(1, 1 << 30) : 5);
    steps_.emplace_back(FixedLength{static_cast<size_t>(size)});
  } else {
    return UnknownType(at, type, kKnown);
  }
  return {};
}

Result<PreTokenizer::Split> PreTokenizer::ParseSplit(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const JsonValue pattern_value, object.Get("pattern"));
  GALE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(pattern_value));
  GALE_ASSIGN_OR_RETURN(const bool invert, BoolOr(object, "invert", false));
  GALE_ASSIGN_OR_RETURN(const JsonValue behavior, object.Get("behavior"));
  GALE_ASSIGN_OR_RETURN(const MatchRole role, ParseBehavior(behavior));
  return Split{std::move(pattern), role, invert};
}

Result<PreTokenizer::Split> PreTokenizer::ParseCharDelimiterSplit(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const JsonValue delimiter_value, object.Get("delimiter"));
  GALE_ASSIGN_OR_RETURN(const std::string_view delimiter, delimiter_value.String());
  if (delimiter.empty() || Utf8Size(delimiter[0]) != delimiter.size()) {
    return tl::unexpected(delimiter_value.Wrong("one character"));
  }
  GALE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Literal(delimiter));
  return Split{std::move(pattern), MatchRole::kRemoved, /*invert=*/false};
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

void PreTokenizer::Apply(const Characters& characters, PieceList* list) {
  CutPieces(list, characters.role,
            [&](std::string_view piece, size_t offset, std::vector<Segment>* segments) {
              size_t done = 0;
              for (size_t pos = 0; pos < piece.size();) {
                const Utf8Char c = DecodeUtf8(piece.substr(pos));
                const size_t end = pos + c.size;
                if (characters.is_match(c.code_point)) {
                  if (done < pos) segments->push_back({done + offset, pos + offset, false});
                  segments->push_back({pos + offset, end + offset, true});
                  done = end;
                }
                pos = end;
              }
              if (done < piece.size()) {
                segments->push_back({done + offset, piece.size() + offset, false});
              }
            });
}

void PreTokenizer::Apply(const Words& /*words*/, PieceList* list) {
  enum class Kind { kSpace, kWord, kOther };
  const auto kind_of = [](char32_t c) {
    return IsWordCharacter(c) ? Kind::kWord : IsWhiteSpace(c) ? Kind::kSpace : Kind::kOther;
  };
  CutPieces(list, MatchRole::kRemoved,
            [&](std::string_view piece, size_t offset, std::vector<Segment>* segments) {
              for (size_t pos = 0; pos < piece.size();) {
                const size_t begin = pos;
                const Kind kind = kind_of(CodePointAt(piece, pos));
                while (pos < piece.size() && kind_of(CodePointAt(piece, pos)) == kind) {
                  pos += Utf8Size(piece[pos]);
                }
                segments->push_back({begin + offset, pos + offset, kind == Kind::kSpace});
              }
            });
}

void PreTokenizer::Apply(const FixedLength& fixed_length, PieceList* list) {
  CutPieces(list, MatchRole::kIsolated,
            [&](std::string_view piece, size_t offset, std::vector<Segment>* segments) {
              for (size_t pos = 0; pos < piece.size();) {
                const size_t begin = pos;
                for (size_t i = 0; i < fixed_length.num_characters && pos < piece.size(); ++i) {
                  pos += Utf8Size(piece[pos]);
                }
                segments->push_back({begin + offset, pos + offset, true});
              }
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
