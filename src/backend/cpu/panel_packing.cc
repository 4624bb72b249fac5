#include "backend/cpu/panel_packing.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "tensor/ggml_block.h"

namespace gale::cpu {
namespace {

/// The inputs that share a scale, for the units of kZeros panels.
int64_t ScaleInputs(const QuantFormat& format, int64_t in) {
  return format.block.in == 0 ? in : format.block.in;
}

/// Columns of a weight that become one panel; those past the last are not there.
class PanelSource {
 public:
  PanelSource(const LinearWeight& weight, int64_t panel)
      : weight_(weight),
        first_(panel * kPanelColumns),
        columns_(std::min(kPanelColumns, weight.out - first_)),
        stride_bytes_(weight.data.strides[0] *
                      static_cast<int64_t>(DTypeBytes(weight.data.dtype))) {}

  const LinearWeight& weight() const { return weight_; }
  int64_t columns() const { return columns_; }  ///< at most kPanelColumns
  const std::byte* Row(int64_t column) const {
    return static_cast<const std::byte*>(weight_.data.data) + (first_ + column) * stride_bytes_;
  }
  /// With kScaled: which of its scales belongs to an input of a column.
  int64_t ScaleAt(int64_t column, int64_t input) const {
    const int64_t inputs = ScaleInputs(weight_.format, weight_.in);
    return (first_ + column) * ((weight_.in + inputs - 1) / inputs) + input / inputs;
  }

 private:
  const LinearWeight& weight_;
  int64_t first_;
  int64_t columns_;
  int64_t stride_bytes_;
};

/// By squares of one cache line per row, so that every line is read once.
void PackBf16(const PanelSource& source, uint32_t* dst) {
  constexpr int64_t kLine = 16;
  const int64_t pairs = source.weight().in / 2;
  for (int64_t begin = 0; begin < pairs; begin += kLine) {
    const int64_t end = std::min(begin + kLine, pairs);
    for (int64_t c = 0; c < source.columns(); ++c) {
      const std::byte* row = source.Row(c);
      for (int64_t i = begin; i < end; ++i) {
        std::memcpy(dst + i * kPanelColumns + c, row + i * 4, 4);
      }
    }
  }
}

/// 32 codes as panels have them before they are put beside those of other columns.
using GroupCodes = std::array<uint8_t, kPanelGroup>;

void PutCodes(const GroupCodes& codes, bool is_8_bits, int64_t column, uint8_t* group) {
  constexpr size_t kWord = 4;
  for (size_t i = 0; i < codes.size(); i += is_8_bits ? kWord : 2 * kWord) {
    uint8_t word[kWord];
    for (size_t j = 0; j < kWord; ++j) {
      word[j] =
          is_8_bits ? codes[i + j] : static_cast<uint8_t>(codes[i + j] | codes[i + j + kWord] << 4);
    }
    std::memcpy(group + column * 4, word, kWord);
    group += kPanelColumns * 4;
  }
}

template <class T>
void Put(uint8_t* header, int64_t columns_before, int64_t column, T value) {
  std::memcpy(header + columns_before * kPanelColumns + column * int64_t{sizeof(T)}, &value,
              sizeof(T));
}

/// A unit of one column, `input` being its first.
using PackUnit = void (*)(const PanelSource& source, int64_t column, int64_t input,
                          const PanelFormat& format, uint8_t* unit);

void PackSimpleBlock(const PanelSource& source, int64_t column, int64_t input,
                     const PanelFormat& format, uint8_t* unit) {
  const GgmlType type = source.weight().format.ggml;
  const std::byte* block = source.Row(column) + GgmlRowBytes(type, input);
  F16 scale;
  std::memcpy(&scale, block, sizeof(scale));
  Put(unit, 0, column, scale);
  GroupCodes codes;
  for (size_t i = 0; i < codes.size(); ++i) {
    constexpr size_t kHalf = kPanelGroup / 2;
    const auto byte = [&](size_t at) { return std::to_integer<int>(block[kGgmlScaleBytes + at]); };
    codes[i] = static_cast<uint8_t>(type == GgmlType::kQ8_0 ? byte(i) ^ 0x80
                                    : i < kHalf             ? byte(i) & 15
                                                            : byte(i - kHalf) >> 4);
  }
  PutCodes(codes, type == GgmlType::kQ8_0, column, unit + format.HeaderBytes());
}

void PackSuperBlock(const PanelSource& source, int64_t column, int64_t input,
                    const PanelFormat& format, uint8_t* unit) {
  const GgmlType type = source.weight().format.ggml;
  const GgmlSuperBlock parts =
      SplitSuperBlock(type, source.Row(column) + GgmlRowBytes(type, input));
  const bool has_mins = format.scales == PanelScales::kMins;
  Put(unit, 0, column, parts.d);
  if (has_mins) Put(unit, 2, column, parts.d_min);
  uint8_t* bytes = unit + (has_mins ? 4 : 2) * kPanelColumns;
  for (int64_t i = 0; i < 2 * format.groups; ++i, bytes += kPanelColumns) {
    const auto at = static_cast<size_t>(has_mins ? i / 2 : i);
    bytes[column] =
        static_cast<uint8_t>(has_mins && i % 2 == 1 ? parts.mins[at] : parts.scales[at]);
  }
  for (int64_t group = 0; group < format.groups; ++group) {
    GroupCodes codes;
    for (size_t i = 0; i < codes.size(); ++i) {
      const int code = parts.codes[static_cast<size_t>(group * kPanelGroup) + i];
      codes[i] = static_cast<uint8_t>(has_mins ? code : code + 128);
    }
    PutCodes(codes, format.codes == PanelCodes::k8Bits, column,
             bytes + group * format.GroupBytes());
  }
}

void PackScaled(const PanelSource& source, int64_t column, int64_t input, const PanelFormat& format,
                uint8_t* unit) {
  const LinearWeight& weight = source.weight();
  const bool is_8_bits = format.codes == PanelCodes::k8Bits;
  const bool is_signed = weight.format.codes == CodeType::kInt8;
  const int64_t scale = source.ScaleAt(column, input);
  Put(unit, 0, column, weight.scales.As<const float>()[scale]);
  int zero = 0;  // counted from the middle, as codes are
  if (weight.format.has_zeros)
    zero = weight.zeros.As<const uint8_t>()[scale] - (is_8_bits ? 128 : 8);
  Put(unit, 4, column, static_cast<int8_t>(zero));
  for (int64_t group = 0; group < format.groups; ++group) {
    const std::byte* row = source.Row(column);
    GroupCodes codes;
    for (int64_t i = 0; i < kPanelGroup; ++i) {
      const int64_t at = input + group * kPanelGroup + i;
      const int byte = std::to_integer<int>(row[is_8_bits ? at : at / 2]);
      const int code = is_8_bits ? byte : byte >> (at % 2 * 4) & 15;
      codes[static_cast<size_t>(i)] = static_cast<uint8_t>(is_signed ? code ^ 0x80 : code);
    }
    PutCodes(codes, is_8_bits, column, unit + format.HeaderBytes() + group * format.GroupBytes());
  }
}

std::optional<PanelFormat> BlockPanels(GgmlType type) {
  switch (type) {
    case GgmlType::kQ8_0: return PanelFormat{PanelCodes::k8Bits, PanelScales::kF16};
    case GgmlType::kQ4_0: return PanelFormat{PanelCodes::k4Bits, PanelScales::kF16};
    case GgmlType::kQ4K: return PanelFormat{PanelCodes::k4Bits, PanelScales::kMins, 8};
    case GgmlType::kQ5K: return PanelFormat{PanelCodes::k8Bits, PanelScales::kMins, 8};
    case GgmlType::kQ6K: return PanelFormat{PanelCodes::k8Bits, PanelScales::kHalves, 8};
    default: return std::nullopt;
  }
}

/// A scale is repeated in each unit of up to 128 elements that it belongs to.
std::optional<PanelFormat> ScaledPanels(const QuantFormat& format, int64_t in) {
  const bool is_unsigned = format.codes == CodeType::kUInt4 || format.codes == CodeType::kUInt8;
  const bool is_signed = format.codes == CodeType::kInt8 && !format.has_zeros;
  if (!is_unsigned && !is_signed) return std::nullopt;
  if (format.block.out != 1 || format.has_permutation) return std::nullopt;
  for (const int groups : {4, 2, 1}) {
    const int64_t elements = groups * kPanelGroup;
    if (ScaleInputs(format, in) % elements != 0 || in % elements != 0) continue;
    return PanelFormat{CodeBits(format.codes) == 4 ? PanelCodes::k4Bits : PanelCodes::k8Bits,
                       PanelScales::kZeros, groups};
  }
  return std::nullopt;
}

std::optional<PanelFormat> AnyPanels(const QuantFormat& format, int64_t in) {
  switch (format.code) {
    case BlockCode::kNone:
      if (format.data == DType::kBf16) return PanelFormat{};
      return std::nullopt;
    case BlockCode::kGgmlBlock: return BlockPanels(format.ggml);
    case BlockCode::kScaled: return ScaledPanels(format, in);
  }
  return std::nullopt;
}

PackUnit PackerOf(const PanelFormat& format) {
  switch (format.scales) {
    case PanelScales::kF16: return PackSimpleBlock;
    case PanelScales::kZeros: return PackScaled;
    case PanelScales::kMins:
    case PanelScales::kHalves: return PackSuperBlock;
  }
  return nullptr;
}

}  // namespace

std::optional<PanelFormat> PanelFormatOf(const QuantFormat& format, int64_t in) {
  std::optional<PanelFormat> panels = AnyPanels(format, in);
  if (panels && in % panels->UnitElements() != 0) panels.reset();
  return panels;
}

void PackPanels(ThreadPool& pool, const LinearWeight& weight, void* dst) {
  const PanelFormat format = *PanelFormatOf(weight.format, weight.in);
  const int64_t panel_bytes = format.PanelBytes(weight.in);
  pool.ParallelFor(NumPanels(weight.out), [&](int64_t p, int) {
    const PanelSource source(weight, p);
    auto* panel = static_cast<uint8_t*>(dst) + p * panel_bytes;
    if (source.columns() < kPanelColumns) std::memset(panel, 0, static_cast<size_t>(panel_bytes));
    if (format.codes == PanelCodes::kBf16) {
      return PackBf16(source, reinterpret_cast<uint32_t*>(panel));
    }
    for (int64_t input = 0; input < weight.in; input += format.UnitElements()) {
      for (int64_t c = 0; c < source.columns(); ++c) {
        PackerOf(format)(source, c, input, format, panel);
      }
      panel += format.UnitBytes();
    }
  });
}

}  // namespace gale::cpu
