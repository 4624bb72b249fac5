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
  int64_t units = 0;
  float* out = nullptr;  ///< [rows, kPanelColumns], added to
  int64_t out_stride = 0;
  const std::byte* ahead = nullptr;  ///< what to ask into L1 meanwhile, in order
  int64_t ahead_lines = 0;           ///< of it beside each unit

  /// One of `parts` equal parts of a unit's lines, and of those that lie kFarAhead on into L2: more
  /// can be on their way to L2 than to L1. In small parts between products: a burst would wait for
  /// memory while no products run, and products then run while no lines are on their way.
  GALE_INLINE void Prefetch(int64_t unit, int64_t part, int64_t parts) const {
    constexpr int64_t kFarAhead = int64_t{16} << 10;
    const std::byte* first = ahead + unit * ahead_lines * kLineBytes;
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
  static constexpr cpu::PanelKind kKind = cpu::PanelKind::kBf16;
  static constexpr int64_t kOperandBytes = 4;  ///< of one row for one unit
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
      unit += cpu::PanelUnitBytes(kKind);
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) Store(out + r * s.out_stride + v * kLanes, acc[r][v]);
    }
  }
};

template <cpu::PanelKind kCodes>
struct IntPanel {
  static constexpr cpu::PanelKind kKind = kCodes;
  static constexpr int64_t kOperandBytes = sizeof(cpu::QuantizedGroup);
  static constexpr int kOperandRegisters = sizeof(Quad) / sizeof(Ints);
  static constexpr bool kIsInt8 = kCodes == cpu::PanelKind::kInt8;
  static constexpr int32_t kZeroCode = kIsInt8 ? 128 : 8;
  static constexpr int kQuads = static_cast<int>(cpu::kPanelGroup) / 4;

  /// Four codes of each column: elements 4 * quad on.
  GALE_INLINE static Ints Codes(const std::byte* codes, int quad, int64_t column) {
    if constexpr (kIsInt8) {
      return LoadInts(codes + (quad * cpu::kPanelColumns + column) * 4);
    } else {
      const Ints bytes = LoadInts(codes + (quad / 2 * cpu::kPanelColumns + column) * 4);
      return quad % 2 == 0 ? LowNibbles(bytes) : HighNibbles(bytes);
    }
  }

  template <int R, int V>
  static void Tile(const PanelStretch& s, int64_t column) {
    const std::byte* x = s.x;
    const std::byte* unit = s.panel;
    for (int64_t i = 0; i < s.units; ++i) {
      Group<R, V>(s, i, x, unit, column);
      x += kOperandBytes;
      unit += cpu::PanelUnitBytes(kKind);
    }
  }

  template <int R, int V>
  GALE_INLINE static void Group(const PanelStretch& s, int64_t i, const std::byte* x,
                                const std::byte* unit, int64_t column) {
    const auto* scales = reinterpret_cast<const F16*>(unit) + column;
    const std::byte* codes = unit + cpu::kPanelColumns * sizeof(F16);
    const auto group = [&](int r) -> const cpu::QuantizedGroup& {
      return *reinterpret_cast<const cpu::QuantizedGroup*>(x + r * s.x_stride);
    };
    Ints acc[R][V];
    for (int r = 0; r < R; ++r) {
      const Ints zero = BroadcastInt(-kZeroCode * group(r).sum);
      for (int v = 0; v < V; ++v) acc[r][v] = zero;
    }
#pragma GCC unroll 8
    for (int quad = 0; quad < kQuads; ++quad) {
      s.Prefetch(i, quad, kQuads);
      Ints weights[V];
      for (int v = 0; v < V; ++v) weights[v] = Codes(codes, quad, column + v * kLanes);
      for (int r = 0; r < R; ++r) {
        const Quad xr = BroadcastQuad(group(r).codes + 4 * quad);
        for (int v = 0; v < V; ++v) acc[r][v] = QuadDot(acc[r][v], weights[v], xr);
      }
    }
    for (int v = 0; v < V; ++v) {
      const Vec scale = Load(scales + v * kLanes);
      for (int r = 0; r < R; ++r) {
        float* out = s.out + r * s.out_stride + column + v * kLanes;
        const Vec both = Mul(scale, Broadcast(group(r).scale));
        Store(out, Fma(ToFloats(acc[r][v]), both, Load(out)));
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
  constexpr int64_t kLines = cpu::PanelUnitBytes(Panel::kKind) / kLineBytes;
  const int64_t calls = tiles * kPasses;
  const int64_t lines = (kLines + calls - 1) / calls;
  const std::byte* next = s.ahead;
  for (int64_t pass = 0; pass < kPasses; ++pass) {
    const int64_t call = tile * kPasses + pass;
    s.ahead = next + call * lines * s.units * kLineBytes;
    s.ahead_lines = call * lines < kLines ? lines : 0;
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
  constexpr int64_t kUnitBytes = cpu::PanelUnitBytes(Panel::kKind);
  const int64_t units = block.k / cpu::PanelUnitElements(Panel::kKind);
  const int64_t tile_rows = block.rows <= kMaxTileRows ? kMaxTileRows : kPanelTileRows;
  const int64_t tiles = (block.rows + tile_rows - 1) / tile_rows;
  const int64_t stretch_bytes = tiles <= 4 ? int64_t{8} << 10 : int64_t{128} << 10;
  const int64_t stretch = stretch_bytes / kUnitBytes;
  const auto* panel = static_cast<const std::byte*>(block.panels);
  for (int64_t r = 0; r < block.rows; ++r) {
    std::memset(block.out + r * block.out_stride, 0,
                static_cast<size_t>(block.num_panels * cpu::kPanelColumns) * sizeof(float));
  }
  for (int64_t p = 0; p < block.num_panels; ++p, panel += units * kUnitBytes) {
    for (int64_t first = 0; first < units; first += stretch) {
      const int64_t count = units - first < stretch ? units - first : stretch;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t row = block.rows * tile / tiles;  // tiles of equal height, or one row less
        RunTileOf<Panel>(block.rows * (tile + 1) / tiles - row,
                         {.x = static_cast<const std::byte*>(block.x) + row * block.x_stride +
                               first * Panel::kOperandBytes,
                          .x_stride = block.x_stride,
                          .panel = panel + first * kUnitBytes,
                          .units = count,
                          .out = block.out + row * block.out_stride + p * cpu::kPanelColumns,
                          .out_stride = block.out_stride,
                          .ahead = panel + (first + count) * kUnitBytes},
                         tile, tiles);
      }
    }
  }
}

inline void MultiplyPanelsOf(const PanelBlock& block) {
  switch (block.kind) {
    case cpu::PanelKind::kBf16: return MultiplyPanels<Bf16Panel>(block);
    case cpu::PanelKind::kInt8: return MultiplyPanels<IntPanel<cpu::PanelKind::kInt8>>(block);
    case cpu::PanelKind::kInt4: return MultiplyPanels<IntPanel<cpu::PanelKind::kInt4>>(block);
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
    out->sum += out->codes[i];
  }
}

inline void QuantizeRow(const Bf16* x, int64_t k, cpu::QuantizedGroup* out) {
  for (int64_t i = 0; i < k; i += cpu::kPanelGroup) QuantizeGroup(x + i, out++);
}

}  // namespace gale::GALE_SIMD
