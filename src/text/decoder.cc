#include "text/decoder.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "text/byte_level.h"
#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

constexpr std::string_view kKnown =
    "BPEDecoder, ByteFallback, ByteLevel, CTC, Fuse, Metaspace, Replace, Sequence, Strip, "
    "WordPiece";

constexpr std::string_view kDummyPrefix = "▁";

// What undoes the spaces of word pieces, in the order in which `transformers` and `tokenizers`
// apply it to one token.
constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kCleanups = {{
    {" .", "."},
    {" ?", "?"},
    {" !", "!"},
    {" ,", ","},
    {" ' ", "'"},
    {" n't", "n't"},
    {" 'm", "'m"},
    {" do not", " don't"},
    {" 's", "'s"},
    {" 've", "'ve"},
    {" 're", "'re"},
}};

std::string CleanedUp(std::string text) {
  for (const auto& [from, to] : kCleanups) {
    for (size_t pos = 0; (pos = text.find(from, pos)) != std::string::npos; pos += to.size()) {
      text.replace(pos, from.size(), to);
    }
  }
  return text;
}

/// The byte that "<0xE4>" stands for.
std::optional<char> ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  uint8_t byte = 0;
  const auto [end, error] = std::from_chars(&token[3], &token[5], byte, 16);
  if (error != std::errc() || end != &token[5]) return std::nullopt;
  return static_cast<char>(byte);
}

/// Hands a run of byte tokens on as text. Where it is not valid as a whole, each byte is a U+FFFD
/// of its own; with `keeps_valid`, each that is part of no character.
void PassBytesOn(std::string_view bytes, bool keeps_valid,
                 const std::function<void(std::string_view)>& next) {
  if (IsValidUtf8(bytes)) {
    if (!bytes.empty()) next(bytes);
    return;
  }
  while (!bytes.empty()) {
    const Utf8Char c = DecodeUtf8(bytes);
    const bool keeps = keeps_valid && c.state == Utf8Char::State::kValid;
    next(keeps ? bytes.substr(0, c.size) : kReplacementCharacter);
    bytes.remove_prefix(keeps ? c.size : 1);
  }
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
        return decoder.AddStage(at, part.type, part.object, &fused);
      }));
  return decoder;
}

Decoder Decoder::SentencePiece(DummyPrefix dummy_prefix) {
  Decoder decoder;
  decoder.stages_.clear();
  if (dummy_prefix != DummyPrefix::kNone) {
    decoder.stages_.emplace_back(DropDummyPrefix{dummy_prefix == DummyPrefix::kAll});
  }
  decoder.stages_.emplace_back(Replace{*Pattern::Literal(kDummyPrefix), " "});
  decoder.stages_.emplace_back(ByteFallback{.keeps_valid = true});
  return decoder;
}

Status Decoder::AddStage(const JsonValue& at, std::string_view type, const JsonObject& object,
                         bool* fused) {
  if (type == "Fuse" || type == "ByteLevel") {
    // What only Strip follows need not be held back to become one token.
    if (type == "ByteLevel") stages_.emplace_back(ByteLevel{});
    *fused = true;
    return {};
  }
  if (type == "Strip") {
    GALE_ASSIGN_OR_RETURN(Strip strip, ParseStrip(object, *fused));
    stages_.emplace_back(std::move(strip));
    return {};
  }
  if (*fused) stages_.emplace_back(Fuse{});
  *fused = false;
  if (type == "ByteFallback") {
    stages_.emplace_back(ByteFallback{});
  } else if (type == "Metaspace") {
    GALE_ASSIGN_OR_RETURN(Stage stage, ParseMetaspace(object));
    stages_.push_back(std::move(stage));
  } else if (type == "Replace") {
    GALE_ASSIGN_OR_RETURN(Stage stage, ParseReplace(object));
    stages_.push_back(std::move(stage));
  } else if (type == "BPEDecoder") {
    GALE_ASSIGN_OR_RETURN(const std::string_view suffix, StringOr(object, "suffix", "</w>"));
    GALE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Literal(suffix));
    stages_.emplace_back(Bpe{std::move(pattern)});
  } else if (type == "WordPiece") {
    GALE_ASSIGN_OR_RETURN(const std::string_view prefix, StringOr(object, "prefix", "##"));
    GALE_ASSIGN_OR_RETURN(const bool cleanup, BoolOr(object, "cleanup", true));
    stages_.emplace_back(WordPiece{std::string(prefix), cleanup});
  } else if (type == "CTC") {
    GALE_ASSIGN_OR_RETURN(Stage stage, ParseCtc(object));
    stages_.push_back(std::move(stage));
  } else {
    return UnknownType(at, type, kKnown);
  }
  return {};
}

Result<Decoder::Stage> Decoder::ParseReplace(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const JsonValue pattern_value, object.Get("pattern"));
  GALE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(pattern_value));
  GALE_ASSIGN_OR_RETURN(const JsonValue content, object.Get("content"));
  GALE_ASSIGN_OR_RETURN(const std::string_view text, content.String());
  return Replace{std::move(pattern), std::string(text)};
}

Result<Decoder::Stage> Decoder::ParseMetaspace(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const std::string_view replacement, StringOr(object, "replacement", "▁"));
  GALE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Literal(replacement));
  GALE_ASSIGN_OR_RETURN(const bool prefix, BoolOr(object, "add_prefix_space", true));
  GALE_ASSIGN_OR_RETURN(const std::string_view scheme,
                        StringOr(object, "prepend_scheme", prefix ? "always" : "never"));
  return Metaspace{std::move(pattern), scheme != "never"};
}

Result<Decoder::Stage> Decoder::ParseCtc(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const std::string_view pad, StringOr(object, "pad_token", "<pad>"));
  GALE_ASSIGN_OR_RETURN(const std::string_view delimiter,
                        StringOr(object, "word_delimiter_token", "|"));
  GALE_ASSIGN_OR_RETURN(const bool cleanup, BoolOr(object, "cleanup", true));
  GALE_ASSIGN_OR_RETURN(Pattern pad_pattern, Pattern::Literal(pad));
  GALE_ASSIGN_OR_RETURN(Pattern delimiter_pattern, Pattern::Literal(delimiter));
  return Ctc{std::move(pad_pattern), std::move(delimiter_pattern), cleanup};
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
  const Next next = [&](std::string_view text) { Feed(stage + 1, text, state, out); };
  if (const auto* bpe = std::get_if<Bpe>(&stages_[stage])) {
    // An empty token is one for the stages behind.
    if ((*state)[stage].started) next(bpe->suffix.ReplaceAll(held, ""));
    return;
  }
  if (held.empty()) return;
  if (std::holds_alternative<ByteLevel>(stages_[stage])) {
    std::string text;
    AppendLossyUtf8(held, &text);
    next(text);
  } else if (const auto* bytes = std::get_if<ByteFallback>(&stages_[stage])) {
    PassBytesOn(held, bytes->keeps_valid, next);
  } else if (std::holds_alternative<Fuse>(stages_[stage])) {
    next(held);
  }
  // What Strip holds back is what it removes; Ctc keeps what it has passed on.
}

void Decoder::Take(const Join& /*stage*/, std::string_view token, StageState* own,
                   const Next& next) {
  if (own->started) next(" ");
  own->started = true;
  next(token);
}

void Decoder::Take(const DropDummyPrefix& stage, std::string_view token, StageState* own,
                   const Next& next) {
  if (!own->started && token.starts_with(kDummyPrefix)) {
    token.remove_prefix(kDummyPrefix.size());
    own->started = !stage.from_all;
  }
  own->started |= !token.empty();
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

void Decoder::Take(const ByteFallback& stage, std::string_view token, StageState* own,
                   const Next& next) {
  if (const auto byte = ByteOfToken(token)) {
    own->held.push_back(*byte);
    return;
  }
  PassBytesOn(std::exchange(own->held, {}), stage.keeps_valid, next);
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

void Decoder::Take(const Fuse& /*stage*/, std::string_view token, StageState* own,
                   const Next& /*next*/) {
  own->held += token;
}

void Decoder::Take(const Bpe& stage, std::string_view token, StageState* own, const Next& next) {
  if (own->started) next(stage.suffix.ReplaceAll(own->held, " "));
  own->started = true;
  own->held = token;
}

void Decoder::Take(const WordPiece& stage, std::string_view token, StageState* own,
                   const Next& next) {
  std::string text;
  if (!own->started) {
    text = token;
  } else if (token.starts_with(stage.prefix)) {
    text = token.substr(stage.prefix.size());
  } else {
    text = " ";
    text += token;
  }
  own->started = true;
  next(stage.cleanup ? CleanedUp(std::move(text)) : text);
}

void Decoder::Take(const Ctc& stage, std::string_view token, StageState* own, const Next& next) {
  if (own->started && own->held == token) return;
  own->started = true;
  own->held = token;
  std::string text = stage.pad.ReplaceAll(token, "");
  if (stage.cleanup) text = stage.word_delimiter.ReplaceAll(CleanedUp(std::move(text)), " ");
  if (!text.empty()) next(text);
}

}  // namespace gale::text
