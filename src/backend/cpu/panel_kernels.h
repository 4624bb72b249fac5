// Products of rows with weights in panels (see panels.h), written over simd_dot.h. Layer L1b;
// included by kernels_impl.h, hence compiled once per instruction set.
//
// Every output has one chain of additions along k, in ascending order and in f32 (in int32 within
// a group of 8-bit or 4-bit codes, where nothing is rounded), that tiles of any shape continue
// where the last stretch of k left it: results do not depend on the rows beside.
#pragma once

#include <utility>

#include "backend/cpu/kernels.h"
#include "backend/cpu/panels.h"
#include "backend/cpu/simd_dot.h"

namespace gale::GALE_SIMD {

inline constexpr int kPanelVecs = static_cast<int>(cpu::kPanelColumns) / kLanes;
inline constexpr int64_t kLineBytes = 64;

/// Part of a block that one call of a tile computes: some rows, a stretch of k, all columns.
struct PanelStretch {
  const std::byte* x = nullptr;  ///< the rows' first unit of the stretch
  int64_t x_stride = 0;          ///< bytes
  const std::byte* panel = nullptr;
  cpu::PanelFormat format;
  int64_t units = 0;
  float* out = nullptr;  ///< [rows, kPanelColumns], added to
  int64_t out_stride = 0;
  const std::byte* ahead = nullptr;  ///< what to ask into L1 meanwhile, in order
  int64_t ahead_lines = 0;           ///< of it beside each group (bf16: unit)

  /// One of `parts` equal parts of a group's lines, and of those that lie kFarAhead on into L2:
  /// more can be on their way to L2 than to L1. In small parts between products: a burst would wait
  /// for memory while no products run, and products then run while no lines are on their way.
  GALE_INLINE void Prefetch(int64_t group, int64_t part, int64_t parts) const {
    constexpr int64_t kFarAhead = int64_t{16} << 10;
    const std::byte* first = ahead + group * ahead_lines * kLineBytes;
    const int64_t end = ahead_lines * (part + 1) / parts;
    for (int64_t line = ahead_lines * part / parts; line < end; ++line) {
      __builtin_prefetch(first + line * kLineBytes + kFarAhead, 0, 2);
      __builtin_prefetch(first + line * kLineBytes);
    }
  }
};

/// Vectors of columns that a tile of `rows` rows keeps in registers, with a vector of weights of
/// each column vector and one of x.
constexpr int TileVecs(int rows, int operand_registers) {
  int vecs = kPanelVecs;
  while (vecs > 1 && rows * vecs + (vecs + 1) * operand_registers > kRegisters) vecs /= 2;
  return vecs;
}

/// Rows of the tiles that many rows are cut into.
inline constexpr int kPanelTileRows = kRegisters == 32 && kPairRegisters == 1 ? 6 : 4;
/// Rows that are still one tile, so that weights are unpacked once.
inline constexpr int kMaxTileRows = kPanelTileRows == 6 ? 8 : 4;

struct Bf16Panel {
  static constexpr int64_t kOperandBytes = 4;  ///< of one row for one group
  static constexpr int kOperandRegisters = kPairRegisters;

  template <int R, int V>
  static void Tile(const PanelStretch& s, int64_t column) {
    Vec acc[R][V];
    float* out = s.out + column;
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) acc[r][v] = Load(out + r * s.out_stride + v * kLanes);
    }
    const std::byte* x = s.x;
    const std::byte* unit = s.panel;
    for (int64_t i = 0; i < s.units; ++i) {
      s.Prefetch(i, 0, 1);
      Pairs weights[V];
      for (int v = 0; v < V; ++v) weights[v] = LoadPairs(unit + (column + v * kLanes) * 4);
      for (int r = 0; r < R; ++r) {
        const Pairs xr = BroadcastPair(x + r * s.x_stride);
        for (int v = 0; v < V; ++v) acc[r][v] = PairDot(acc[r][v], xr, weights[v]);
      }
      x += kOperandBytes;
      unit += cpu::PanelFormat{}.UnitBytes();
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) Store(out + r * s.out_stride + v * kLanes, acc[r][v]);
    }
  }
};

template <cpu::PanelCodes kCodes, cpu::PanelScales kScales>
struct IntPanel {
  static constexpr int64_t kOperandBytes = sizeof(cpu::QuantizedGroup);
  static constexpr int kOperandRegisters = sizeof(Quad) / sizeof(Ints);
  static constexpr bool kIs8Bits = kCodes == cpu::PanelCodes::k8Bits;
  static constexpr bool kHasZeros = kScales == cpu::PanelScales::kZeros;
  static constexpr bool kHasMins = kScales == cpu::PanelScales::kMins;
  static constexpr int32_t kMiddle = kHasMins ? 0 : kIs8Bits ? 128 : 8;
  static constexpr int kQuads = static_cast<int>(cpu::kPanelGroup) / 4;
  /// Stretches of a group that have scales of their own.
  static constexpr int kParts = kScales == cpu::PanelScales::kHalves ? 2 : 1;

  /// A group's place in its unit.
  struct Place {
    const std::byte* unit;
    int64_t number;  ///< of the group
    const std::byte* codes;
    int64_t column;
  };

  /// Four codes of each column: elements 4 * quad on.
  GALE_INLINE static Ints Codes(const Place& place, int quad, int v) {
    const int64_t column = place.column + v * kLanes;
    if constexpr (kIs8Bits) {
      return LoadInts(place.codes + (quad * cpu::kPanelColumns + column) * 4);
    } else {
      const Ints bytes = LoadInts(place.codes + (quad / 2 * cpu::kPanelColumns + column) * 4);
      return quad % 2 == 0 ? LowNibbles(bytes) : HighNibbles(bytes);
    }
  }

  /// Bytes [kPanelColumns] that lie `columns` times as many bytes into a unit.
  GALE_INLINE static Vec Bytes(const Place& place, int64_t columns, int v) {
    return LoadBytes(reinterpret_cast<const uint8_t*>(place.unit) + columns * cpu::kPanelColumns +
                     place.column + v * kLanes);
  }
  GALE_INLINE static Vec Halfs(const Place& place, int64_t columns, int v) {
    return Load(reinterpret_cast<const F16*>(place.unit + columns * cpu::kPanelColumns) +
                place.column + v * kLanes);
  }

  GALE_INLINE static Vec Scale(const Place& place, int part, int v) {
    switch (kScales) {
      case cpu::PanelScales::kF16: return Halfs(place, 0, v);
      case cpu::PanelScales::kZeros:
        return Load(reinterpret_cast<const float*>(place.unit) + place.column + v * kLanes);
      case cpu::PanelScales::kMins:
        return Mul(Halfs(place, 0, v), Bytes(place, 4 + 2 * place.number, v));
      case cpu::PanelScales::kHalves:
        return Mul(Halfs(place, 0, v), Bytes(place, 2 + 2 * place.number + part, v));
    }
  }
  GALE_INLINE static Vec Zeros(const Place& place, int v) { return Bytes(place, 4, v); }
  GALE_INLINE static Vec Mins(const Place& place, int v) {
    return Mul(Halfs(place, 2, v), Bytes(place, 5 + 2 * place.number, v));
  }

  template <int R, int V>
  static void Tile(const PanelStretch& s, int64_t column) {
    const std::byte* x = s.x;
    const std::byte* unit = s.panel;
    const int64_t groups = s.format.groups;
    const int64_t header_bytes = s.format.HeaderBytes();
    for (int64_t i = 0; i < s.units; ++i) {
      const std::byte* codes = unit + header_bytes;
      for (int64_t group = 0; group < groups; ++group) {
        Group<R, V>(s, i * groups + group, x, {unit, group, codes, column});
        x += kOperandBytes;
        codes += cpu::PanelFormat{.codes = kCodes}.GroupBytes();
      }
      unit = codes;
    }
  }

  template <int R, int V>
  GALE_INLINE static void Group(const PanelStretch& s, int64_t number, const std::byte* x,
                                const Place& place) {
    const auto group = [&](int r) -> const cpu::QuantizedGroup& {
      return *reinterpret_cast<const cpu::QuantizedGroup*>(x + r * s.x_stride);
    };
    for (int part = 0; part < kParts; ++part) {
      const auto sum = [&](int r) -> int32_t {
        return kParts == 2 ? group(r).sums[part] : group(r).sums[0] + group(r).sums[1];
      };
      Ints acc[R][V];
      for (int r = 0; r < R; ++r) {
        const Ints start = BroadcastInt(-kMiddle * sum(r));
        for (int v = 0; v < V; ++v) acc[r][v] = start;
      }
#pragma GCC unroll 8
      for (int quad = part * kQuads / kParts; quad < (part + 1) * kQuads / kParts; ++quad) {
        s.Prefetch(number, quad, kQuads);
        Ints weights[V];
        for (int v = 0; v < V; ++v) weights[v] = Codes(place, quad, v);
        for (int r = 0; r < R; ++r) {
          const Quad xr = BroadcastQuad(group(r).codes + 4 * quad);
          for (int v = 0; v < V; ++v) acc[r][v] = QuadDot(acc[r][v], weights[v], xr);
        }
      }
      for (int v = 0; v < V; ++v) {
        const Vec scale = Scale(place, part, v);
        for (int r = 0; r < R; ++r) {
          float* out = s.out + r * s.out_stride + place.column + v * kLanes;
          Vec dot = ToFloats(acc[r][v]);
          if constexpr (kHasZeros) {
            dot = Fma(Zeros(place, v), Broadcast(static_cast<float>(-sum(r))), dot);
          }
          const Vec both = Mul(scale, Broadcast(group(r).scale));
          Vec total = Fma(dot, both, Load(out));
          if constexpr (kHasMins) {
            const float sum_of_x = group(r).scale * static_cast<float>(-sum(r));
            total = Fma(Mins(place, v), Broadcast(sum_of_x), total);
          }
          Store(out, total);
        }
      }
    }
  }
};

/// All columns of one panel for R rows, as many at a time as fit the registers. The passes of all
/// tiles, of which this one is `tile` of `tiles`, ask for the next stretch's lines one after the
/// other: the processor's own prefetching follows a stream, but not a stride.
template <class Panel, int R>
void RunTile(PanelStretch s, int64_t tile, int64_t tiles) {
  constexpr int kVecs = TileVecs(R, Panel::kOperandRegisters);
  constexpr int64_t kPasses = kPanelVecs / kVecs;
  const int64_t calls = tiles * kPasses;
  const int64_t groups = s.format.groups;
  const int64_t lines_of_all = (s.format.UnitBytes() / kLineBytes + groups - 1) / groups;
  const int64_t lines = (lines_of_all + calls - 1) / calls;
  const std::byte* next = s.ahead;
  for (int64_t pass = 0; pass < kPasses; ++pass) {
    const int64_t call = tile * kPasses + pass;
    s.ahead = next + call * lines * s.units * groups * kLineBytes;
    s.ahead_lines = call * lines < lines_of_all ? lines : 0;
    Panel::template Tile<R, kVecs>(s, pass * kVecs * kLanes);
  }
}

template <class Panel>
void RunTileOf(int64_t rows, const PanelStretch& s, int64_t tile, int64_t tiles) {
  switch (rows) {
    case 1: return RunTile<Panel, 1>(s, tile, tiles);
    case 2: return RunTile<Panel, 2>(s, tile, tiles);
    case 3: return RunTile<Panel, 3>(s, tile, tiles);
    case 4: return RunTile<Panel, 4>(s, tile, tiles);
    default: break;
  }
  if constexpr (kMaxTileRows > 4) {
    if (rows == 5) return RunTile<Panel, 5>(s, tile, tiles);
    if (rows == 6) return RunTile<Panel, 6>(s, tile, tiles);
    if (rows == 7) return RunTile<Panel, 7>(s, tile, tiles);
    RunTile<Panel, 8>(s, tile, tiles);
  }
}

/// A stretch of k is as much of a panel as stays in the cache while every tile of rows passes over
/// it: L1 for few rows, which wait for memory, L2 for many, which should seldom change their sums.
template <class Panel>
void MultiplyPanels(const PanelBlock& block) {
  const int64_t unit_bytes = block.format.UnitBytes();
  const int64_t units = block.k / block.format.UnitElements();
  const int64_t operand_bytes = block.format.groups * Panel::kOperandBytes;
  const int64_t tile_rows = block.rows <= kMaxTileRows ? kMaxTileRows : kPanelTileRows;
  const int64_t tiles = (block.rows + tile_rows - 1) / tile_rows;
  const int64_t stretch_bytes = tiles <= 4 ? int64_t{8} << 10 : int64_t{128} << 10;
  const int64_t stretch = stretch_bytes > unit_bytes ? stretch_bytes / unit_bytes : 1;
  const auto* panel = static_cast<const std::byte*>(block.panels);
  for (int64_t r = 0; r < block.rows; ++r) {
    std::memset(block.out + r * block.out_stride, 0,
                static_cast<size_t>(block.num_panels * cpu::kPanelColumns) * sizeof(float));
  }
  for (int64_t p = 0; p < block.num_panels; ++p, panel += units * unit_bytes) {
    for (int64_t first = 0; first < units; first += stretch) {
      const int64_t count = units - first < stretch ? units - first : stretch;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t row = block.rows * tile / tiles;  // tiles of equal height, or one row less
        RunTileOf<Panel>(block.rows * (tile + 1) / tiles - row,
                         {.x = static_cast<const std::byte*>(block.x) + row * block.x_stride +
                               first * operand_bytes,
                          .x_stride = block.x_stride,
                          .panel = panel + first * unit_bytes,
                          .format = block.format,
                          .units = count,
                          .out = block.out + row * block.out_stride + p * cpu::kPanelColumns,
                          .out_stride = block.out_stride,
                          .ahead = panel + (first + count) * unit_bytes},
                         tile, tiles);
      }
    }
  }
}

template <cpu::PanelCodes kCodes>
void MultiplyIntPanels(const PanelBlock& block) {
  using enum cpu::PanelScales;
  switch (block.format.scales) {
    case kF16: return MultiplyPanels<IntPanel<kCodes, kF16>>(block);
    case kZeros: return MultiplyPanels<IntPanel<kCodes, kZeros>>(block);
    case kMins: return MultiplyPanels<IntPanel<kCodes, kMins>>(block);
    case kHalves: return MultiplyPanels<IntPanel<kCodes, kHalves>>(block);
  }
}

inline void MultiplyPanelsOf(const PanelBlock& block) {
  switch (block.format.codes) {
    case cpu::PanelCodes::kBf16: return MultiplyPanels<Bf16Panel>(block);
    case cpu::PanelCodes::k8Bits: return MultiplyIntPanels<cpu::PanelCodes::k8Bits>(block);
    case cpu::PanelCodes::k4Bits: return MultiplyIntPanels<cpu::PanelCodes::k4Bits>(block);
  }
}

inline void QuantizeGroup(const Bf16* x, cpu::QuantizedGroup* out) {
  uint16_t largest = 0;
  for (int i = 0; i < cpu::kPanelGroup; ++i) {
    const auto magnitude = static_cast<uint16_t>(x[i].bits & 0x7FFF);
    largest = magnitude > largest ? magnitude : largest;
  }
  constexpr uint16_t kInfinity = 0x7F80;
  *out = {};
  if (largest >= kInfinity) {  // infinite or no number: so is every product
    out->scale = __builtin_nanf("");
    return;
  }
  const float max = ToFloat(Bf16{largest});
  if (max < 0x1p-100F) return;  // 127 / max must be finite
  out->scale = max / 127;
  const Vec inverse = Broadcast(127 / max);
  float rounded[cpu::kPanelGroup];
  for (int i = 0; i < cpu::kPanelGroup; i += kLanes) {
    Store(rounded + i, RoundToInt(Mul(Load(x + i), inverse)));
  }
  for (int i = 0; i < cpu::kPanelGroup; ++i) {
    out->codes[i] = static_cast<int8_t>(rounded[i]);
    out->sums[i / (cpu::kPanelGroup / 2)] += out->codes[i];
  }
}

inline void QuantizeRow(const Bf16* x, int64_t k, cpu::QuantizedGroup* out) {
  for (int64_t i = 0; i < k; i += cpu::kPanelGroup) QuantizeGroup(x + i, out++);
}

}  // namespace gale::GALE_SIMD
