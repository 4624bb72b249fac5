#include "quantize/smooth_quant.h"

#include <cmath>

namespace gale {

Vector FindSmoothingScales(std::span<const Matrix* const> weights, const InputStatistics& inputs,
                           double strength) {
  constexpr float kLeast = 1e-5F;
  Vector largest = Vector::Constant(inputs.max_abs.size(), kLeast);
  for (const Matrix* weight : weights) {
    largest = largest.cwiseMax(weight->cwiseAbs().colwise().maxCoeff().transpose());
  }
  const auto alpha = static_cast<float>(strength);
  const Vector scales =
      inputs.max_abs.cwiseMax(kLeast).array().pow(alpha) / largest.array().pow(1 - alpha);
  return scales.cwiseMax(kLeast);
}

}  // namespace gale
