// Any bytes as a GGUF file with a tokenizer and a chat template, and a text through what loads. The
// input is the text up to a NUL, then the file.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include <unistd.h>

#include "gale/chat.h"
#include "gale/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path = "/dev/shm/gale_fuzz_" + std::to_string(getpid()) + ".gguf";
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t border = std::min(input.find('\0'), size);
  const std::string_view text = input.substr(0, border);
  const std::string_view file = input.substr(std::min(border + 1, size));
  std::ofstream(path, std::ios::binary)
      .write(file.data(), static_cast<std::streamsize>(file.size()));
  const auto chat_template = gale::ChatTemplate::FromFolder(path);
  if (!chat_template && chat_template.error().message.empty()) std::abort();
  const auto tokenizer = gale::Tokenizer::FromFolder(path);
  if (!tokenizer) {
    if (tokenizer.error().message.empty()) std::abort();
    return 0;
  }
  const auto ids = (*tokenizer)->Encode(text, {.parse_special = true});
  gale::IncrementalDetokenizer detokenizer(**tokenizer);
  std::string streamed;
  for (const gale::TokenId id : ids) streamed += detokenizer.Push(id);
  streamed += detokenizer.Flush();
  if (streamed != (*tokenizer)->Decode(ids)) std::abort();
  return 0;
}
