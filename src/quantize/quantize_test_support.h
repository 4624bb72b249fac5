// Random matrices for the tests of this folder.
#pragma once

#include <random>

#include "quantize/matrix.h"

namespace gale {

inline Matrix RandomMatrix(int64_t rows, int64_t columns, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Matrix matrix(rows, columns);
  for (int64_t i = 0; i < matrix.size(); ++i) matrix.data()[i] = normal(random);
  return matrix;
}

/// Mean of x x^T of inputs that share a few directions, some channels ten times the others.
inline Matrix CorrelatedGram(int64_t in, int64_t rows, unsigned seed) {
  Matrix x = RandomMatrix(rows, in, seed) +
             2 * RandomMatrix(rows, 8, seed + 1) * RandomMatrix(8, in, seed + 2);
  for (int64_t i = 0; i < in; i += 17) x.col(i) *= 10;
  return x.transpose() * x / static_cast<float>(rows);
}

}  // namespace gale
