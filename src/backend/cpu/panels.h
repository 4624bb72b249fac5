// Weights packed for the CPU: panels of kPanelColumns output columns, each one stretch of memory
// that products read from its first byte to its last, whatever the number of rows. Layer L1b.
//
// A panel is a sequence of units along k, with the columns side by side in each. Units of bf16 are
// 2 elements: [64 columns][2] bf16. All others are what their scales need, in groups of 32
// elements: first scales (see PanelScales), then of each group its codes, unsigned and counted from
// the middle, 128 or 8, up:
//   8 bits  [8][64 columns][4] bytes
//   4 bits  [4][64 columns][4] bytes, of which the low halves are the first four elements of eight,
//           the high ones the next four
// Columns past the last are zero.
#pragma once

#include <cstdint>

namespace gale::cpu {

inline constexpr int64_t kPanelColumns = 64;
inline constexpr int64_t kPanelGroup = 32;  ///< elements of codes that lie together

enum class PanelCodes : uint8_t { kBf16, k8Bits, k4Bits };

/// What lies before a unit's codes, each thing for 64 columns, and what they then stand for; `code`
/// is counted from the middle but with kMins.
enum class PanelScales : uint8_t {
  kF16,     ///< f16 s:                       s * code
  kZeros,   ///< f32 s, signed bytes z:       s * (code - z)
  kMins,    ///< of 256 elements f16 d, m; of each 32 bytes s, t:    d * s * code - m * t
  kHalves,  ///< of 256 elements f16 d; of each 16 signed bytes s:   d * s * code
};

struct PanelFormat {
  PanelCodes codes = PanelCodes::kBf16;
  PanelScales scales = PanelScales::kF16;
  int groups = 1;  ///< of 32 elements in a unit; with kMins and kHalves 8

  constexpr int64_t UnitElements() const {
    return codes == PanelCodes::kBf16 ? 2 : groups * kPanelGroup;
  }
  /// Bytes of a unit before its codes.
  constexpr int64_t HeaderBytes() const {
    if (codes == PanelCodes::kBf16) return 0;
    switch (scales) {
      case PanelScales::kF16: return kPanelColumns * 2;
      case PanelScales::kZeros: return kPanelColumns * 5;
      case PanelScales::kMins: return kPanelColumns * (4 + 2 * groups);
      case PanelScales::kHalves: return kPanelColumns * (2 + 2 * groups);
    }
    return 0;
  }
  constexpr int64_t GroupBytes() const {
    return kPanelColumns * kPanelGroup / (codes == PanelCodes::k4Bits ? 2 : 1);
  }
  constexpr int64_t UnitBytes() const {
    return codes == PanelCodes::kBf16 ? kPanelColumns * 4 : HeaderBytes() + groups * GroupBytes();
  }
  /// Of k elements, a multiple of UnitElements().
  constexpr int64_t PanelBytes(int64_t k) const { return k / UnitElements() * UnitBytes(); }
};

constexpr int64_t NumPanels(int64_t columns) {
  return (columns + kPanelColumns - 1) / kPanelColumns;
}

/// 32 activations x as x ~ scale * code, scale = max |x| / 127: what integer kernels multiply.
struct QuantizedGroup {
  float scale = 0;
  int16_t sums[2] = {};  ///< of the first 16 codes, and of the others
  int8_t codes[kPanelGroup] = {};
};

}  // namespace gale::cpu
