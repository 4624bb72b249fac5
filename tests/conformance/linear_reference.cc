#include "conformance/linear_reference.h"

#include <algorithm>
#include <cmath>

#include "tensor/f8.h"

namespace gale::test {

OpResult CompareLinear(const HostTensor& got, DType out, const HostTensor& x,
                       const HostTensor& weight, const HostTensor* bias, Mutation mutation) {
  const double u = Roundoff(DType::kF32);
  const double v = out == DType::kF32 ? 0 : Roundoff(out);
  const int64_t in = x.dim(1);
  const int64_t terms = in - (mutation == Mutation::kDropLastTerm ? 1 : 0);
  OpResult result;
  for (int64_t r = 0; r < x.dim(0); ++r) {
    for (int64_t c = 0; c < weight.dim(0); ++c) {
      double sum = 0;
      double magnitude = 0;
      for (int64_t i = 0; i < terms; ++i) {
        const double product = x.at(r, i) * weight.at(c, i);
        sum += product;
        magnitude += std::abs(product);
      }
      if (bias != nullptr && mutation != Mutation::kSkipBias) {
        sum += bias->values[static_cast<size_t>(c)];
      }
      const double bound = (static_cast<double>(in) + 2) * u * magnitude + u * std::abs(sum);
      result.Add(got.at(r, c), sum, bound + v * (std::abs(sum) + bound));
    }
  }
  return result;
}

bool IsWithinBounds(const OpResult& result) {
  for (size_t i = 0; i < result.got.size(); ++i) {
    if (!(std::abs(result.got[i] - result.want[i]) <= result.tolerance[i])) return false;
  }
  return true;
}

HostTensor RoundActivations(const HostTensor& x, CodeType codes, int64_t group, float scale) {
  const bool is_f8 = codes == CodeType::kF8E4M3;
  const float largest = is_f8 ? 448 : 127;
  if (group == 0) group = x.dim(1);
  HostTensor rounded = x;
  for (int64_t first = 0; first < x.dim(0) * x.dim(1);) {
    const int64_t end = std::min(first + group, (first / x.dim(1) + 1) * x.dim(1));
    float max = 0;
    for (int64_t i = first; i < end; ++i) {
      max = std::max(max, std::abs(static_cast<float>(x.values[static_cast<size_t>(i)])));
    }
    const float step = scale > 0 ? scale : max / largest;
    const float inverse = scale > 0 ? 1 / scale : largest / max;
    for (; first < end; ++first) {
      double& value = rounded.values[static_cast<size_t>(first)];
      const float code = std::clamp(static_cast<float>(value) * inverse, -largest, largest);
      value = double{step} * double{is_f8 ? ToFloat(ToF8E4M3(code)) : std::nearbyint(code)};
    }
  }
  return rounded;
}

}  // namespace gale::test
