#include "nn/rotary_embedding.h"

#include <cmath>
#include <cstring>
#include <numbers>

#include "base/status_macros.h"

namespace gale {
namespace {

/// Llama 3.1's scaling: frequencies that turned less than low_freq_factor times over the original
/// context are slowed by `factor`, those over high_freq_factor kept, those between interpolated.
float ScaleLlama3(float frequency, const RopeConfig& config) {
  const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
  const auto original = static_cast<float>(config.original_max_position);
  const auto low = static_cast<float>(config.low_freq_factor);
  const auto high = static_cast<float>(config.high_freq_factor);
  const auto factor = static_cast<float>(config.factor);
  if (wavelength > original / low) return frequency / factor;
  if (wavelength < original / high) return frequency;
  const float kept = (original / wavelength - low) / (high - low);
  return (1 - kept) * frequency / factor + kept * frequency;
}

}  // namespace

std::vector<float> RotaryInvFreq(const RopeConfig& config, int rotary_dim) {
  std::vector<float> inv_freq;
  for (int i = 0; i < rotary_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(rotary_dim);
    float frequency = 1 / std::pow(static_cast<float>(config.theta), exponent);
    if (config.type == RopeType::kLlama3) frequency = ScaleLlama3(frequency, config);
    if (!config.divisors.empty()) frequency /= config.divisors[static_cast<size_t>(i) / 2];
    inv_freq.push_back(frequency);
  }
  return inv_freq;
}

RotaryEmbedding::RotaryEmbedding(ParamBuilder& builder, const RopeConfig& config, int rotary_dim) {
  builder.Declare({},
                  [this, table = RotaryInvFreq(config, rotary_dim)](
                      BindContext& context, std::vector<RawParam>) -> Status {
                    GALE_ASSIGN_OR_RETURN(inv_freq_, context.PlaceTable(table));
                    return {};
                  });
}

}  // namespace gale
