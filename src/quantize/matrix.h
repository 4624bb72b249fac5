// Dense f32 matrices for offline quantization, and the one product that takes its time.
#pragma once

#include <cstdint>

#include <Eigen/Core>

#include "base/thread_pool.h"

namespace gale {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXf;

/// c += a * b, rows of c shared out over the threads. Each element is summed in the order of a's
/// columns, whatever the number of threads.
/// Cost: 2 * a.rows() * a.cols() * b.cols() operations, by vectors of the processor at hand.
void AddProduct(const Matrix& a, const Matrix& b, Matrix& c, ThreadPool& threads);

}  // namespace gale
