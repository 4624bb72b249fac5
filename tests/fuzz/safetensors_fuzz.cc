// Any bytes as a safetensors file: refused, or a list of tensors that lie inside the file.
#include <cstdint>

#include "base/check.h"
#include "weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  const auto entries = gale::ParseSafetensors(file, "fuzz");
  if (!entries) {
    GALE_CHECK(!entries.error().message.empty());
    return 0;
  }
  size_t bytes = 0;
  for (const gale::CheckpointTensor& entry : *entries) {
    GALE_CHECK(entry.data.data() >= file.data());
    GALE_CHECK(entry.data.data() + entry.data.size() <= file.data() + file.size());
    bytes += entry.data.size();
  }
  GALE_CHECK_LE(bytes, size);
  return 0;
}
