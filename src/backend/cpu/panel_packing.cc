#include "backend/cpu/panel_packing.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "tensor/ggml_block.h"

namespace gale::cpu {
namespace {

/// Rows of the source that become one panel; those past the last are not there.
struct PanelSource {
  const std::byte* first = nullptr;
  int64_t stride_bytes = 0;
  int64_t columns = 0;  ///< at most kPanelColumns

  const std::byte* Row(int64_t column) const { return first + column * stride_bytes; }
};

/// By squares of one cache line per row, so that every line is read once.
void PackBf16(const PanelSource& source, int64_t k, uint32_t* dst) {
  constexpr int64_t kLine = 16;
  const int64_t pairs = k / 2;
  for (int64_t begin = 0; begin < pairs; begin += kLine) {
    const int64_t end = std::min(begin + kLine, pairs);
    for (int64_t c = 0; c < source.columns; ++c) {
      const std::byte* row = source.Row(c);
      for (int64_t i = begin; i < end; ++i) {
        std::memcpy(dst + i * kPanelColumns + c, row + i * 4, 4);
      }
    }
  }
}

void PackQ8(const std::byte* codes, int64_t column, uint8_t* dst) {
  for (int64_t i = 0; i < kPanelGroup; ++i) {
    dst[(i / 4 * kPanelColumns + column) * 4 + i % 4] =
        static_cast<uint8_t>(codes[i]) ^ uint8_t { 0x80 };
  }
}

void PackQ4(const std::byte* codes, int64_t column, uint8_t* dst) {
  constexpr int64_t kHalf = kGgmlBlockElements / 2;
  const auto element = [&](int64_t i) {
    const auto byte = static_cast<uint8_t>(codes[i % kHalf]);
    return i < kHalf ? byte & 15 : byte >> 4;
  };
  for (int64_t i = 0; i < kHalf; ++i) {
    const int64_t first = i / 4 * 8 + i % 4;
    dst[(i / 4 * kPanelColumns + column) * 4 + i % 4] =
        static_cast<uint8_t>(element(first) | element(first + 4) << 4);
  }
}

void PackBlocks(const PanelSource& source, PanelKind kind, int64_t k, uint8_t* dst) {
  const GgmlType type = kind == PanelKind::kInt8 ? GgmlType::kQ8_0 : GgmlType::kQ4_0;
  for (int64_t group = 0; group < k / kPanelGroup; ++group, dst += PanelUnitBytes(kind)) {
    uint8_t* codes = dst + kPanelColumns * kGgmlScaleBytes;
    for (int64_t c = 0; c < source.columns; ++c) {
      const std::byte* block = source.Row(c) + group * GgmlBlockBytes(type);
      std::memcpy(dst + c * kGgmlScaleBytes, block, kGgmlScaleBytes);
      (kind == PanelKind::kInt8 ? PackQ8 : PackQ4)(block + kGgmlScaleBytes, c, codes);
    }
  }
}

}  // namespace

std::optional<PanelKind> PanelKindOf(const QuantFormat& format) {
  if (format.code == BlockCode::kNone && format.data == DType::kBf16) return PanelKind::kBf16;
  if (format.ggml == GgmlType::kQ8_0) return PanelKind::kInt8;
  if (format.ggml == GgmlType::kQ4_0) return PanelKind::kInt4;
  return std::nullopt;
}

void PackPanels(ThreadPool& pool, const LinearWeight& weight, void* dst) {
  const PanelKind kind = *PanelKindOf(weight.format);
  const int64_t panel_bytes = PanelBytes(kind, weight.in);
  const int64_t row_bytes =
      weight.data.strides[0] * static_cast<int64_t>(DTypeBytes(weight.data.dtype));
  pool.ParallelFor(NumPanels(weight.out), [&](int64_t p, int) {
    const int64_t first = p * kPanelColumns;
    const PanelSource source = {static_cast<const std::byte*>(weight.data.data) + first * row_bytes,
                                row_bytes, std::min(kPanelColumns, weight.out - first)};
    auto* panel = static_cast<uint8_t*>(dst) + p * panel_bytes;
    if (source.columns < kPanelColumns) std::memset(panel, 0, static_cast<size_t>(panel_bytes));
    if (kind == PanelKind::kBf16) {
      PackBf16(source, weight.in, reinterpret_cast<uint32_t*>(panel));
    } else {
      PackBlocks(source, kind, weight.in, panel);
    }
  });
}

}  // namespace gale::cpu
