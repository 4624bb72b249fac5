#include "weights/dummy_weights.h"

#include <cmath>
#include <numbers>
#include <vector>

#include <xxhash.h>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr int kQuantiles = 1 << 16;

/// Inverse of the normal distribution function by Newton's method, for 0 < p <= 0.5.
double NormalQuantile(double p, double start) {
  double x = start;
  for (int i = 0; i < 50; ++i) {
    const double cdf = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    const double pdf = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    const double step = (cdf - p) / pdf;
    x -= step;
    if (std::fabs(step) < 1e-12) break;
  }
  return x;
}

/// Entry i is the quantile of (i + 0.5) / 65536.
std::vector<float> NormalQuantiles() {
  std::vector<float> values(kQuantiles);
  double x = 0;
  // From the middle outwards: each quantile starts from its neighbour, where Newton converges.
  for (int i = kQuantiles / 2 - 1; i >= 0; --i) {
    x = NormalQuantile((i + 0.5) / kQuantiles, x);
    values[static_cast<size_t>(i)] = static_cast<float>(x);
    values[static_cast<size_t>(kQuantiles - 1 - i)] = static_cast<float>(-x);
  }
  return values;
}

}  // namespace

Result<DummyWeights> DummyWeights::Create(Backend& backend, Stream& stream) {
  const std::vector<float> values = NormalQuantiles();
  const size_t bytes = values.size() * sizeof(float);
  GALE_ASSIGN_OR_RETURN(Buffer quantiles, backend.Allocate(bytes, MemoryKind::kDevice));
  backend.Copy(stream, quantiles.data(), values.data(), bytes);
  GALE_RETURN_IF_ERROR(stream.Synchronize());
  return DummyWeights(backend, stream, std::move(quantiles));
}

void DummyWeights::Fill(const DummySpec& spec, const TensorView& out) {
  backend_->FillRandom(*stream_, {.table = TensorView(quantiles_.data(), DType::kF32, {kQuantiles}),
                                  .seed = spec.seed,
                                  .stream = XXH3_64bits(spec.name.data(), spec.name.size()),
                                  .mean = spec.mean,
                                  .std = spec.std,
                                  .out = out});
}

}  // namespace gale
