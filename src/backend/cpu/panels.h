// Weights packed for the CPU: panels of kPanelColumns output columns, each one stretch of memory
// that products read from its first byte to its last, whatever the number of rows. Layer L1b.
//
// A panel is a sequence of units along k, with the columns side by side in each:
//   bf16   2 elements:  [64 columns][2] bf16                                            256 bytes
//   int8  32 elements:  scales f16 [64], then [8][64 columns][4] unsigned bytes         2,176
//   int4  32 elements:  scales f16 [64], then [4][64 columns][4] bytes, of which the
//                       low halves are the first four elements of eight, the high       1,152
//                       ones the next four
// An element of int8 is scale * (byte - 128), of int4 scale * (half - 8): ggml's Q8_0 and Q4_0 with
// their bits in another order, and any other code of 32 elements to a scale. Columns past the last
// are zero.
#pragma once

#include <cstdint>

namespace gale::cpu {

inline constexpr int64_t kPanelColumns = 64;
inline constexpr int64_t kPanelGroup = 32;  ///< elements of a scale

enum class PanelKind : uint8_t { kBf16, kInt8, kInt4 };

constexpr int64_t PanelUnitElements(PanelKind kind) {
  return kind == PanelKind::kBf16 ? 2 : kPanelGroup;
}

constexpr int64_t PanelUnitBytes(PanelKind kind) {
  constexpr int64_t kScales = kPanelColumns * 2;
  switch (kind) {
    case PanelKind::kBf16: return kPanelColumns * 4;
    case PanelKind::kInt8: return kScales + kPanelColumns * kPanelGroup;
    case PanelKind::kInt4: return kScales + kPanelColumns * kPanelGroup / 2;
  }
  return 0;
}

constexpr int64_t NumPanels(int64_t columns) {
  return (columns + kPanelColumns - 1) / kPanelColumns;
}

/// One panel of k elements, a multiple of PanelUnitElements.
constexpr int64_t PanelBytes(PanelKind kind, int64_t k) {
  return k / PanelUnitElements(kind) * PanelUnitBytes(kind);
}

/// 32 activations x as x ~ scale * code, scale = max |x| / 127: what integer kernels multiply.
struct QuantizedGroup {
  float scale = 0;
  int32_t sum = 0;  ///< of the codes
  int8_t codes[kPanelGroup] = {};
};

}  // namespace gale::cpu
