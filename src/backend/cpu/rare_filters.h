// A draw through the filters that few requests use, over an explicit list of candidates. Layer L1b.
#pragma once

#include "backend/cpu/candidates.h"

namespace gale::cpu {

/// As in SampleArgs.
struct RowParams {
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  double uniform = 0;
};

/// As in RareFilters.
struct RareParams {
  float top_n_sigma = 0;
  float typical_p = 1;
  float xtc_probability = 0;
  float xtc_threshold = 0;
  double xtc_uniform = 0;
  float mirostat_tau = 0;
  float mirostat_eta = 0;
  float mirostat_mu = 0;

  bool any() const {
    return top_n_sigma > 0 || typical_p < 1 || xtc_probability > 0 || mirostat_tau > 0;
  }
};

/// Draws a token and adapts rare.mirostat_mu. The temperature is above 0 and a logit is finite.
/// `weights`: scratch, [vocab].
int32_t DrawThroughRareFilters(const CpuKernels& kernels, std::span<const float> logits,
                               const RowParams& params, RareParams& rare, float* weights);

}  // namespace gale::cpu
