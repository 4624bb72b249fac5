// What the inputs of a linear layer look like over a calibration text. Layer of quantize/.
#pragma once

#include "quantize/matrix.h"

namespace gale {

enum class StatisticsKind {
  kNone,
  kMagnitudes,  ///< of each input
  kGram,        ///< those, and the products of all pairs
};

struct InputStatistics {
  int64_t rows = 0;  ///< inputs seen
  Vector mean_abs;   ///< [in]
  Vector max_abs;    ///< [in]
  Matrix gram;       ///< [in, in]: mean of x x^T; empty unless kGram. Its diagonal is mean squares
};

/// sum over rows w of (w - rounded)^T gram (w - rounded): the mean squared error of the layer's
/// outputs. `error` [out, in] is weight - rounded.
double OutputError(const Matrix& error, const Matrix& gram, ThreadPool& threads);

}  // namespace gale
