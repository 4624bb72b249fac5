// From a checkpoint's rows of weights to panels (see panels.h). Layer L1b.
#pragma once

#include <optional>

#include "backend/backend.h"
#include "backend/cpu/panels.h"
#include "base/thread_pool.h"

namespace gale::cpu {

/// What weights of this format with `in` inputs are packed as: bf16 elements, ggml's Q8_0, Q4_0,
/// Q4_K, Q5_K and Q6_K, and integers beside scales of stretches of 32 inputs or more; none: others.
std::optional<PanelFormat> PanelFormatOf(const QuantFormat& format, int64_t in);

/// Writes NumPanels(weight.out) panels of a weight that has a format to `dst`.
/// Cost: reads the weight once and writes as much; limited by memory.
void PackPanels(ThreadPool& pool, const LinearWeight& weight, void* dst);

}  // namespace gale::cpu
