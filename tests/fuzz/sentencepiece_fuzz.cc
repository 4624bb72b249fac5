// Any bytes as a SentencePiece model, and a text through what loads. The input is the text up to a
// NUL, then the file.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gale/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t border = std::min(input.find('\0'), size);
  const std::string_view text = input.substr(0, border);
  const auto tokenizer =
      gale::Tokenizer::FromSentencePiece(input.substr(std::min(border + 1, size)));
  if (!tokenizer) return 0;
  const auto ids = (*tokenizer)->Encode(text, {.parse_special = true});
  const auto plain = (*tokenizer)->Encode(text, {.add_special_tokens = false});
  for (const gale::TokenId id : plain) {
    // Text never becomes a control token; what is unknown becomes the unknown one.
    if ((*tokenizer)->IdToToken(id).empty()) std::abort();
  }
  gale::IncrementalDetokenizer detokenizer(**tokenizer);
  std::string streamed;
  for (const gale::TokenId id : ids) streamed += detokenizer.Push(id);
  streamed += detokenizer.Flush();
  if (streamed != (*tokenizer)->Decode(ids)) std::abort();
  return 0;
}
