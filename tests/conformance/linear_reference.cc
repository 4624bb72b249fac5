#include "conformance/linear_reference.h"

#include <cmath>

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

}  // namespace gale::test
