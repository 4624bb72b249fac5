// GPTQ: columns are rounded one by one, and what each leaves undone is made good by those still to
// come. Source: Frantar et al. 2022 (arXiv:2210.17323), algorithm 1.
#pragma once

#include "gale/status.h"
#include "quantize/integer_weight.h"

namespace gale {

struct GptqOptions {
  /// Columns of the largest inputs first; groups are of neighbours in that order.
  bool act_order = false;
  /// Share of the mean of the Hessian's diagonal that is added to it, so that it can be inverted.
  double damping = 0.01;
};

/// `weight` [out, in] for inputs of which `gram` [in, in] is the mean of x x^T. A group's grid is
/// found when its first column's turn comes, from what its columns then are.
/// Errors: kInvalidArgument when the Hessian cannot be inverted even with its damping.
/// Cost: in^3 + out * in^2 multiply-adds. Memory: two more matrices [in, in], two [out, in].
Result<IntegerWeight> Gptq(const Matrix& weight, const Matrix& gram, const IntegerFormat& format,
                           const GptqOptions& options, ThreadPool& threads);

}  // namespace gale
