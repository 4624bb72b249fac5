#include "text/sentencepiece_normalizer.h"

#include "text/utf8.h"

namespace gale::text {

std::string_view SentencePieceNormalizer::FrontOf(std::string_view text, size_t* size) const {
  if (const TokenTrie::Match match = kept.LongestAt(text); match.index >= 0) {
    *size = match.size;
    return text.substr(0, match.size);
  }
  if (const auto rule = charsmap.Longest(text)) {
    *size = rule->size;
    return rule->replacement;
  }
  *size = Utf8Size(text[0]);
  return text.substr(0, *size);
}

std::string SentencePieceNormalizer::Normalize(std::string_view text, bool at_text_start) const {
  const std::string_view space = escape_whitespaces ? "▁" : " ";
  size_t size = 0;
  while (remove_extra_whitespaces && !text.empty() && FrontOf(text, &size) == " ") {
    text.remove_prefix(size);
  }
  if (text.empty()) return {};

  std::string out;
  out.reserve(text.size() + text.size() / 2);
  if (add_dummy_prefix && !whitespace_as_suffix && at_text_start) out += space;
  bool skips_spaces = remove_extra_whitespaces;
  while (!text.empty()) {
    std::string_view front = FrontOf(text, &size);
    text.remove_prefix(size);
    while (skips_spaces && front.starts_with(' ')) front.remove_prefix(1);
    if (front.empty()) continue;
    for (const char c : front) {
      if (c == ' ') {
        out += space;
      } else {
        out.push_back(c);
      }
    }
    skips_spaces = remove_extra_whitespaces && front.ends_with(' ');
  }
  while (remove_extra_whitespaces && out.ends_with(space)) out.resize(out.size() - space.size());
  if (add_dummy_prefix && whitespace_as_suffix) out += space;
  return out;
}

}  // namespace gale::text
