// The kernels of CpuKernels, written over simd.h. Layer L1b; included once by
// each kernels_<instruction set>.cc, which is compiled with that set's flags.
// Uses no inline function from outside the namespace but the trivial ones of
// bf16.h and f16.h (see simd.h).
#pragma once

#include <type_traits>
#include <utility>

#include "backend/cpu/kernels.h"
#include "backend/cpu/kv_kernels.h"
#include "backend/cpu/panel_kernels.h"
#include "backend/cpu/simd.h"
#include "tensor/ggml_block.h"

namespace gale::GALE_SIMD {

// ---- storage ----

template <class T>
void ConvertToF32(const T* src, float* dst, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(dst + i, Load(src + i));
  if (i < n) StorePartial(dst + i, LoadPartial(src + i, n - i), n - i);
}

inline void ToF32(const void* src, DType dtype, float* dst, int64_t n) {
  switch (dtype) {
    case DType::kBf16: return ConvertToF32(static_cast<const Bf16*>(src), dst, n);
    case DType::kF16: return ConvertToF32(static_cast<const F16*>(src), dst, n);
    default: return ConvertToF32(static_cast<const float*>(src), dst, n);
  }
}

/// Walks the elements of rows of blocks as a pointer walks plain ones.
template <GgmlType kType>
struct BlockPointer {
  const uint8_t* blocks;
  int64_t element = 0;

  friend BlockPointer operator+(BlockPointer p, int64_t n) { return {p.blocks, p.element + n}; }
};

/// One block with its scale at hand.
template <GgmlType kType>
struct Block {
  const uint8_t* codes;
  Vec scale;

  GALE_INLINE explicit Block(BlockPointer<kType> p)
      : codes(p.blocks + p.element / kGgmlBlockElements * GgmlBlockBytes(kType) + kGgmlScaleBytes),
        scale(Broadcast(LoadHalf(codes - kGgmlScaleBytes))) {}

  /// The elements from the at-th on, a multiple of kLanes.
  GALE_INLINE Vec Elements(int at) const {
    if constexpr (kType == GgmlType::kQ8_0) {
      return Mul(scale, LoadBytes(codes + at));
    } else {
      constexpr int kHalf = kGgmlBlockElements / 2;
      const Vec q = LoadNibbles(codes + at % kHalf, at < kHalf ? 0 : 4);
      return Mul(scale, Sub(q, Broadcast(8.0F)));
    }
  }
};

template <GgmlType kType>
void UnpackBlocksOf(BlockPointer<kType> src, float* dst, int64_t n) {
  for (int64_t i = 0; i < n; i += kGgmlBlockElements) {
    const Block<kType> block(src + i);
    for (int at = 0; at < kGgmlBlockElements; at += kLanes) Store(dst + i + at, block.Elements(at));
  }
}

inline void UnpackBlocks(const void* src, GgmlType type, float* dst, int64_t n) {
  const auto* blocks = static_cast<const uint8_t*>(src);
  if (type == GgmlType::kQ8_0) {
    UnpackBlocksOf<GgmlType::kQ8_0>({blocks}, dst, n);
  } else {
    UnpackBlocksOf<GgmlType::kQ4_0>({blocks}, dst, n);
  }
}

inline void FromF32(const float* src, void* dst, DType dtype, int64_t n) {
  if (dtype == DType::kBf16) {
    auto* out = static_cast<Bf16*>(dst);
    for (int64_t i = 0; i < n; ++i) out[i] = ToBf16(src[i]);
  } else if (dst != src) {
    std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
  }
}

// ---- linear ----

inline int64_t PackedSize(int64_t rows, int64_t k) {
  return rows * ((k + kLanes - 1) / kLanes * kLanes);
}

template <class T>
void PackRowsOf(const T* x, int64_t stride, int64_t rows, int64_t k, float* dst) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* src = x + r * stride;
    float* out = dst + r * kLanes;
    int64_t i = 0;
    for (; i + kLanes <= k; i += kLanes, out += rows * kLanes) Store(out, Load(src + i));
    if (i < k) Store(out, LoadPartial(src + i, k - i));
  }
}

inline void PackRows(const void* x, DType dtype, int64_t stride, int64_t rows, int64_t k,
                     float* dst) {
  if (dtype == DType::kBf16) return PackRowsOf(static_cast<const Bf16*>(x), stride, rows, k, dst);
  PackRowsOf(static_cast<const float*>(x), stride, rows, k, dst);
}

/// Calls step with C vectors of weights at a time; a block's scale is read
/// once.
template <int C, GgmlType kType, class Step>
GALE_INLINE void DotBlocks(BlockPointer<kType> w, int64_t stride, int64_t k, Step&& step) {
  const auto over_columns = [&]<size_t... kColumn>(std::index_sequence<kColumn...>) {
    for (int64_t i = 0; i < k; i += kGgmlBlockElements) {
      const Block<kType> blocks[C] = {
          Block<kType>(w + static_cast<int64_t>(kColumn) * stride + i)...};
#pragma GCC unroll 8
      for (int at = 0; at < kGgmlBlockElements; at += kLanes) {
        const Vec weights[C] = {blocks[kColumn].Elements(at)...};
        step(weights);
      }
    }
  };
  over_columns(std::make_index_sequence<C>());
}

/// R x C dot products held in registers. Every lane sums its elements in
/// ascending k, then the lanes are summed in ReduceAdd's order: the same for
/// all R and C.
template <int R, int C, class W>
void DotTile(const float* x, W w, int64_t stride, int64_t k, float* out, int64_t out_stride) {
  Vec acc[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) acc[r][c] = Zero();
  }
  const auto step = [&](const Vec(&weights)[C]) __attribute__((always_inline)) {
    for (int r = 0; r < R; ++r) {
      const Vec xr = Load(x + r * kLanes);
      for (int c = 0; c < C; ++c) acc[r][c] = Fma(xr, weights[c], acc[r][c]);
    }
    x += R * kLanes;
  };
  Vec weights[C];
  if constexpr (std::is_pointer_v<W>) {
    int64_t i = 0;
    for (; i + kLanes <= k; i += kLanes) {
      for (int c = 0; c < C; ++c) weights[c] = Load(w + c * stride + i);
      step(weights);
    }
    if (i < k) {
      for (int c = 0; c < C; ++c) weights[c] = LoadPartial(w + c * stride + i, k - i);
      step(weights);
    }
  } else {
    DotBlocks<C>(w, stride, k, step);
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) out[r * out_stride + c] = ReduceAdd(acc[r][c]);
  }
}

/// All columns for one tile of R rows. The widest tile is the largest of a few
/// whose R * C sums, C weights and one x fit the registers; all divide the
/// columns of a usual task (see linear.cc).
template <int R, class W>
void DotRows(const float* x, const LinearBlock& block, W w, float* out) {
  constexpr int kFit = (kRegisters - 1) / (R + 1);
  constexpr int kWidest = kFit >= 8 ? 8 : kFit >= 6 ? 6 : kFit >= 4 ? 4 : 3;
  const int64_t stride = block.weight_stride;
  int64_t c = 0;
  for (; c + kWidest <= block.cols; c += kWidest) {
    DotTile<R, kWidest>(x, w + c * stride, stride, block.k, out + c, block.out_stride);
  }
  for (; c + 2 <= block.cols; c += 2) {
    DotTile<R, 2>(x, w + c * stride, stride, block.k, out + c, block.out_stride);
  }
  if (c < block.cols) DotTile<R, 1>(x, w + c * stride, stride, block.k, out + c, block.out_stride);
}

template <class W>
void LinearOf(const LinearBlock& block, W w) {
  for (int64_t row = 0; row < block.rows; row += kLinearRowTile) {
    const float* x = block.x + PackedSize(row, block.k);
    float* out = block.out + row * block.out_stride;
    switch (block.rows - row) {
      case 1: DotRows<1>(x, block, w, out); break;
      case 2: DotRows<2>(x, block, w, out); break;
      case 3: DotRows<3>(x, block, w, out); break;
      default: DotRows<4>(x, block, w, out); break;
    }
  }
}

inline void Linear(const LinearBlock& block) {
  const auto* bytes = static_cast<const uint8_t*>(block.weight);
  switch (block.blocks) {
    case GgmlType::kQ8_0: return LinearOf(block, BlockPointer<GgmlType::kQ8_0>{bytes});
    case GgmlType::kQ4_0: return LinearOf(block, BlockPointer<GgmlType::kQ4_0>{bytes});
    default: break;
  }
  switch (block.weight_dtype) {
    case DType::kBf16: return LinearOf(block, static_cast<const Bf16*>(block.weight));
    case DType::kF16: return LinearOf(block, static_cast<const F16*>(block.weight));
    default: return LinearOf(block, static_cast<const float*>(block.weight));
  }
}

// ---- rows ----

inline void RmsNorm(const float* x, const float* weight, float eps, float* out, int64_t n) {
  Vec sums[4] = {Zero(), Zero(), Zero(), Zero()};  // four chains hide the latency of the additions
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) {
      const Vec v = Load(x + i + j * kLanes);
      sums[j] = Fma(v, v, sums[j]);
    }
  }
  for (; i < n; i += kLanes) {
    const Vec v = n - i >= kLanes ? Load(x + i) : LoadPartial(x + i, n - i);
    sums[0] = Fma(v, v, sums[0]);
  }
  const float sum = ReduceAdd(Add(Add(sums[0], sums[1]), Add(sums[2], sums[3])));
  const Vec scale = Broadcast(1.0F / __builtin_sqrtf(sum / static_cast<float>(n) + eps));
  for (i = 0; i + kLanes <= n; i += kLanes) {
    Store(out + i, Mul(Mul(Load(x + i), scale), Load(weight + i)));
  }
  if (i < n) {
    const Vec v = Mul(Mul(LoadPartial(x + i, n - i), scale), LoadPartial(weight + i, n - i));
    StorePartial(out + i, v, n - i);
  }
}

inline void RotateHalf(float* x, const float* cos, const float* sin, int64_t half) {
  const auto rotate = [](Vec a, Vec b, Vec c, Vec s, Vec* out_a, Vec* out_b) {
    *out_a = Sub(Mul(a, c), Mul(b, s));
    *out_b = Fma(a, s, Mul(b, c));
  };
  int64_t i = 0;
  Vec a;
  Vec b;
  for (; i + kLanes <= half; i += kLanes) {
    rotate(Load(x + i), Load(x + half + i), Load(cos + i), Load(sin + i), &a, &b);
    Store(x + i, a);
    Store(x + half + i, b);
  }
  if (const int64_t n = half - i; n > 0) {
    rotate(LoadPartial(x + i, n), LoadPartial(x + half + i, n), LoadPartial(cos + i, n),
           LoadPartial(sin + i, n), &a, &b);
    StorePartial(x + i, a, n);
    StorePartial(x + half + i, b, n);
  }
}

/// out = f(gate, up), vector by vector.
template <class Function>
GALE_INLINE void MapPairs(const float* gate, const float* up, float* out, int64_t n, Function f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(out + i, f(Load(gate + i), Load(up + i)));
  if (i < n) {
    StorePartial(out + i, f(LoadPartial(gate + i, n - i), LoadPartial(up + i, n - i)), n - i);
  }
}

/// x / (1 + exp(-steepness))
GALE_INLINE Vec Sigmoidal(Vec x, Vec steepness) {
  return Div(x, Add(Broadcast(1.0F), Exp(Sub(Zero(), steepness))));
}

inline void SiluMul(const float* gate, const float* up, float* out, int64_t n) {
  MapPairs(gate, up, out, n, [](Vec g, Vec u) { return Mul(Sigmoidal(g, g), u); });
}

/// (1 + tanh(t)) / 2 is 1 / (1 + exp(-2 t)).
inline void GeluTanhMul(const float* gate, const float* up, float* out, int64_t n) {
  MapPairs(gate, up, out, n, [](Vec g, Vec u) {
    const Vec cubic = Fma(Mul(Broadcast(0.044715F), Mul(g, g)), g, g);
    return Mul(Sigmoidal(g, Mul(Broadcast(1.59576912F), cubic)), u);
  });
}

inline void Softcap(float* x, float cap, int64_t n) {
  const Vec caps = Broadcast(cap);
  MapPairs(x, x, x, n, [&](Vec a, Vec) { return Mul(caps, Tanh(Div(a, caps))); });
}

inline float MaxOf(const float* x, int64_t n) {
  float result = -__builtin_inff();
  int64_t i = 0;
  if (n >= kLanes) {
    Vec max = Load(x);
    for (i = kLanes; i + kLanes <= n; i += kLanes) max = Max(max, Load(x + i));
    result = ReduceMax(max);
  }
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

inline float ExpSum(const float* x, float shift, float scale, float* out, int64_t n) {
  const Vec shifts = Broadcast(shift);
  const Vec scales = Broadcast(scale);
  Vec sum = Zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec e = Exp(Mul(Sub(Load(x + i), shifts), scales));
    Store(out + i, e);
    sum = Add(sum, e);
  }
  float total = ReduceAdd(sum);
  if (const int64_t rest = n - i; rest > 0) {
    float lanes[kLanes];
    Store(lanes, Exp(Mul(Sub(LoadPartial(x + i, rest), shifts), scales)));
    for (int64_t j = 0; j < rest; ++j) {
      out[i + j] = lanes[j];
      total += lanes[j];
    }
  }
  return total;
}

// ---- attention ----

inline constexpr int kTileVecs = kAttentionTile / kLanes;

/// Rows that meet a vector of keys or values once it is loaded; their sums fit
/// the registers.
inline constexpr int kAttendRows = kRegisters == 32 ? 8 : kLanes / 4;

/// Scores of R rows against the tile: [R, kAttentionTile]. Two chains per
/// score, even and odd d.
template <int R, class T>
GALE_INLINE void Scores(const AttentionTile& tile, int row, float* scores) {
  Vec acc[R][2][kTileVecs];
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < kTileVecs; ++i) acc[r][0][i] = acc[r][1][i] = Zero();
  }
  const float* q = tile.q + int64_t{row} * tile.head_dim;
  const T* k = static_cast<const T*>(tile.k);
  for (int d = 0; d < tile.head_dim; d += 2) {
    if (row == 0 && tile.next_k != nullptr) {  // two rows of keys are a cache line of bf16
      constexpr int64_t kTwoRows = 2 * kAttentionTile * sizeof(T);
      __builtin_prefetch(static_cast<const char*>(tile.next_k) + d / 2 * kTwoRows);
      __builtin_prefetch(static_cast<const char*>(tile.next_v) + d / 2 * kTwoRows);
    }
    for (int chain = 0; chain < 2; ++chain, k += kAttentionTile) {
      for (int i = 0; i < kTileVecs; ++i) {
        const Vec kv = Load(k + i * kLanes);
        for (int r = 0; r < R; ++r) {
          const Vec qv = Broadcast(q[r * tile.head_dim + d + chain]);
          acc[r][chain][i] = Fma(qv, kv, acc[r][chain][i]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < kTileVecs; ++i) {
      Store(scores + r * kAttentionTile + i * kLanes, Add(acc[r][0][i], acc[r][1][i]));
    }
  }
}

/// Asks for the line `at` bytes into the next tile, and into the one further on: more can be on
/// their way to L2 than to L1.
GALE_INLINE void Prefetch(const void* next, const void* far, int64_t at) {
  if (next != nullptr) __builtin_prefetch(static_cast<const char*>(next) + at);
  if (far != nullptr) __builtin_prefetch(static_cast<const char*>(far) + at, 0, 2);
}

/// The same from bf16 queries and keys in pairs along d; two chains, even and
/// odd pairs.
template <int R>
GALE_INLINE void PairScores(const AttentionTile& tile, int row, float* scores) {
  constexpr int64_t kPairsBytes = kAttentionTile * 2 * sizeof(Bf16);
  Vec acc[R][2][kTileVecs];
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < kTileVecs; ++i) acc[r][0][i] = acc[r][1][i] = Zero();
  }
  const Bf16* q = tile.q_pairs + int64_t{row} * tile.head_dim;
  const char* k = static_cast<const char*>(tile.k);
  for (int d = 0; d < tile.head_dim; d += 4) {
    for (int chain = 0; chain < 2; ++chain, k += kPairsBytes) {
      if (row == 0) Prefetch(tile.next_k, tile.far_k, k - static_cast<const char*>(tile.k));
      for (int i = 0; i < kTileVecs; ++i) {
        const Pairs keys = LoadPairs(k + i * kLanes * 4);
        for (int r = 0; r < R; ++r) {
          const Pairs qr = BroadcastPair(q + r * tile.head_dim + d + 2 * chain);
          acc[r][chain][i] = PairDot(acc[r][chain][i], qr, keys);
        }
      }
    }
  }
  const Vec scale = Broadcast(tile.scale);
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < kTileVecs; ++i) {
      Store(scores + r * kAttentionTile + i * kLanes, Mul(Add(acc[r][0][i], acc[r][1][i]), scale));
    }
  }
}

/// Takes one row's scores of the tile, which become exp(score - max), into its
/// running maximum and sum. Returns the factor for what was summed before.
inline float UpdateSoftmax(const AttentionTile& tile, int row, float* scores) {
  for (int j = 0; j < tile.begin[row]; ++j) scores[j] = -__builtin_inff();
  for (int j = tile.end[row]; j < kAttentionTile; ++j) scores[j] = -__builtin_inff();
  const float tile_max = MaxOf(scores, kAttentionTile);
  const float old_max = tile.max[row];
  const float new_max = tile_max > old_max ? tile_max : old_max;
  const float sum = ExpSum(scores, new_max, 1.0F, scores, kAttentionTile);
  float rescale[kLanes];
  Store(rescale, Exp(Broadcast(old_max - new_max)));
  tile.max[row] = new_max;
  tile.sum[row] = tile.sum[row] * rescale[0] + sum;
  return rescale[0];
}

/// acc = acc * rescale + sum over visible positions of p * v, for R rows and W
/// vectors of the head.
template <int R, int W, class T>
GALE_INLINE void AddValues(const AttentionTile& tile, int row, int d, const float* p,
                           const float* rescale) {
  float* out = tile.acc + int64_t{row} * tile.head_dim + d;
  Vec acc[R][W];
  for (int r = 0; r < R; ++r) {
    const Vec factor = Broadcast(rescale[r]);
    for (int w = 0; w < W; ++w) {
      acc[r][w] = Mul(Load(out + r * tile.head_dim + w * kLanes), factor);
    }
  }
  const T* v = static_cast<const T*>(tile.v) + d;
  for (int j = tile.begin[row]; j < tile.end[row]; ++j) {
    Vec values[W];
    for (int w = 0; w < W; ++w) values[w] = Load(v + j * tile.head_dim + w * kLanes);
    for (int r = 0; r < R; ++r) {
      const Vec pr = Broadcast(p[r * kAttentionTile + j]);
      for (int w = 0; w < W; ++w) acc[r][w] = Fma(pr, values[w], acc[r][w]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int w = 0; w < W; ++w) Store(out + r * tile.head_dim + w * kLanes, acc[r][w]);
  }
}

/// The same by dot products of two positions at a time. A value that is not visible may be
/// anything.
template <int R, int W>
GALE_INLINE void AddPairs(const AttentionTile& tile, int row, int d, const Bf16* p,
                          const float* rescale) {
  constexpr int64_t kPairBytes = 2 * sizeof(Bf16);
  float* out = tile.acc + int64_t{row} * tile.head_dim + d;
  Vec acc[R][W];
  for (int r = 0; r < R; ++r) {
    const Vec factor = Broadcast(rescale[r]);
    for (int w = 0; w < W; ++w) {
      acc[r][w] = Mul(Load(out + r * tile.head_dim + w * kLanes), factor);
    }
  }
  const int begin = tile.begin[row];
  const int end = tile.end[row];
  for (int j = begin / 2; 2 * j < end; ++j) {
    const int64_t at = (int64_t{j} * tile.head_dim + d) * kPairBytes;
    Pairs values[W];
    for (int w = 0; w < W; ++w) {
      const int64_t of_vec = at + w * kLanes * kPairBytes;
      if (row == 0) Prefetch(tile.next_v, tile.far_v, of_vec);
      values[w] = LoadPairs(static_cast<const char*>(tile.v) + of_vec);
      if (2 * j < begin) values[w] = SecondOnly(values[w]);
      if (2 * j + 1 >= end) values[w] = FirstOnly(values[w]);
    }
    for (int r = 0; r < R; ++r) {
      const Pairs pr = BroadcastPair(p + r * kAttentionTile + 2 * j);
      for (int w = 0; w < W; ++w) acc[r][w] = PairDot(acc[r][w], pr, values[w]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int w = 0; w < W; ++w) Store(out + r * tile.head_dim + w * kLanes, acc[r][w]);
  }
}

/// R rows that see the same positions of the tile.
template <int R, class T>
void AttendRows(const AttentionTile& tile, int row) {
  float scores[R * kAttentionTile];
  float rescale[R];
  if (tile.q_pairs != nullptr) {
    PairScores<R>(tile, row, scores);
  } else {
    Scores<R, T>(tile, row, scores);
  }
  if (tile.softcap > 0) Softcap(scores, tile.softcap, R * kAttentionTile);
  for (int r = 0; r < R; ++r) {
    rescale[r] = UpdateSoftmax(tile, row + r, scores + r * kAttentionTile);
  }
  constexpr int kWide = R * 4 + 4 < kRegisters ? 4 : 2;
  int d = 0;
  if (tile.q_pairs != nullptr) {
    Bf16 p[R * kAttentionTile];
    FromF32(scores, p, DType::kBf16, R * kAttentionTile);
    for (; d + kWide * kLanes <= tile.head_dim; d += kWide * kLanes) {
      AddPairs<R, kWide>(tile, row, d, p, rescale);
    }
    for (; d < tile.head_dim; d += kLanes) AddPairs<R, 1>(tile, row, d, p, rescale);
    return;
  }
  for (; d + kWide * kLanes <= tile.head_dim; d += kWide * kLanes) {
    AddValues<R, kWide, T>(tile, row, d, scores, rescale);
  }
  for (; d < tile.head_dim; d += kLanes) AddValues<R, 1, T>(tile, row, d, scores, rescale);
}

template <class T>
void AttendAs(const AttentionTile& tile) {
  for (int row = 0; row < tile.rows;) {
    int same = 1;
    while (row + same < tile.rows && same < kAttendRows &&
           tile.begin[row + same] == tile.begin[row] && tile.end[row + same] == tile.end[row]) {
      ++same;
    }
    if (tile.begin[row] >= tile.end[row]) {
      row += same;
    } else if (kAttendRows == 8 && same == 8) {
      AttendRows<kAttendRows, T>(tile, row);
      row += 8;
    } else if (kAttendRows == 8 && same >= 6) {
      AttendRows<kAttendRows == 8 ? 6 : 1, T>(tile, row);
      row += 6;
    } else if (kAttendRows >= 4 && same >= 4) {
      AttendRows<kAttendRows >= 4 ? 4 : 1, T>(tile, row);
      row += 4;
    } else if (kAttendRows >= 2 && same >= 2) {
      AttendRows<kAttendRows >= 2 ? 2 : 1, T>(tile, row);
      row += 2;
    } else {
      AttendRows<1, T>(tile, row);
      row += 1;
    }
  }
}

inline void Attend(const AttentionTile& tile) {
  if (tile.kv == DType::kBf16) return AttendAs<Bf16>(tile);
  AttendAs<float>(tile);
}

inline constexpr CpuKernels MakeKernels(std::string_view name) {
  return {.name = name,
          .to_f32 = ToF32,
          .unpack_blocks = UnpackBlocks,
          .from_f32 = FromF32,
          .packed_size = PackedSize,
          .pack_rows = PackRows,
          .linear = Linear,
          .multiply_panels = MultiplyPanelsOf,
          .quantize_row = QuantizeRow,
          .rms_norm = RmsNorm,
          .rotate_half = RotateHalf,
          .silu_mul = SiluMul,
          .gelu_tanh_mul = GeluTanhMul,
          .softcap = Softcap,
          .attend = Attend,
          .row_range = RowRange,
          .encode_kv = EncodeKv,
          .unpack_kv = UnpackKv,
          .max = MaxOf,
          .exp_sum = ExpSum};
}

}  // namespace gale::GALE_SIMD
