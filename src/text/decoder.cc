#include "text/decoder.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "text/byte_level.h"
#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

constexpr std::string_view kKnown =
    "ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Sequence, Strip";

/// The byte that "<0xE4>" stands for.
std::optional<char> ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  uint8_t byte = 0;
  const auto [end, error] = std::from_chars(&token[3], &token[5], byte, 16);
  if (error != std::errc() || end != &token[5]) return std::nullopt;
  return static_cast<char>(byte);
}

/// A run of byte tokens is text when it is valid as a whole, else one U+FFFD for each byte.
std::string TextOfBytes(std::string_view bytes) {
  if (IsValidUtf8(bytes)) return std::string(bytes);
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) text += kReplacementCharacter;
  return text;
}

/// How many times `content` stands at the front of `text`, at most `limit`.
size_t CountAtFront(std::string_view text, std::string_view content, size_t limit) {
  size_t count = 0;
  while (count < limit && text.substr(count * content.size()).starts_with(content)) ++count;
  return count;
}

size_t CountAtBack(std::string_view text, std::string_view content, size_t limit) {
  size_t count = 0;
  while (count < limit && text.ends_with(content)) {
    text.remove_suffix(content.size());
    ++count;
  }
  return count;
}

}  // namespace

Decoder::Decoder() { stages_.emplace_back(Join{}); }

Result<Decoder> Decoder::Parse(const JsonValue& value) {
  Decoder decoder;
  decoder.stages_.clear();
  bool fused = false;
  GALE_RETURN_IF_ERROR(
      ForEachPart(value, "decoders", [&](const JsonValue& at, const Component& part) -> Status {
        if (part.type == "ByteLevel") {
          decoder.stages_.emplace_back(ByteLevel{});
          fused = true;
        } else if (part.type == "ByteFallback") {
          decoder.stages_.emplace_back(ByteFallback{});
        } else if (part.type == "Fuse") {
          fused = true;
        } else if (part.type == "Strip") {
          GALE_ASSIGN_OR_RETURN(Strip strip, ParseStrip(part.object, fused));
          decoder.stages_.emplace_back(std::move(strip));
        } else if (part.type == "Metaspace") {
          GALE_ASSIGN_OR_RETURN(const std::string_view replacement,
                                StringOr(part.object, "replacement", "▁"));
          GALE_ASSIGN_OR_RETURN(Pattern replacement_pattern, Pattern::Literal(replacement));
          GALE_ASSIGN_OR_RETURN(const bool prefix, BoolOr(part.object, "add_prefix_space", true));
          GALE_ASSIGN_OR_RETURN(
              const std::string_view scheme,
              StringOr(part.object, "prepend_scheme", prefix ? "always" : "never"));
          decoder.stages_.emplace_back(
              Metaspace{std::move(replacement_pattern), scheme != "never"});
        } else if (part.type == "Replace" && !fused) {
          GALE_ASSIGN_OR_RETURN(const JsonValue pattern_value, part.object.Get("pattern"));
          GALE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(pattern_value));
          GALE_ASSIGN_OR_RETURN(const JsonValue content, part.object.Get("content"));
          GALE_ASSIGN_OR_RETURN(const std::string_view text, content.String());
          decoder.stages_.emplace_back(Replace{std::move(pattern), std::string(text)});
        } else {
          // Replace behind Fuse would need the whole text before any of it could be shown.
          return UnknownType(at, part.type, kKnown);
        }
        return {};
      }));
  return decoder;
}

Result<Decoder::Strip> Decoder::ParseStrip(const JsonObject& object, bool fused) {
  constexpr int64_t kMaxCount = 1024;
  GALE_ASSIGN_OR_RETURN(const JsonValue content_value, object.Get("content"));
  GALE_ASSIGN_OR_RETURN(const std::string_view content, content_value.String());
  if (content.empty()) return tl::unexpected(content_value.Wrong("one character"));
  GALE_ASSIGN_OR_RETURN(const JsonValue start_value, object.Get("start"));
  GALE_ASSIGN_OR_RETURN(const int64_t start, start_value.Int(0, kMaxCount));
  GALE_ASSIGN_OR_RETURN(const JsonValue stop_value, object.Get("stop"));
  GALE_ASSIGN_OR_RETURN(const int64_t stop, stop_value.Int(0, kMaxCount));
  return Strip{std::string(content), static_cast<size_t>(start), static_cast<size_t>(stop), fused};
}

void Decoder::Push(std::string_view spelling, State* state, std::string* out) const {
  Feed(0, spelling, state, out);
}

void Decoder::Finish(State* state, std::string* out) const {
  for (size_t stage = 0; stage < stages_.size(); ++stage) FinishStage(stage, state, out);
  *state = Start();
}

void Decoder::Feed(size_t stage, std::string_view token, State* state, std::string* out) const {
  if (stage == stages_.size()) {
    out->append(token);
    return;
  }
  StageState* own = &(*state)[stage];
  const Next next = [&](std::string_view text) { Feed(stage + 1, text, state, out); };
  std::visit([&](const auto& s) { Take(s, token, own, next); }, stages_[stage]);
}

void Decoder::FinishStage(size_t stage, State* state, std::string* out) const {
  const std::string held = std::move((*state)[stage].held);
  if (held.empty()) return;
  std::string text;
  if (std::holds_alternative<ByteLevel>(stages_[stage])) {
    AppendLossyUtf8(held, &text);
  } else if (std::holds_alternative<ByteFallback>(stages_[stage])) {
    text = TextOfBytes(held);
  } else {
    return;  // what Strip holds back is what it removes
  }
  Feed(stage + 1, text, state, out);
}

void Decoder::Take(const Join& /*stage*/, std::string_view token, StageState* own,
                   const Next& next) {
  if (own->started) next(" ");
  own->started = true;
  next(token);
}

void Decoder::Take(const ByteLevel& /*stage*/, std::string_view token, StageState* own,
                   const Next& next) {
  if (!AppendBytesOfSpelling(token, &own->held)) own->held += token;
  const size_t complete = own->held.size() - IncompleteSuffixSize(own->held);
  std::string text;
  AppendLossyUtf8(std::string_view(own->held).substr(0, complete), &text);
  own->held.erase(0, complete);
  next(text);
}

void Decoder::Take(const ByteFallback& /*stage*/, std::string_view token, StageState* own,
                   const Next& next) {
  if (const auto byte = ByteOfToken(token)) {
    own->held.push_back(*byte);
    return;
  }
  if (!own->held.empty()) next(TextOfBytes(own->held));
  own->held.clear();
  next(token);
}

void Decoder::Take(const Replace& stage, std::string_view token, StageState* /*own*/,
                   const Next& next) {
  next(stage.pattern.ReplaceAll(token, stage.content));
}

void Decoder::Take(const Metaspace& stage, std::string_view token, StageState* own,
                   const Next& next) {
  const bool is_first = !own->started;
  own->started = true;
  next(stage.replacement.ReplaceAll(token, is_first && stage.drops_first ? "" : " "));
}

void Decoder::Take(const Strip& stage, std::string_view token, StageState* own, const Next& next) {
  const std::string_view content = stage.content;
  if (!stage.fused) {
    token.remove_prefix(CountAtFront(token, content, stage.start) * content.size());
    token.remove_suffix(CountAtBack(token, content, stage.stop) * content.size());
    next(token);
    return;
  }
  if (!own->started) {
    const size_t count = CountAtFront(token, content, stage.start - own->num_stripped);
    own->num_stripped += count;
    token.remove_prefix(count * content.size());
    own->started = !token.empty() || own->num_stripped == stage.start;
  }
  // The last `stop` contents go if nothing follows them, so they wait.
  std::string text = std::move(own->held);
  text += token;
  const size_t held = CountAtBack(text, content, stage.stop) * content.size();
  own->held = text.substr(text.size() - held);
  text.resize(text.size() - held);
  next(text);
}

}  // namespace gale::text
