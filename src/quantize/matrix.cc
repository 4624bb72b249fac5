#include "quantize/matrix.h"

#include <algorithm>

#include "base/check.h"

// One clone for each width of vectors, chosen when the program is loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define GALE_VECTOR_CLONES __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define GALE_VECTOR_CLONES
#endif

namespace gale {
namespace {

// A tile of b, 512 KiB, stays in the second cache while rows of c pass over it.
constexpr int64_t kDepth = 256;
constexpr int64_t kWidth = 512;
constexpr int64_t kRows = 32;  ///< of c, a task's

/// c[0, width) += sum over `depth` of a[k] * b[k][0, width).
GALE_VECTOR_CLONES void AddRow(const float* a, const float* b, int64_t stride, int64_t depth,
                               int64_t width, float* __restrict__ c) {
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    const float* b0 = b + k * stride;
    const float* b1 = b0 + stride;
    const float* b2 = b1 + stride;
    const float* b3 = b2 + stride;
    for (int64_t j = 0; j < width; ++j) {
      c[j] += a[k] * b0[j] + a[k + 1] * b1[j] + a[k + 2] * b2[j] + a[k + 3] * b3[j];
    }
  }
  for (; k < depth; ++k) {
    for (int64_t j = 0; j < width; ++j) c[j] += a[k] * b[k * stride + j];
  }
}

}  // namespace

void AddProduct(const Matrix& a, const Matrix& b, Matrix& c, ThreadPool& threads) {
  GALE_CHECK(a.cols() == b.rows() && a.rows() == c.rows() && b.cols() == c.cols());
  threads.ParallelFor((c.rows() + kRows - 1) / kRows, [&](int64_t task, int) {
    const int64_t end = std::min<int64_t>(c.rows(), (task + 1) * kRows);
    for (int64_t k = 0; k < a.cols(); k += kDepth) {
      const int64_t depth = std::min<int64_t>(kDepth, a.cols() - k);
      for (int64_t j = 0; j < c.cols(); j += kWidth) {
        const int64_t width = std::min<int64_t>(kWidth, c.cols() - j);
        for (int64_t i = task * kRows; i < end; ++i) {
          AddRow(&a(i, k), &b(k, j), b.cols(), depth, width, &c(i, j));
        }
      }
    }
  });
}

}  // namespace gale
