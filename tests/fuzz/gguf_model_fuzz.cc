// Any bytes as a GGUF model: its metadata and tensors are refused with a message, or are a
// configuration and tensors that lie inside the file.
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include <unistd.h>

#include "base/check.h"
#include "weights/gguf_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path = "/dev/shm/gale_fuzz_" + std::to_string(getpid()) + ".gguf";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const auto model = gale::GgufModel::Open(path);
  if (!model) {
    GALE_CHECK(!model.error().message.empty());
    return 0;
  }
  const std::vector<std::string> known = {
      "LlamaForCausalLM",    "MixtralForCausalLM", "Qwen2ForCausalLM", "Qwen3MoeForCausalLM",
      "Gemma2ForCausalLM",   "Gemma3ForCausalLM",  "Phi3ForCausalLM",  "Glm4ForCausalLM",
      "Qwen2MoeForCausalLM", "Qwen3ForCausalLM"};
  if (const auto config = model->Config(known); !config) {
    GALE_CHECK(!config.error().message.empty());
  } else {
    GALE_CHECK(config->num_layers > 0 && config->head_dim > 0 && config->hidden_size > 0);
  }
  const auto tensors = model->Tensors();
  if (!tensors) {
    GALE_CHECK(!tensors.error().message.empty());
    return 0;
  }
  for (const gale::CheckpointTensor& tensor : *tensors) {
    const auto file = model->files[0].bytes();
    GALE_CHECK(tensor.data.data() >= file.data());
    GALE_CHECK(tensor.data.data() + tensor.data.size() <= file.data() + file.size());
  }
  return 0;
}
