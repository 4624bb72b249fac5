#include "models/decoder.h"

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "models/load_model.h"

namespace gale {
namespace {

HfConfig Windowed(int num_layers) {
  HfConfig config;
  config.num_layers = num_layers;
  config.max_position = 100;
  config.sliding_window = 8;
  return config;
}

TEST(LayerWindows, FollowTheRuleUnlessTheFileNamesThem) {
  HfConfig config = Windowed(3);
  const auto is_odd = [](int layer) { return layer % 2 == 1; };
  EXPECT_EQ(LayerWindows(config, is_odd), (std::vector<int>{0, 8, 0}));
  config.has_window = {true, false, false};
  EXPECT_EQ(LayerWindows(config, is_odd), (std::vector<int>{8, 0, 0}));
  config.sliding_window = 100;  // nothing lies outside of it
  EXPECT_EQ(LayerWindows(config, is_odd), (std::vector<int>{0, 0, 0}));
}

TEST(LayerWindows, QwensCountFromAFirstLayer) {
  HfConfig config = Windowed(3);
  config.max_window_layers = 1;
  EXPECT_EQ(QwenWindows(config), (std::vector<int>{0, 8, 8}));
  config.use_sliding_window = false;
  EXPECT_TRUE(QwenWindows(config).empty());
}

/// A back end that fuses decoders must not be given one that it would compute wrongly.
TEST(DecoderTest, DescribesItselfOnlyWhereNothingIsLeftOut) {
  const auto backend = *CreateBackend("cpu", {.threads = 1});
  const std::pair<const char*, bool> models[] = {
      {"llama_gqa5", true},  {"qwen2_tied", true},      {"qwen3_gqa5", true},
      {"llama_bias", false}, {"mistral_window", false}, {"gemma2", false},
      {"gemma3", false},     {"phi3_longrope", false},  {"glm", false},
      {"glm4", false},
  };
  for (const auto& [name, is_described] : models) {
    const auto loaded =
        LoadModel({.model = std::string(GALE_SOURCE_DIR) + "/tests/data/models/" + name}, *backend);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->model->Describe().has_value(), is_described) << name;
  }
}

}  // namespace
}  // namespace gale
