// Any text as config.json and as generation_config.json: refused, or within the promised ranges.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "weights/hf_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string known[] = {"LlamaForCausalLM", "Qwen3ForCausalLM"};
  constexpr int kVocab = 1000;
  if (const auto config = gale::ParseHfConfig(text, "fuzz", known)) {
    GALE_CHECK_GT(config->num_layers, 0);
    GALE_CHECK_GT(config->num_kv_heads, 0);
    GALE_CHECK_EQ(config->num_heads % config->num_kv_heads, 0);
    GALE_CHECK_EQ(config->head_dim % 2, 0);
    GALE_CHECK_GT(config->head_dim, 0);
    for (const gale::TokenId id : config->eos_token_ids) GALE_CHECK_LT(id, config->vocab_size);
  }
  if (const auto generation = gale::ParseGenerationConfig(text, "fuzz", kVocab)) {
    GALE_CHECK_GE(generation->sampling.temperature, 0);
    GALE_CHECK_GT(generation->sampling.top_p, 0);
    for (const gale::TokenId id : generation->eos_token_ids) GALE_CHECK_LT(id, kVocab);
  }
  return 0;
}
