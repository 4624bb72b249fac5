// Any bytes as tokenizer.json, and any text through what loads. The input is the file up to a NUL,
// then the text.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gale/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t border = std::min(input.find('\0'), size);
  const std::string_view text = input.substr(std::min(border + 1, size));
  const auto tokenizer = gale::Tokenizer::FromJson(input.substr(0, border));
  if (!tokenizer) return 0;
  const auto ids = (*tokenizer)->Encode(text, {.parse_special = true});
  const std::vector<gale::TextSpan> spans = {{text.size() / 4, text.size() / 2}};
  (*tokenizer)->EncodePrompt(text, spans);
  gale::IncrementalDetokenizer detokenizer(**tokenizer);
  std::string streamed;
  for (const gale::TokenId id : ids) streamed += detokenizer.Push(id);
  streamed += detokenizer.Flush();
  if (streamed != (*tokenizer)->Decode(ids)) std::abort();
  return 0;
}
