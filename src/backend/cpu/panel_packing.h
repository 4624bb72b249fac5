// From a checkpoint's rows of weights to panels (see panels.h). Layer L1b.
#pragma once

#include <optional>

#include "backend/backend.h"
#include "backend/cpu/panels.h"
#include "base/thread_pool.h"

namespace gale::cpu {

/// What weights of this format are packed as: bf16 elements, Q8_0 or Q4_0; others are not.
std::optional<PanelKind> PanelKindOf(const QuantFormat& format);

/// Writes NumPanels(weight.out) panels of a format that has a kind to `dst`.
/// Cost: reads the weight once and writes as much; limited by memory.
void PackPanels(ThreadPool& pool, const LinearWeight& weight, void* dst);

}  // namespace gale::cpu
