#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/host_limits.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "quant/canonical_weight.h"
#include "tensor/f8.h"
#include "tensor/ggml_quantize.h"
#include "tensor/nf4.h"
#include "weights/float_convert.h"

namespace gale {
namespace {

/// What a block's scale and zero come to.
struct Grid {
  float scale = 1;
  int zero = 0;  ///< the code of 0
};

struct Range {
  float low = 0;  ///< at most 0
  float high = 0;

  float Magnitude() const { return std::max(-low, high); }
};

/// The scale as published checkpoints have it, in f16 where codes have 4 bits; never 0.
float AsStored(float scale, CodeType codes) {
  if (CodeBits(codes) == 4 && codes != CodeType::kNf4) scale = ToFloat(ToF16(scale));
  return scale > 0 ? scale : 1;
}

Grid GridOf(const Range& range, const QuantFormat& format) {
  const CodeType codes = format.codes;
  switch (codes) {
    case CodeType::kUInt4:
    case CodeType::kUInt8: {
      const int most = (1 << CodeBits(codes)) - 1;
      const auto steps = static_cast<float>(most);
      if (!format.has_zeros) {
        return {AsStored(2 * range.Magnitude() / steps, codes), (most + 1) / 2};
      }
      const float scale = AsStored((range.high - range.low) / steps, codes);
      const auto zero = static_cast<int>(std::nearbyint(-range.low / scale));
      return {scale, std::clamp(zero, 0, most)};
    }
    case CodeType::kInt8: return {AsStored(range.Magnitude() / 127, codes)};
    case CodeType::kF8E4M3: return {AsStored(range.Magnitude() / kMaxF8E4M3, codes)};
    case CodeType::kNf4: return {AsStored(range.Magnitude(), codes)};
  }
  return {};
}

int NearestNf4(float x) {
  const auto above = std::ranges::lower_bound(kNf4, x);
  if (above == kNf4.begin()) return 0;
  if (above == kNf4.end()) return 15;
  const auto i = static_cast<int>(above - kNf4.begin());
  return x - *(above - 1) < *above - x ? i - 1 : i;
}

uint8_t CodeOf(float x, const Grid& grid, CodeType codes) {
  const float steps = x / grid.scale;
  const auto whole = [&](int low, int high) {
    const float limit = static_cast<float>(high - low) + 1;
    const auto nearest = static_cast<int>(std::nearbyint(std::clamp(steps, -limit, limit)));
    return static_cast<uint8_t>(std::clamp(nearest + grid.zero, low, high));
  };
  switch (codes) {
    case CodeType::kUInt4: return whole(0, 15);
    case CodeType::kUInt8: return whole(0, 255);
    case CodeType::kInt8: return whole(-127, 127);
    case CodeType::kF8E4M3: return ToF8E4M3(steps).bits;
    case CodeType::kNf4: return static_cast<uint8_t>(NearestNf4(steps));
  }
  return 0;
}

/// The outputs that share scales: rows of `plain` and codes of `weight` from `first` on.
class BlockRow {
 public:
  BlockRow(const TensorView& plain, const LinearWeight& weight, int64_t index)
      : weight_(weight), in_(static_cast<size_t>(weight.in)) {
    const QuantFormat& format = weight.format;
    const int64_t height = format.block.out == 0 ? weight.out : format.block.out;
    first_ = index * height;
    rows_ = static_cast<size_t>(std::min(height, weight.out - first_));
    width_ = format.block.in == 0 ? in_ : static_cast<size_t>(format.block.in);
    blocks_ = (in_ + width_ - 1) / width_;
    index_ = static_cast<size_t>(index) * blocks_;
    values_.resize(rows_ * in_);
    for (size_t row = 0; row < rows_; ++row) {
      const TensorView source =
          plain.Rows(first_ + static_cast<int64_t>(row), first_ + static_cast<int64_t>(row) + 1);
      ConvertElements({static_cast<const std::byte*>(source.data), source.Bytes()}, source.dtype,
                      TensorView(&values_[row * in_], DType::kF32, {weight.in}));
    }
  }

  void Round() {
    for (size_t block = 0; block < blocks_; ++block) {
      const size_t begin = block * width_;
      const size_t end = std::min(begin + width_, in_);
      const Grid grid = GridOf(RangeOf(begin, end), weight_.format);
      weight_.scales.As<float>()[index_ + block] = grid.scale;
      if (weight_.zeros)
        weight_.zeros.As<uint8_t>()[index_ + block] = static_cast<uint8_t>(grid.zero);
      for (size_t row = 0; row < rows_; ++row) {
        for (size_t i = begin; i < end; ++i) Store(row, i, grid);
      }
    }
  }

 private:
  Range RangeOf(size_t begin, size_t end) const {
    Range range;
    for (size_t row = 0; row < rows_; ++row) {
      for (const float x : std::span(values_).subspan(row * in_ + begin, end - begin)) {
        range.low = std::min(range.low, x);
        range.high = std::max(range.high, x);
      }
    }
    return range;
  }

  void Store(size_t row, size_t i, const Grid& grid) {
    const CodeType codes = weight_.format.codes;
    const uint8_t code = CodeOf(values_[row * in_ + i], grid, codes);
    uint8_t* out = weight_.data.As<uint8_t>() + (static_cast<size_t>(first_) + row) * in_ *
                                                    static_cast<size_t>(CodeBits(codes)) / 8;
    if (CodeBits(codes) == 8) {
      out[i] = code;
    } else if (i % 2 == 0) {
      out[i / 2] = code;
    } else {
      out[i / 2] = static_cast<uint8_t>(out[i / 2] | code << 4);
    }
  }

  const LinearWeight& weight_;
  size_t in_, rows_ = 0, width_ = 0, blocks_ = 0, index_ = 0;
  int64_t first_ = 0;
  std::vector<float> values_;  ///< [rows, in]
};

void RoundToBlocks(const TensorView& plain, const LinearWeight& weight, int64_t row) {
  std::vector<float> values(static_cast<size_t>(weight.in));
  const TensorView source = plain.Rows(row, row + 1);
  ConvertElements({static_cast<const std::byte*>(source.data), source.Bytes()}, source.dtype,
                  TensorView(values.data(), DType::kF32, {weight.in}));
  const GgmlType type = weight.format.ggml;
  auto* block = static_cast<std::byte*>(weight.data.Rows(row, row + 1).data);
  for (int64_t i = 0; i < weight.in; i += GgmlBlockElements(type)) {
    QuantizeBlock(type, &values[static_cast<size_t>(i)], block);
    block += GgmlBlockBytes(type);
  }
}

}  // namespace

Result<CanonicalWeight> RoundToNearest(BindContext& context, const TensorView& plain,
                                       const QuantFormat& format) {
  GALE_ASSIGN_OR_RETURN(CanonicalWeight result,
                        AllocateWeight(context, format, plain.dim(1), plain.dim(0)));
  LinearWeight& weight = result.weight;
  ThreadPool threads(AvailableCpus());
  if (format.code == BlockCode::kGgmlBlock) {
    threads.ParallelFor(weight.out, [&](int64_t row, int) { RoundToBlocks(plain, weight, row); });
    return result;
  }
  GALE_CHECK(format.code == BlockCode::kScaled);
  // Of hidden states of some units, codes in full range: what a calibration would come to.
  constexpr float kMadeUpScale = 1.0F / 16;
  if (format.activation == ActivationCode::kTensor) weight.activation_scale = kMadeUpScale;
  threads.ParallelFor(weight.scales.dim(0),
                      [&](int64_t index, int) { BlockRow(plain, weight, index).Round(); });
  return result;
}

}  // namespace gale
