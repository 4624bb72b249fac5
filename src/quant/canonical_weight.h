// A weight in canonical form together with its memory, and what can be done with one: taking some
// of its outputs, rounding plain numbers to it, and back. Layer L2 of the compute column; used by
// nn/.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "base/thread_pool.h"
#include "gale/status.h"
#include "weights/param_builder.h"

namespace gale {

struct CanonicalWeight {
  LinearWeight weight;
  RawParam memory;  ///< all of it
};

/// A parameter [out, in], or the blocks that stand for it, as a weight.
LinearWeight PlainOrBlocks(const RawParam& param, int64_t in);

/// [out, in] of `format`, not filled in, but that a permutation changes no order.
/// Errors: kResourceExhausted.
Result<CanonicalWeight> AllocateWeight(BindContext& context, const QuantFormat& format, int64_t in,
                                       int64_t out);

/// Outputs [begin, end), which are whole blocks of scales or the last.
LinearWeight OutputsOf(const LinearWeight& weight, int64_t begin, int64_t end);

/// `plain`, f32 or bf16 [out, in] in host memory, rounded to `format`. Scales and zeros are the
/// least that reach the largest numbers of their block (and 0); codes the nearest. A static scale
/// of activations is made up. Cost: some operations an element.
Result<CanonicalWeight> RoundToNearest(BindContext& context, const TensorView& plain,
                                       const QuantFormat& format);

/// The other way, into f32 or bf16 (to nearest, ties to even).
void Dequantize(const LinearWeight& weight, const TensorView& plain, ThreadPool& threads);

}  // namespace gale
