// Random weights of the true shapes, to measure speed and memory without a checkpoint.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/thread_pool.h"
#include "tensor/tensor_view.h"

namespace gale {

struct DummySpec {
  std::string_view name;  ///< of the parameter in a checkpoint
  uint64_t seed = 0;
  float mean = 0;
  float std = 1;
};

/// Fills `out` (contiguous f32 or bf16) with normal numbers; element i depends on (name, i, seed)
/// alone. The numbers are drawn from the 65536 quantiles of the normal distribution, so that they
/// stay within 4.4 deviations. Cost: one Philox block per eight elements.
void FillDummy(const DummySpec& spec, const TensorView& out, ThreadPool& threads);

}  // namespace gale
