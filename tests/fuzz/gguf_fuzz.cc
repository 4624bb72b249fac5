// Any bytes as a GGUF file: refused, or tensors that lie inside the file and metadata that every
// accessor either reads or refuses.
#include <cstdint>

#include "base/check.h"
#include "base/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  const auto gguf = gale::Gguf::Parse(file, "fuzz");
  if (!gguf) {
    GALE_CHECK(!gguf.error().message.empty());
    return 0;
  }
  size_t bytes = 0;
  for (const gale::GgufTensor& tensor : gguf->tensors()) {
    GALE_CHECK(tensor.data.data() >= file.data());
    GALE_CHECK(tensor.data.data() + tensor.data.size() <= file.data() + file.size());
    bytes += tensor.data.size();
  }
  GALE_CHECK_LE(bytes, size);
  for (const char* key : {"general.alignment", "a", "k", "llama.block_count"}) {
    const bool is_read = gguf->Bool(key) || gguf->Int(key) || gguf->Number(key) ||
                         gguf->String(key) || gguf->Strings(key) || gguf->Numbers(key);
    if (!is_read) GALE_CHECK(!gguf->Wrong(key, "anything").message.empty());
  }
  return 0;
}
