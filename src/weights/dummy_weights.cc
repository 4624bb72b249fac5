#include "weights/dummy_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numbers>

#include <xxhash.h>

#include "base/check.h"
#include "base/rng.h"
#include "tensor/bf16.h"

namespace gale {
namespace {

constexpr int kQuantiles = 1 << 16;
constexpr int64_t kPerBlock = 8;                   // 16-bit draws of one Philox block
constexpr int64_t kChunk = (1 << 15) * kPerBlock;  // elements of one task

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
const std::array<float, kQuantiles>& Quantiles() {
  static const auto table = [] {
    auto values = std::make_unique<std::array<float, kQuantiles>>();
    double x = 0;
    // From the middle outwards: each quantile starts from its neighbour, where Newton converges.
    for (int i = kQuantiles / 2 - 1; i >= 0; --i) {
      x = NormalQuantile((i + 0.5) / kQuantiles, x);
      (*values)[i] = static_cast<float>(x);
      (*values)[kQuantiles - 1 - i] = static_cast<float>(-x);
    }
    return values;
  }();
  return *table;
}

template <class T>
T Store(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return ToBf16(value);
  }
}

template <class T>
void Fill(const DummySpec& spec, uint64_t name_hash, int64_t begin, int64_t end, T* out) {
  const auto& quantiles = Quantiles();
  const PhiloxKey key = {
      {static_cast<uint32_t>(spec.seed), static_cast<uint32_t>(spec.seed >> 32)}};
  for (int64_t i = begin; i < end; i += kPerBlock) {
    const uint64_t block = static_cast<uint64_t>(i / kPerBlock);
    const PhiloxCounter random =
        Philox4x32({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                     static_cast<uint32_t>(name_hash), static_cast<uint32_t>(name_hash >> 32)}},
                   key);
    for (int64_t j = 0; j < std::min(kPerBlock, end - i); ++j) {
      const uint32_t draw = random.words[j / 2] >> (16 * (j % 2)) & 0xFFFFU;
      out[i + j] = Store<T>(spec.mean + spec.std * quantiles[draw]);
    }
  }
}

}  // namespace

void FillDummy(const DummySpec& spec, const TensorView& out, ThreadPool& threads) {
  GALE_CHECK(out.dtype == DType::kF32 || out.dtype == DType::kBf16);
  Quantiles();
  const uint64_t name_hash = XXH3_64bits(spec.name.data(), spec.name.size());
  const int64_t elements = out.NumElements();
  threads.ParallelFor((elements + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk;
    const int64_t end = std::min(elements, begin + kChunk);
    if (out.dtype == DType::kF32) {
      Fill(spec, name_hash, begin, end, out.As<float>());
    } else {
      Fill(spec, name_hash, begin, end, out.As<Bf16>());
    }
  });
}

}  // namespace gale
