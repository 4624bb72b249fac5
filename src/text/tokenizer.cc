// Encoding and decoding over the parts of tokenizer.json; behaves as the `tokenizers` library does.
#include "gale/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <limits>
#include <thread>

#include <fmt/format.h>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/status_macros.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace gale {
namespace {

// Long texts are cut into blocks, so that what a block passes through stays in the cache.
constexpr size_t kBlockBytes = 32 << 10;
// What pays for handing work to a thread.
constexpr size_t kMinBytesPerThread = 256 << 10;

bool Overlaps(const TextSpan& span, size_t begin, size_t end) {
  return span.begin < end && begin < span.end;
}

/// The first of the sorted `spans` that ends after `pos`.
std::span<const TextSpan>::iterator FirstEndingAfter(std::span<const TextSpan> spans, size_t pos) {
  return std::partition_point(spans.begin(), spans.end(),
                              [pos](const TextSpan& s) { return s.end <= pos; });
}

bool OverlapsAny(std::span<const TextSpan> spans, size_t begin, size_t end) {
  const auto it = FirstEndingAfter(spans, begin);
  return it != spans.end() && Overlaps(*it, begin, end);
}

/// `spans` within [begin, end), relative to begin.
std::vector<TextSpan> Within(std::span<const TextSpan> spans, size_t begin, size_t end) {
  std::vector<TextSpan> inside;
  for (auto it = FirstEndingAfter(spans, begin); it != spans.end() && it->begin < end; ++it) {
    inside.push_back({std::max(it->begin, begin) - begin, std::min(it->end, end) - begin});
  }
  return inside;
}

/// Where `spans` of `text` lie once it is normalized. Normalizers work character by character, but
/// for composition across a border and for what they prepend, so a stretch grows by what it grows
/// behind a letter.
std::vector<TextSpan> NormalizedSpans(const text::Normalizer& normalizer, std::string_view text,
                                      size_t normalized_size, std::span<const TextSpan> spans) {
  const std::string anchor = "x";
  const size_t anchor_size = normalizer.Normalize(anchor).size();
  size_t done = 0;
  size_t position = 0;
  const auto advance = [&](size_t to) {
    const std::string stretch = anchor + std::string(text.substr(done, to - done));
    position += normalizer.Normalize(stretch).size() - anchor_size;
    done = to;
    return position;
  };
  std::vector<TextSpan> result;
  for (const TextSpan& span : spans) {
    const size_t begin = advance(span.begin);
    result.push_back({begin, advance(span.end)});
  }
  // What was prepended stands before everything.
  advance(text.size());
  const size_t prepended = normalized_size > position ? normalized_size - position : 0;
  for (TextSpan& span : result) {
    span.begin += prepended;
    span.end += prepended;
  }
  return result;
}

/// Sorts and joins spans, and cuts off what lies past the text.
std::vector<TextSpan> Tidy(std::span<const TextSpan> spans, size_t text_size) {
  std::vector<TextSpan> sorted(spans.begin(), spans.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const TextSpan& a, const TextSpan& b) { return a.begin < b.begin; });
  std::vector<TextSpan> tidy;
  for (TextSpan span : sorted) {
    span.end = std::min(span.end, text_size);
    if (span.begin >= span.end) continue;
    if (!tidy.empty() && span.begin <= tidy.back().end) {
      tidy.back().end = std::max(tidy.back().end, span.end);
    } else {
      tidy.push_back(span);
    }
  }
  return tidy;
}

/// Repairs UTF-8 stretch by stretch, so that spans keep their place.
std::string Repair(std::string_view text, std::vector<TextSpan>* spans) {
  std::string repaired;
  size_t done = 0;
  const auto advance = [&](size_t to) {
    text::AppendLossyUtf8(text.substr(done, to - done), &repaired);
    done = to;
    return repaired.size();
  };
  for (TextSpan& span : *spans) {
    span.begin = advance(span.begin);
    span.end = advance(span.end);
  }
  advance(text.size());
  return repaired;
}

}  // namespace

Result<std::unique_ptr<Tokenizer::Impl>> Tokenizer::Impl::Parse(const JsonObject& file,
                                                                text::CacheReader* cache) {
  auto impl = std::make_unique<Impl>();
  if (const auto part = file.Find("normalizer")) {
    GALE_ASSIGN_OR_RETURN(impl->normalizer, text::Normalizer::Parse(*part));
  }
  if (const auto part = file.Find("added_tokens")) {
    GALE_ASSIGN_OR_RETURN(impl->added_tokens, text::AddedTokens::Parse(*part, impl->normalizer));
  }
  GALE_ASSIGN_OR_RETURN(const JsonValue model, file.Get("model"));
  if (cache != nullptr) {
    GALE_ASSIGN_OR_RETURN(const JsonObject members, model.Object());
    impl->model = text::Bpe::Load(members, cache);
    if (!impl->model) return tl::unexpected(model.Wrong("arrays that belong to it in the cache"));
  } else {
    GALE_ASSIGN_OR_RETURN(impl->model,
                          text::TokenModel::Parse(model, [&impl](std::string_view token) {
                            const text::AddedToken* added = impl->added_tokens.FindContent(token);
                            return added != nullptr && added->special;
                          }));
  }
  if (const auto part = file.Find("pre_tokenizer")) {
    GALE_ASSIGN_OR_RETURN(impl->pre_tokenizer, text::PreTokenizer::Parse(*part));
  }
  if (const auto part = file.Find("post_processor")) {
    GALE_ASSIGN_OR_RETURN(impl->post_processor, text::PostProcessor::Parse(*part));
  }
  if (const auto part = file.Find("decoder")) {
    GALE_ASSIGN_OR_RETURN(impl->decoder, text::Decoder::Parse(*part));
  }
  if (const auto part = file.Find("truncation")) {
    GALE_RETURN_IF_ERROR(impl->ParseTruncation(*part));
  }
  impl->FinishLoading();
  return impl;
}

Status Tokenizer::Impl::ParseTruncation(const JsonValue& value) {
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value.Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue length_value, object.Get("max_length"));
  GALE_ASSIGN_OR_RETURN(const int64_t max_length,
                        length_value.Int(0, std::numeric_limits<int64_t>::max()));
  const auto direction_value = object.Find("direction");
  GALE_ASSIGN_OR_RETURN(const std::string_view direction,
                        direction_value ? direction_value->String() : "Right");
  if (direction != "Right" && direction != "Left") {
    return tl::unexpected(direction_value->Wrong("Right or Left"));
  }
  truncation = Truncation{static_cast<size_t>(max_length), direction == "Left"};
  return {};
}

void Tokenizer::Impl::Truncate(size_t num_added, std::vector<TokenId>* ids) const {
  if (!truncation) return;
  const size_t limit = truncation->max_length - std::min(truncation->max_length, num_added);
  if (ids->size() <= limit) return;
  if (truncation->keeps_end) ids->erase(ids->begin(), ids->end() - static_cast<ptrdiff_t>(limit));
  ids->resize(limit);
}

void Tokenizer::Impl::Encode(std::string_view text, std::span<const TextSpan> plain, int threads,
                             std::vector<TokenId>* ids) const {
  const auto sections = added_tokens.Find(
      text, /*normalized=*/false, [&](const text::AddedToken& token, size_t begin, size_t end) {
        return !token.special || !OverlapsAny(plain, begin, end);
      });
  for (const text::Section& section : sections) {
    if (section.token != nullptr) {
      ids->push_back(section.token->id);
      continue;
    }
    const std::string_view part = text.substr(section.begin, section.end - section.begin);
    const std::vector<TextSpan> plain_part = Within(plain, section.begin, section.end);
    const bool at_text_start = section.begin == 0;
    std::string normalized = normalizer.Normalize(std::string(part), at_text_start);
    const bool spans_stay = normalizer.is_identity() || !added_tokens.has_normalized_special();
    if (spans_stay || plain_part.empty()) {
      EncodeNormalized(std::move(normalized), plain_part, at_text_start, threads, ids);
    } else {
      const auto moved = NormalizedSpans(normalizer, part, normalized.size(), plain_part);
      EncodeNormalized(std::move(normalized), moved, at_text_start, threads, ids);
    }
  }
}

void Tokenizer::Impl::EncodeNormalized(std::string normalized, std::span<const TextSpan> plain,
                                       bool at_text_start, int threads,
                                       std::vector<TokenId>* ids) const {
  const auto sections =
      added_tokens.Find(normalized, /*normalized=*/true,
                        [&](const text::AddedToken& token, size_t begin, size_t end) {
                          return !token.special || !OverlapsAny(plain, begin, end);
                        });
  for (const text::Section& section : sections) {
    if (section.token != nullptr) {
      ids->push_back(section.token->id);
      continue;
    }
    EncodePlain(std::string_view(normalized).substr(section.begin, section.end - section.begin),
                at_text_start && section.begin == 0, threads, ids);
  }
}

void Tokenizer::Impl::EncodePlain(std::string_view text, bool at_text_start, int threads,
                                  std::vector<TokenId>* ids) const {
  if (threads <= 1 || text.size() < kMinBytesPerThread) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = EndOfBlock(text, begin, kBlockBytes);
      EncodeBlock(text.substr(begin, end - begin), at_text_start && begin == 0, ids);
      begin = end;
    }
    return;
  }
  std::vector<size_t> ends;
  while (ends.empty() || ends.back() < text.size()) {
    ends.push_back(EndOfBlock(text, ends.empty() ? 0 : ends.back(), kMinBytesPerThread));
  }
  std::vector<std::vector<TokenId>> parts(ends.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i; (i = next++) < parts.size();) {
      const size_t begin = i == 0 ? 0 : ends[i - 1];
      EncodePlain(text.substr(begin, ends[i] - begin), at_text_start && i == 0, /*threads=*/1,
                  &parts[i]);
    }
  };
  std::vector<std::jthread> workers;
  for (int i = 1; i < threads && workers.size() + 1 < parts.size(); ++i) workers.emplace_back(work);
  work();
  workers.clear();
  for (const auto& part : parts) ids->insert(ids->end(), part.begin(), part.end());
}

size_t Tokenizer::Impl::EndOfBlock(std::string_view text, size_t begin, size_t num_bytes) const {
  return pre_tokenizer.SafeCut(text, std::min(begin + num_bytes, text.size()));
}

void Tokenizer::Impl::EncodeBlock(std::string_view block, bool at_text_start,
                                  std::vector<TokenId>* ids) const {
  const text::PieceList list = pre_tokenizer.Cut(std::string(block), at_text_start);
  for (size_t i = 0; i < list.pieces.size(); ++i) model->Tokenize(list[i], ids);
}

std::optional<std::string_view> Tokenizer::Impl::Spelling(TokenId id, bool skip_special) const {
  if (const text::AddedToken* token = added_tokens.FindId(id)) {
    if (token->special && skip_special) return std::nullopt;
    return token->spelling;
  }
  if (!model->vocabulary().Has(id)) return std::nullopt;
  return model->vocabulary().Token(id);
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromJsonFile(const std::string& path) {
  GALE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.text().size() > text::kMaxTokenizerFileBytes) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("{}: has {} bytes, at most {} are read", path, file.text().size(),
                                 text::kMaxTokenizerFileBytes));
  }
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<Impl> impl, Impl::ParseCached(file.text()));
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json) {
  GALE_ASSIGN_OR_RETURN(const JsonDocument document,
                        JsonDocument::Parse(tokenizer_json, "tokenizer.json"));
  GALE_ASSIGN_OR_RETURN(const JsonObject file, document.root().Object());
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<Impl> impl, Impl::Parse(file));
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<TextSpan> plain;
  if (!options.parse_special) plain = Tidy({{TextSpan{0, text.size()}}}, text.size());
  const bool valid = text::IsValidUtf8(text);
  const std::string repaired = valid ? std::string() : Repair(text, &plain);
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3 + 2);
  impl_->Encode(valid ? text : std::string_view(repaired), plain, options.threads, &ids);
  const auto& before = impl_->post_processor.before();
  const auto& after = impl_->post_processor.after();
  if (options.truncate) {
    impl_->Truncate(options.add_special_tokens ? before.size() + after.size() : 0, &ids);
  }
  if (options.add_special_tokens) {
    ids.insert(ids.begin(), before.begin(), before.end());
    ids.insert(ids.end(), after.begin(), after.end());
  }
  return ids;
}

std::vector<TokenId> Tokenizer::EncodePrompt(std::string_view text,
                                             std::span<const TextSpan> user_spans) const {
  std::vector<TextSpan> plain = Tidy(user_spans, text.size());
  const bool valid = text::IsValidUtf8(text);
  const std::string repaired = valid ? std::string() : Repair(text, &plain);
  std::vector<TokenId> ids;
  impl_->Encode(valid ? text : std::string_view(repaired), plain, /*threads=*/1, &ids);
  return ids;
}

std::string Tokenizer::Decode(std::span<const TokenId> tokens, bool skip_special) const {
  std::string out;
  text::Decoder::State state = impl_->decoder.Start();
  for (const TokenId token : tokens) {
    if (const auto spelling = impl_->Spelling(token, skip_special)) {
      impl_->decoder.Push(*spelling, &state, &out);
    }
  }
  impl_->decoder.Finish(&state, &out);
  return out;
}

int Tokenizer::vocab_size() const { return impl_->vocab_size; }

std::optional<TokenId> Tokenizer::TokenToId(std::string_view token) const {
  if (const text::AddedToken* added = impl_->added_tokens.FindContent(token)) return added->id;
  return impl_->model->vocabulary().Find(token);
}

std::string_view Tokenizer::IdToToken(TokenId id) const {
  return impl_->Spelling(id, /*skip_special=*/false).value_or(std::string_view());
}

std::string Tokenizer::TokenBytes(TokenId id) const {
  const std::optional<std::string_view> spelling = impl_->Spelling(id, /*skip_special=*/false);
  if (!spelling) return {};
  // Behind itself, since decoders drop the leading space of a first token.
  text::Decoder::State state = impl_->decoder.Start();
  std::string text;
  impl_->decoder.Push(*spelling, &state, &text);
  text.clear();
  impl_->decoder.Push(*spelling, &state, &text);
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  if (!text.empty() && text.find(kReplacement) == std::string::npos) return text;
  // No whole characters: a byte of byte fallback, or bytes as byte-level vocabularies spell them.
  unsigned byte = 0;
  if (spelling->size() == 6 && std::sscanf(std::string(*spelling).c_str(), "<0x%2X>", &byte) == 1) {
    return {static_cast<char>(byte)};
  }
  std::string bytes;
  return text::AppendBytesOfSpelling(*spelling, &bytes) ? bytes : text;
}

bool Tokenizer::IsSpecial(TokenId id) const {
  const text::AddedToken* token = impl_->added_tokens.FindId(id);
  return token != nullptr && token->special;
}

}  // namespace gale
