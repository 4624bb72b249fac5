#include "quantize/gptq.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include <Eigen/Cholesky>
#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr int64_t kBlock = 128;  ///< columns whose corrections reach the rest in one product

/// Inputs in the order of their columns' turns.
std::vector<int64_t> Turns(const Matrix& gram, bool act_order) {
  std::vector<int64_t> turns(static_cast<size_t>(gram.rows()));
  std::iota(turns.begin(), turns.end(), 0);
  if (act_order) {
    std::ranges::stable_sort(turns, [&](int64_t a, int64_t b) { return gram(a, a) > gram(b, b); });
  }
  return turns;
}

/// Upper R of H^-1 = R^T R, H being the Gram matrix in the order of turns, damped. With J the
/// exchange of first and last, J H J = L L^T makes J L J upper and its inverse R.
Result<Matrix> InverseFactor(const Matrix& gram, const std::vector<int64_t>& turns,
                             double damping) {
  const int64_t n = gram.rows();
  const auto at = [&](int64_t i) { return turns[static_cast<size_t>(n - 1 - i)]; };
  Eigen::MatrixXf reversed(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) reversed(i, j) = gram(at(i), at(j));
  }
  const double mean = gram.diagonal().cast<double>().mean();
  const auto damp = static_cast<float>(damping * mean);
  for (int64_t i = 0; i < n; ++i) {
    // An input that is always 0 may have any weight.
    reversed(i, i) = reversed(i, i) > 0 ? reversed(i, i) + damp : static_cast<float>(mean) + 1;
  }
  const Eigen::LLT<Eigen::Ref<Eigen::MatrixXf>> factor(reversed);
  if (factor.info() != Eigen::Success) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("the inputs' second moments cannot be inverted: expected more "
                                 "calibration text or a damping above {}",
                                 damping));
  }
  Eigen::MatrixXf inverse = Eigen::MatrixXf::Identity(n, n);
  factor.matrixL().solveInPlace(inverse);
  Matrix result = Matrix::Zero(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) result(i, j) = inverse(n - 1 - i, n - 1 - j);
  }
  return result;
}

/// One row of a block of columns [begin, end); `errors` receives what later blocks must make good.
void RoundBlock(std::span<float> row, int64_t begin, int64_t end, int64_t row_index,
                const Matrix& factor, const std::vector<int64_t>& turns, std::span<float> errors,
                IntegerWeight& result) {
  const IntegerFormat& format = result.format;
  const int64_t group_size = format.group == 0 ? result.in : format.group;
  IntegerGrid grid = result.GridAt(row_index, begin / group_size);
  for (int64_t i = begin; i < end; ++i) {
    if (i % group_size == 0) {
      grid = FindGrid(row.subspan(static_cast<size_t>(i), static_cast<size_t>(group_size)), format);
      result.SetGrid(row_index, i / group_size, grid);
    }
    const float x = row[static_cast<size_t>(i)];
    const int code = CodeOf(x, grid, format);
    const int64_t input = turns[static_cast<size_t>(i)];
    result.codes[static_cast<size_t>(row_index * result.in + input)] = static_cast<uint8_t>(code);
    const float error = (x - grid.ValueOf(code)) / factor(i, i);
    errors[static_cast<size_t>(i - begin)] = error;
    for (int64_t j = i + 1; j < end; ++j) {
      row[static_cast<size_t>(j)] -= error * factor(i, j);
    }
  }
}

}  // namespace

Result<IntegerWeight> Gptq(const Matrix& weight, const Matrix& gram, const IntegerFormat& format,
                           const GptqOptions& options, ThreadPool& threads) {
  const int64_t in = weight.cols();
  const std::vector<int64_t> turns = Turns(gram, options.act_order);
  GALE_ASSIGN_OR_RETURN(const Matrix factor, InverseFactor(gram, turns, options.damping));
  Matrix left(weight.rows(), in);  // what is still to be rounded, in the order of turns
  for (int64_t i = 0; i < in; ++i) left.col(i) = weight.col(turns[static_cast<size_t>(i)]);

  IntegerWeight result(format, in, weight.rows());
  for (int64_t begin = 0; begin < in; begin += kBlock) {
    const int64_t end = std::min(in, begin + kBlock);
    Matrix errors = Matrix::Zero(weight.rows(), end - begin);
    threads.ParallelFor(weight.rows(), [&](int64_t row, int) {
      RoundBlock({&left(row, 0), static_cast<size_t>(in)}, begin, end, row, factor, turns,
                 {&errors(row, 0), static_cast<size_t>(end - begin)}, result);
    });
    if (end == in) break;
    const Matrix later = -factor.block(begin, end, end - begin, in - end);
    Matrix change = Matrix::Zero(weight.rows(), in - end);
    AddProduct(errors, later, change, threads);
    left.rightCols(in - end) += change;
  }
  for (int64_t i = 0; i < in && format.group > 0; ++i) {
    result.group_of[static_cast<size_t>(turns[static_cast<size_t>(i)])] =
        static_cast<int32_t>(i / format.group);
  }
  return result;
}

}  // namespace gale
