#include "quantize/integer_weight.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "tensor/bf16.h"
#include "tensor/f16.h"
#include "tensor/ggml_quantize.h"

namespace gale {
namespace {

/// The least that f16 has in full precision: groups of almost nothing get a grid all the same.
constexpr float kLeastScale = 0x1p-14F;

float RoundScale(float scale, DType dtype) {
  if (dtype == DType::kF16) return ToFloat(ToF16(std::max(scale, kLeastScale)));
  if (dtype == DType::kBf16) scale = ToFloat(ToBf16(scale));
  return scale > 0 ? scale : 1;
}

}  // namespace

IntegerGrid FindGrid(std::span<const float> x, const IntegerFormat& format) {
  float low = 0;
  float high = 0;
  for (const float value : x) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  const auto steps = static_cast<float>(format.num_codes() - 1);
  IntegerGrid grid;
  if (!format.has_zeros) {
    grid.scale = RoundScale(2 * std::max(-low, high) / steps, format.scale);
    grid.zero = format.middle();
  } else {
    grid.scale = RoundScale((high - low) / steps, format.scale);
    const float zero = std::nearbyint(-low / grid.scale);
    grid.zero = static_cast<int>(std::clamp(zero, 0.0F, steps));
  }
  return grid;
}

int CodeOf(float x, const IntegerGrid& grid, const IntegerFormat& format) {
  const float code = std::nearbyint(x / grid.scale) + static_cast<float>(grid.zero);
  return static_cast<int>(std::clamp(code, 0.0F, static_cast<float>(format.num_codes() - 1)));
}

IntegerWeight::IntegerWeight(const IntegerFormat& which, int64_t inputs, int64_t outputs)
    : format(which),
      in(inputs),
      out(outputs),
      codes(static_cast<size_t>(in * out)),
      scales(static_cast<size_t>(out * format.NumGroups(in))),
      zeros(scales.size()),
      group_of(static_cast<size_t>(in)) {
  for (int64_t i = 0; i < in && format.group > 0; ++i) {
    group_of[static_cast<size_t>(i)] = static_cast<int32_t>(i / format.group);
  }
}

IntegerGrid IntegerWeight::GridAt(int64_t row, int64_t group) const {
  const auto i = static_cast<size_t>(row * format.NumGroups(in) + group);
  return {scales[i], zeros[i]};
}

void IntegerWeight::SetGrid(int64_t row, int64_t group, const IntegerGrid& grid) {
  const auto i = static_cast<size_t>(row * format.NumGroups(in) + group);
  scales[i] = grid.scale;
  zeros[i] = static_cast<uint8_t>(grid.zero);
}

IntegerWeight RoundToNearest(const Matrix& weight, const IntegerFormat& format,
                             ThreadPool& threads) {
  IntegerWeight result(format, weight.cols(), weight.rows());
  const int64_t groups = format.NumGroups(weight.cols());
  const int64_t size = weight.cols() / groups;
  threads.ParallelFor(weight.rows(), [&](int64_t row, int) {
    for (int64_t group = 0; group < groups; ++group) {
      const std::span<const float> x(&weight(row, group * size), static_cast<size_t>(size));
      const IntegerGrid grid = FindGrid(x, format);
      result.SetGrid(row, group, grid);
      uint8_t* codes = &result.codes[static_cast<size_t>(row * weight.cols() + group * size)];
      for (size_t i = 0; i < x.size(); ++i) {
        codes[i] = static_cast<uint8_t>(CodeOf(x[i], grid, format));
      }
    }
  });
  return result;
}

void RoundRow(std::span<float> row, const IntegerFormat& format) {
  const size_t groups = static_cast<size_t>(format.NumGroups(std::ssize(row)));
  const size_t size = row.size() / groups;
  for (size_t group = 0; group < groups; ++group) {
    const std::span<float> x = row.subspan(group * size, size);
    const IntegerGrid grid = FindGrid(x, format);
    for (float& value : x) value = grid.ValueOf(CodeOf(value, grid, format));
  }
}

Matrix Dequantize(const IntegerWeight& weight) {
  Matrix result(weight.out, weight.in);
  for (int64_t row = 0; row < weight.out; ++row) {
    for (int64_t i = 0; i < weight.in; ++i) {
      const IntegerGrid grid = weight.GridAt(row, weight.group_of[static_cast<size_t>(i)]);
      result(row, i) = grid.ValueOf(weight.codes[static_cast<size_t>(row * weight.in + i)]);
    }
  }
  return result;
}

}  // namespace gale
