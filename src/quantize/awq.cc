#include "quantize/awq.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gale {
namespace {

constexpr int kAlphas = 20;
constexpr int64_t kSearchRows = 512;
constexpr float kLeastMean = 1e-4F;
constexpr int kClips = 10;
constexpr float kClipStep = 0.05F;

/// Mean magnitudes, the same for inputs of one producer.
Vector Importance(const InputStatistics& inputs, const ProducerMap& producer) {
  const int64_t producers = *std::ranges::max_element(producer) + 1;
  Vector sums = Vector::Zero(producers);
  Vector counts = Vector::Zero(producers);
  for (size_t i = 0; i < producer.size(); ++i) {
    sums[producer[i]] += inputs.mean_abs[static_cast<int64_t>(i)];
    counts[producer[i]] += 1;
  }
  Vector importance(inputs.mean_abs.size());
  for (size_t i = 0; i < producer.size(); ++i) {
    importance[static_cast<int64_t>(i)] =
        std::max(kLeastMean, sums[producer[i]] / counts[producer[i]]);
  }
  return importance;
}

/// At most kSearchRows of the rows, evenly spread.
Matrix SomeRows(const Matrix& weight) {
  const int64_t count = std::min(kSearchRows, weight.rows());
  Matrix rows(count, weight.cols());
  for (int64_t i = 0; i < count; ++i) rows.row(i) = weight.row(i * weight.rows() / count);
  return rows;
}

double ScaledError(const Matrix& rows, const Vector& scales, const Matrix& gram,
                   const IntegerFormat& format, ThreadPool& threads) {
  Matrix error = rows * scales.asDiagonal();
  threads.ParallelFor(error.rows(), [&](int64_t row, int) {
    RoundRow({&error(row, 0), static_cast<size_t>(error.cols())}, format);
    for (int64_t i = 0; i < error.cols(); ++i) {
      error(row, i) = rows(row, i) - error(row, i) / scales[i];
    }
  });
  return OutputError(error, gram, threads);
}

/// d^T gram d of a group whose inputs begin at `begin`.
float GroupError(const Vector& d, const Matrix& gram, int64_t begin) {
  return d.dot(gram.block(begin, begin, d.size(), d.size()) * d);
}

void ClipGroup(Eigen::Ref<Vector> group, const Matrix& gram, int64_t begin,
               const IntegerFormat& format) {
  const float magnitude = group.cwiseAbs().maxCoeff();
  float best_error = std::numeric_limits<float>::max();
  float best_limit = magnitude;
  for (int i = 0; i < kClips; ++i) {
    const float limit = magnitude * (1 - kClipStep * static_cast<float>(i));
    const Vector clipped = group.cwiseMax(-limit).cwiseMin(limit);
    const IntegerGrid grid =
        FindGrid({clipped.data(), static_cast<size_t>(clipped.size())}, format);
    Vector error(group.size());
    for (int64_t j = 0; j < group.size(); ++j) {
      error[j] = group[j] - grid.ValueOf(CodeOf(clipped[j], grid, format));
    }
    const float loss = GroupError(error, gram, begin);
    if (loss < best_error) {
      best_error = loss;
      best_limit = limit;
    }
  }
  group = group.cwiseMax(-best_limit).cwiseMin(best_limit);
}

}  // namespace

Vector FindAwqScales(std::span<const Matrix* const> weights, const InputStatistics& inputs,
                     const ProducerMap& producer, const IntegerFormat& format,
                     ThreadPool& threads) {
  const Vector importance = Importance(inputs, producer);
  std::vector<Matrix> rows;
  for (const Matrix* weight : weights) rows.push_back(SomeRows(*weight));
  Vector best = Vector::Ones(importance.size());
  double least = std::numeric_limits<double>::max();
  for (int i = 0; i < kAlphas; ++i) {
    const float alpha = static_cast<float>(i) / kAlphas;
    Vector scales = importance.array().pow(alpha);
    scales /= std::sqrt(scales.maxCoeff() * scales.minCoeff());
    double error = 0;
    for (size_t w = 0; w < rows.size(); ++w) {
      const double share = static_cast<double>(weights[w]->rows()) / rows[w].rows();
      error += share * ScaledError(rows[w], scales, inputs.gram, format, threads);
    }
    if (error < least) {
      least = error;
      best = scales;
    }
  }
  return best;
}

void ClipGroups(Matrix& weight, const Matrix& gram, const IntegerFormat& format,
                ThreadPool& threads) {
  const int64_t groups = format.NumGroups(weight.cols());
  const int64_t size = weight.cols() / groups;
  threads.ParallelFor(weight.rows(), [&](int64_t row, int) {
    for (int64_t group = 0; group < groups; ++group) {
      Eigen::Map<Vector> x(&weight(row, group * size), size);
      ClipGroup(x, gram, group * size, format);
    }
  });
}

}  // namespace gale
