#include "backend/cpu/candidates.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/ops.h"

namespace gale::cpu {

/// Keeps a pool of up to 4n tokens and skips blocks whose maximum is below the n-th best so far.
std::vector<Candidate> TopCandidates(const CpuKernels& kernels, std::span<const float> logits,
                                     int64_t n) {
  const auto keep = static_cast<size_t>(std::min<int64_t>(n, std::ssize(logits)));
  const size_t capacity = std::max<size_t>(4 * keep, 256);
  constexpr int64_t kSkip = 128;
  std::vector<Candidate> pool;
  pool.reserve(capacity);
  float bound = kMinusInfinity;  // to be exceeded: at a tie the lower id is in already
  bool full = false;
  const auto cut = [&] {
    std::ranges::nth_element(pool, pool.begin() + static_cast<ptrdiff_t>(keep) - 1, Likelier);
    pool.resize(keep);
    bound = pool.back().logit;
    full = true;
  };
  for (int64_t begin = 0; begin < std::ssize(logits); begin += kSkip) {
    const int64_t end = std::min(begin + kSkip, std::ssize(logits));
    if (full && !(kernels.max(&logits[static_cast<size_t>(begin)], end - begin) > bound)) continue;
    for (int64_t i = begin; i < end; ++i) {
      float logit = logits[static_cast<size_t>(i)];
      if (full && !(logit > bound)) continue;
      if (std::isnan(logit)) logit = kMinusInfinity;  // has no place in an order
      pool.push_back({logit, static_cast<int32_t>(i), 0});
      if (pool.size() == capacity) cut();
    }
  }
  if (pool.size() > keep) cut();
  std::ranges::sort(pool, Likelier);
  return pool;
}

double Weights(const CpuKernels& kernels, std::span<const float> logits, float max,
               float inverse_temperature, float* weights) {
  constexpr int64_t kBlock = 1024;  // summed in f32 within a block and in f64 over blocks
  double sum = 0;
  for (int64_t i = 0; i < std::ssize(logits); i += kBlock) {
    const int64_t n = std::min(kBlock, std::ssize(logits) - i);
    sum +=
        kernels.exp_sum(&logits[static_cast<size_t>(i)], max, inverse_temperature, weights + i, n);
  }
  return sum;
}

std::span<const float> LogitsRow(const TensorView& logits, int64_t row) {
  return {static_cast<const float*>(RowAt(logits, row)), static_cast<size_t>(logits.dim(1))};
}

}  // namespace gale::cpu
