// Matrices as small whole numbers with a scale for each group of inputs: what round-to-nearest, AWQ
// and GPTQ make, and what the containers pack.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quantize/matrix.h"
#include "tensor/dtype.h"

namespace gale {

struct IntegerFormat {
  int bits = 4;            ///< 4 or 8
  bool has_zeros = false;  ///< else code 2^(bits - 1) stands for 0
  int64_t group = 0;       ///< inputs that share a scale; 0: all
  DType scale = DType::kF16;

  int num_codes() const { return 1 << bits; }
  int middle() const { return num_codes() / 2; }
  int64_t NumGroups(int64_t in) const { return group == 0 ? 1 : in / group; }
};

/// Of one group: a code stands for scale * (code - zero).
struct IntegerGrid {
  float scale = 1;
  int zero = 0;

  float ValueOf(int code) const { return scale * static_cast<float>(code - zero); }
};

/// The grid that holds every x: with zeros from the smallest (at most 0) to the largest (at least
/// 0); without, to the largest magnitude on both sides, which is half a step more than there are
/// codes for. The scale is rounded to the format's dtype and never 0.
IntegerGrid FindGrid(std::span<const float> x, const IntegerFormat& format);
/// The code nearest to x.
int CodeOf(float x, const IntegerGrid& grid, const IntegerFormat& format);

struct IntegerWeight {
  IntegerFormat format;
  int64_t in = 0;
  int64_t out = 0;
  std::vector<uint8_t> codes;     ///< [out][in]
  std::vector<float> scales;      ///< [out][groups]
  std::vector<uint8_t> zeros;     ///< [out][groups]
  std::vector<int32_t> group_of;  ///< [in]

  IntegerWeight(const IntegerFormat& format, int64_t in, int64_t out);
  IntegerGrid GridAt(int64_t row, int64_t group) const;
  void SetGrid(int64_t row, int64_t group, const IntegerGrid& grid);
};

/// Every element's nearest code. `weight` [out, in]; the group divides in.
IntegerWeight RoundToNearest(const Matrix& weight, const IntegerFormat& format,
                             ThreadPool& threads);
/// What RoundToNearest's codes stand for, in place of row's elements.
void RoundRow(std::span<float> row, const IntegerFormat& format);
Matrix Dequantize(const IntegerWeight& weight);

}  // namespace gale
