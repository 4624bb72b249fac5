// Tokens of one row of logits, in the order of likelihood: what draws and log-probabilities share.
// Layer L1b.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "backend/cpu/kernels.h"
#include "tensor/tensor_view.h"

namespace gale::cpu {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Candidate {
  float logit = 0;
  int32_t id = 0;
  double weight = 0;  ///< exp((logit - max) / temperature)
};

/// A higher logit, then a lower id.
inline bool Likelier(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/// The `n` likeliest tokens, best first; ties go to the lower id. Expected O(vocab).
std::vector<Candidate> TopCandidates(const CpuKernels& kernels, std::span<const float> logits,
                                     int64_t n);

/// Writes exp((logit - max) / temperature) and returns the sum.
double Weights(const CpuKernels& kernels, std::span<const float> logits, float max,
               float inverse_temperature, float* weights);

/// Inverse CDF over ids in ascending order; the last possible token catches what rounding leaves.
template <class Weight>
size_t InverseCdf(size_t n, double uniform, Weight&& weight) {
  double total = 0;
  for (size_t i = 0; i < n; ++i) total += weight(i);
  const double target = uniform * total;
  double cumulative = 0;
  size_t last = 0;
  for (size_t i = 0; i < n; ++i) {
    const double w = weight(i);
    if (!(w > 0)) continue;
    last = i;
    cumulative += w;
    if (cumulative > target) break;
  }
  return last;
}

/// A row of f32 [rows, vocab].
std::span<const float> LogitsRow(const TensorView& logits, int64_t row);

}  // namespace gale::cpu
