#include "text/tiktoken.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "text/base64.h"
#include "text/byte_level.h"
#include "text/word_splitter.h"

namespace gale::text {
namespace {

// OpenAI's pattern ends a text's last white space with \s++$, which Llama 3 does not have.
constexpr std::string_view kCl100kPattern =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+)"
    R"(|\s++\z|\s*[\r\n]|\s+(?!\S)|\s)";
// Moonshot writes [...&&[^\p{Han}]], which PCRE2 does not know, for what (?!\p{sc:Han})[...] says.
constexpr std::string_view kKimiPattern =
    R"([\p{sc:Han}]+)"
    R"(|[^\r\n\p{L}\p{N}]?(?:(?!\p{sc:Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])*)"
    R"((?:(?!\p{sc:Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?(?:(?!\p{sc:Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])+)"
    R"((?:(?!\p{sc:Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<std::string> Numbered(std::string_view format, int begin, int end) {
  std::vector<std::string> names;
  for (int i = begin; i < end; ++i) names.push_back(fmt::format(fmt::runtime(format), i));
  return names;
}

std::vector<std::string> Join(std::vector<std::string> first,
                              const std::vector<std::string>& rest) {
  first.insert(first.end(), rest.begin(), rest.end());
  return first;
}

std::vector<std::string> Cl100kSpecial() {
  std::vector<std::string> names(21);
  names[1] = "<|endoftext|>";
  names[2] = "<|fim_prefix|>";
  names[3] = "<|fim_middle|>";
  names[4] = "<|fim_suffix|>";
  names[20] = "<|endofprompt|>";
  return names;
}

std::vector<std::string> O200kSpecial() {
  std::vector<std::string> names(21);
  names[1] = "<|endoftext|>";
  names[20] = "<|endofprompt|>";
  return names;
}

// Llama 3.1's list (meta-llama/llama-models, tokenizer.py): 256 in all.
std::vector<std::string> Llama3Special() {
  const std::vector<std::string> named = {"<|begin_of_text|>",
                                          "<|end_of_text|>",
                                          "<|reserved_special_token_0|>",
                                          "<|reserved_special_token_1|>",
                                          "<|finetune_right_pad_id|>",
                                          "<|step_id|>",
                                          "<|start_header_id|>",
                                          "<|end_header_id|>",
                                          "<|eom_id|>",
                                          "<|eot_id|>",
                                          "<|python_tag|>",
                                          "<|image|>"};
  return Join(named, Numbered("<|reserved_special_token_{}|>", 2, 246));
}

std::vector<std::string> QwenSpecial() {
  return Join({"<|endoftext|>", "<|im_start|>", "<|im_end|>"}, Numbered("<|extra_{}|>", 0, 205));
}

struct KnownEncoding {
  std::string_view name;
  std::string_view tokenizer_class;
  int num_tokens;
  std::string_view pattern;
  std::vector<std::string> (*special)();
  std::string_view bos;
};

std::vector<std::string> EndOfText() { return {"<|endoftext|>"}; }
std::vector<std::string> NoSpecial() { return {}; }

constexpr std::array<KnownEncoding, 6> kEncodings = {{
    {"r50k_base", "", 50256, kGpt2Expression, EndOfText, ""},
    {"cl100k_base", "", 100256, kCl100kPattern, Cl100kSpecial, ""},
    {"o200k_base", "", 199998, kO200kExpression, O200kSpecial, ""},
    {"llama3", "", 128000, kLlama3Expression, Llama3Special, "<|begin_of_text|>"},
    {"qwen", "QWenTokenizer", 151643, kQwen2Expression, QwenSpecial, ""},
    {"kimi", "TikTokenTokenizer", 163584, kKimiPattern, NoSpecial, ""},
}};

}  // namespace

Result<TiktokenEncoding> FindTiktokenEncoding(std::string_view file_name,
                                              std::string_view tokenizer_class, int num_tokens) {
  const std::string_view stem = file_name.substr(0, file_name.find('.'));
  const auto find = [](auto&& is_it) {
    return std::find_if(kEncodings.begin(), kEncodings.end(), is_it);
  };
  auto known = find([&](const KnownEncoding& e) { return e.name == stem; });
  if (known == kEncodings.end() && !tokenizer_class.empty()) {
    known = find([&](const KnownEncoding& e) { return e.tokenizer_class == tokenizer_class; });
  }
  if (known == kEncodings.end()) {
    known = find([&](const KnownEncoding& e) { return e.num_tokens == num_tokens; });
  }
  if (known != kEncodings.end()) {
    return TiktokenEncoding{known->name, known->pattern, known->special(), known->bos};
  }
  std::string names;
  for (const KnownEncoding& e : kEncodings) names += fmt::format(" {} ({}),", e.name, e.num_tokens);
  names.pop_back();
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{}: a tiktoken file does not tell its pattern, and none is known "
                               "for {} tokens; known are{}; name the file after one of them",
                               file_name, num_tokens, names));
}

Result<Vocabulary> ParseTiktokenRanks(std::string_view text) {
  const auto corrupt = [](int line_number, std::string_view line) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("tiktoken file: line {}: expected a token in base64 and a rank of "
                                 "its own under {}, got \"{}\"",
                                 line_number, kMaxTokenId, line.substr(0, 60)));
  };
  std::vector<std::string> spellings;
  int num_bytes = 0;
  for (int line_number = 1; !text.empty(); ++line_number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    const auto bytes = DecodeBase64(line.substr(0, space));
    int64_t rank = -1;
    const char* const end = line.data() + line.size();
    const auto parsed = std::from_chars(std::min(line.data() + space + 1, end), end, rank);
    if (space == line.npos || !bytes || bytes->empty() || parsed.ec != std::errc() ||
        parsed.ptr != end || rank < 0 || rank >= kMaxTokenId) {
      return corrupt(line_number, line);
    }
    const auto id = static_cast<size_t>(rank);
    if (id >= spellings.size()) spellings.resize(id + 1);
    if (!spellings[id].empty()) return corrupt(line_number, line);
    AppendByteLevel(*bytes, &spellings[id]);
    num_bytes += bytes->size() == 1;
  }
  if (num_bytes != 256) {
    return MakeError(
        ErrorCode::kDataCorrupt,
        fmt::format("tiktoken file: expected each of the 256 bytes as a token, got {}", num_bytes));
  }
  std::vector<std::string_view> tokens;
  for (const std::string& spelling : spellings) {
    tokens.push_back(spelling.empty() ? std::string_view() : spelling);
  }
  return Vocabulary::FromList(tokens);
}

bool LooksLikeTiktoken(std::string_view text) {
  const std::string_view line = text.substr(0, std::min(text.find('\n'), size_t{4096}));
  const size_t space = line.find(' ');
  return space != line.npos && space > 0 && DecodeBase64(line.substr(0, space)).has_value() &&
         space + 1 < line.size() && line[space + 1] >= '0' && line[space + 1] <= '9';
}

}  // namespace gale::text
