// Any text as config.json and as generation_config.json: refused, or within the promised ranges.
#include <cstdint>
#include <iterator>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "weights/generation_config.h"
#include "weights/hf_config.h"

namespace {

void CheckRope(const gale::RopeConfig& rope, int rotary_dim) {
  GALE_CHECK_GT(rope.context, 0);
  GALE_CHECK_GT(rope.original_max_position, 0);
  GALE_CHECK_GT(rope.attention_factor, 0);
  if (rope.type != gale::RopeType::kLongRope) return;
  GALE_CHECK_EQ(2 * std::ssize(rope.short_divisors), rotary_dim);
  GALE_CHECK_EQ(2 * std::ssize(rope.long_divisors), rotary_dim);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string known[] = {"LlamaForCausalLM", "Qwen3ForCausalLM", "Phi3ForCausalLM",
                               "Gemma3ForConditionalGeneration"};
  constexpr int kVocab = 1000;
  if (const auto config = gale::ParseHfConfig(text, "fuzz", known)) {
    GALE_CHECK_GT(config->num_layers, 0);
    GALE_CHECK_GT(config->num_kv_heads, 0);
    GALE_CHECK_EQ(config->num_heads % config->num_kv_heads, 0);
    GALE_CHECK_EQ(config->head_dim % 2, 0);
    GALE_CHECK_GT(config->head_dim, 0);
    GALE_CHECK_EQ(config->rotary_dim % 2, 0);
    GALE_CHECK_GT(config->rotary_dim, 0);
    GALE_CHECK_LE(config->rotary_dim, config->head_dim);
    GALE_CHECK_GE(config->sliding_window, 0);
    if (!config->has_window.empty()) {
      GALE_CHECK_EQ(std::ssize(config->has_window), config->num_layers);
    }
    CheckRope(config->rope, config->rotary_dim);
    if (config->sliding_rope) CheckRope(*config->sliding_rope, config->rotary_dim);
    for (const gale::TokenId id : config->eos_token_ids) GALE_CHECK_LT(id, config->vocab_size);
  }
  if (const auto generation = gale::ParseGenerationConfig(text, "fuzz", kVocab)) {
    GALE_CHECK_GE(generation->sampling.temperature, 0);
    GALE_CHECK_GT(generation->sampling.top_p, 0);
    GALE_CHECK_GT(generation->sampling.typical_p, 0);
    GALE_CHECK_GT(generation->sampling.repetition_penalty, 0);
    GALE_CHECK_LE(generation->sampling.min_tokens, generation->sampling.max_tokens);
    for (const std::vector<gale::TokenId>& sequence : generation->sampling.bad_token_ids) {
      for (const gale::TokenId id : sequence) GALE_CHECK_LT(id, kVocab);
    }
    for (const gale::TokenId id : generation->eos_token_ids) GALE_CHECK_LT(id, kVocab);
  }
  return 0;
}
