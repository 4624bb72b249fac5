#include "nn/rotary_embedding.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "base/check.h"
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

/// YaRN: dimensions before the first of this pair keep their frequency, those from the second on
/// are slowed by the whole factor.
std::pair<double, double> YarnRamp(const RopeConfig& config, int rotary_dim) {
  const auto dimension = [&](double turns) {
    const double length = config.original_max_position / (turns * 2 * std::numbers::pi);
    return rotary_dim * std::log(length) / (2 * std::log(config.theta));
  };
  double first = dimension(config.beta_fast);
  double last = dimension(config.beta_slow);
  if (config.truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, rotary_dim - 1.0);
  constexpr double kNoWidth = 0.001;
  return {first, first == last ? last + kNoWidth : last};
}

/// Of pair `pair`, whose power of theta is `power`.
float ScaleYarn(float power, int pair, const std::pair<double, double>& ramp,
                const RopeConfig& config) {
  const auto first = static_cast<float>(ramp.first);
  const auto width = static_cast<float>(ramp.second - ramp.first);
  const float slowed = std::clamp((static_cast<float>(pair) - first) / width, 0.0F, 1.0F);
  const float kept = 1 - slowed;
  return 1 / (static_cast<float>(config.factor) * power) * (1 - kept) + 1 / power * kept;
}

/// kDynamic: the base that slows the slowest frequency as much as the context has grown.
double Theta(const RopeConfig& config, int rotary_dim) {
  if (config.type != RopeType::kDynamic) return config.theta;
  const double growth =
      static_cast<double>(std::max(config.context, config.original_max_position)) /
      config.original_max_position;
  const double base = config.factor * growth - (config.factor - 1);
  return config.theta * std::pow(base, rotary_dim / (rotary_dim - 2.0));
}

/// What each frequency is divided by, or nothing.
const std::vector<float>& Divisors(const RopeConfig& config) {
  if (config.type != RopeType::kLongRope) return config.divisors;
  return config.context > config.original_max_position ? config.long_divisors
                                                       : config.short_divisors;
}

}  // namespace

std::vector<float> RotaryInvFreq(const RopeConfig& config, int rotary_dim) {
  const auto theta = static_cast<float>(Theta(config, rotary_dim));
  const std::vector<float>& divisors = Divisors(config);
  if (!divisors.empty()) GALE_CHECK_EQ(std::ssize(divisors), rotary_dim / 2);
  const auto ramp =
      config.type == RopeType::kYarn ? YarnRamp(config, rotary_dim) : std::pair<double, double>();
  std::vector<float> inv_freq;
  for (int pair = 0; pair < rotary_dim / 2; ++pair) {
    const float exponent = static_cast<float>(2 * pair) / static_cast<float>(rotary_dim);
    const float power = std::pow(theta, exponent);
    const auto at = static_cast<size_t>(pair);
    switch (config.type) {
      case RopeType::kYarn: inv_freq.push_back(ScaleYarn(power, pair, ramp, config)); break;
      case RopeType::kLlama3: inv_freq.push_back(ScaleLlama3(1 / power, config)); break;
      case RopeType::kLongRope: inv_freq.push_back(1 / (divisors[at] * power)); break;
      case RopeType::kLinear:
        inv_freq.push_back(1 / power / static_cast<float>(config.factor));
        break;
      case RopeType::kDefault:
      case RopeType::kDynamic:
        inv_freq.push_back(divisors.empty() ? 1 / power : 1 / power / divisors[at]);
        break;
    }
  }
  return inv_freq;
}

RotaryEmbedding::RotaryEmbedding(ParamBuilder& builder, const RopeConfig& config, int rotary_dim)
    : scale_(static_cast<float>(config.attention_factor)) {
  builder.Declare({},
                  [this, table = RotaryInvFreq(config, rotary_dim)](
                      BindContext& context, std::vector<RawParam>) -> Status {
                    GALE_ASSIGN_OR_RETURN(inv_freq_, context.PlaceTable(table));
                    return {};
                  });
}

}  // namespace gale
