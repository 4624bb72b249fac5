// What a linear layer's output may be: fp64 sums and the bound of f32 ones around them.
//
// Bound: k products and sums in f32, in any order, differ from the exact dot product by at most
// (k + 2) u sum |x w| (Higham, Accuracy and Stability, section 3.1), u the roundoff of f32; the
// bias adds one rounding, storing in the output dtype another.
#pragma once

#include "conformance/op_case.h"

namespace gale::test {

/// `got` [rows, columns] of dtype `out` against x [rows, in] * weight [columns, in]^T + bias
/// [columns], which may be null. Knows kDropLastTerm and kSkipBias.
OpResult CompareLinear(const HostTensor& got, DType out, const HostTensor& x,
                       const HostTensor& weight, const HostTensor* bias, Mutation mutation);

bool IsWithinBounds(const OpResult& result);

/// Each `group` of a row (0: the row) as whole codes of kInt8 or kF8E4M3 times a scale: the one
/// given, or the largest magnitude over the type's largest.
HostTensor RoundActivations(const HostTensor& x, CodeType codes, int64_t group, float scale = 0);

}  // namespace gale::test
