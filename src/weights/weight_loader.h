// Gives declared parameters their tensors: from a checkpoint, or made up for speed tests.
// Layer L2 of the compute column; called by models/load_model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "backend/backend.h"
#include "gale/status.h"
#include "weights/checkpoint.h"
#include "weights/param_builder.h"

namespace gale {

/// Called with the bytes done and in total.
using WeightProgress = std::function<void(uint64_t, uint64_t)>;

/// What the declared parameters will take.
struct WeightBytes {
  size_t mapped_bytes = 0;   ///< used in place from the checkpoint's files
  size_t private_bytes = 0;  ///< in the device's memory
};
/// `checkpoint`, which has passed CheckParams, is null for dummy weights.
WeightBytes CountWeightBytes(const ParamBuilder& builder, const Checkpoint* checkpoint,
                             const Backend& backend);

/// Compares the declarations with the checkpoint's headers; reads no weight.
/// Errors: kDataCorrupt with one line for each missing, unexpected, misshapen or mistyped tensor
/// (the first twenty, then how many more).
Status CheckParams(const ParamBuilder& builder, const Checkpoint& checkpoint);

/// Checks, then binds every group. Parameters are used in place from the file where dtype and order
/// allow it, otherwise copied or converted (f32, f16 and bf16 into each other; to bf16 by rounding
/// to nearest even). Cost: reads each byte once, as it is needed.
Status LoadWeights(const ParamBuilder& builder, std::unique_ptr<const Checkpoint> checkpoint,
                   Backend& backend, const WeightProgress& progress);

/// Binds seeded normal weights: element i of parameter `name` is a pure function of (name, i,
/// seed), whatever the device and the number of threads. Cost: about four seconds per billion
/// parameters and core of a CPU; a GPU is bound by its memory.
Status LoadDummyWeights(const ParamBuilder& builder, uint64_t seed, Backend& backend,
                        const WeightProgress& progress);

}  // namespace gale
