#include "nn/rotary_embedding.h"

#include <cmath>
#include <cstring>
#include <numbers>

#include "base/status_macros.h"

namespace gale {
namespace {

/// Llama 3.1's scaling: frequencies that turned less than low_freq_factor times over the original
/// context are slowed by `factor`, those over high_freq_factor kept, those between interpolated.
double ScaleLlama3(double frequency, const RopeConfig& config) {
  const double turns = config.original_max_position * frequency / (2 * std::numbers::pi);
  if (turns < config.low_freq_factor) return frequency / config.factor;
  if (turns > config.high_freq_factor) return frequency;
  const double kept =
      (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  return (1 - kept) * frequency / config.factor + kept * frequency;
}

}  // namespace

std::vector<float> RotaryInvFreq(const RopeConfig& config, int rotary_dim) {
  std::vector<float> inv_freq;
  for (int i = 0; i < rotary_dim; i += 2) {
    double frequency = std::pow(config.theta, -static_cast<double>(i) / rotary_dim);
    if (config.type == RopeType::kLlama3) frequency = ScaleLlama3(frequency, config);
    inv_freq.push_back(static_cast<float>(frequency));
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
