#include "quantize/input_statistics.h"

#include <vector>

namespace gale {

double OutputError(const Matrix& error, const Matrix& gram, ThreadPool& threads) {
  Matrix product = Matrix::Zero(error.rows(), error.cols());
  AddProduct(error, gram, product, threads);
  double sum = 0;
  for (int64_t row = 0; row < error.rows(); ++row) {
    sum += static_cast<double>(error.row(row).dot(product.row(row)));
  }
  return sum;
}

}  // namespace gale
