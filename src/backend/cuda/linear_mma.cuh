// bf16 weights times bf16 rows on the tensor cores: one kernel for up to 64 rows, which reads each
// weight once, straight into registers, and a tiled one for more.
//
// Both sum alike, so that a row's result does not depend on how many rows there are: K is cut into
// units of 32 columns and the units into kParts parts; a part is summed by MMAs in ascending order,
// the parts in ascending order. The weight is the MMA's operand A in both.
//
// Inside a unit lane (g, t) holds columns 8t..8t+7 of its rows: the MMA's own column order,
// permuted alike in both operands, so that fragments come in 16-byte loads from plain row-major
// memory.
#pragma once

#include "backend/cuda/element.cuh"
#include "backend/cuda/ptx.cuh"
#include "backend/cuda/tile.cuh"

namespace gale::cuda {

constexpr int kUnit = 32;  // columns; rows of packed weights are padded to it with zeros
constexpr int kParts = 8;

/// Row i of a product reads row i of x and writes row i of the output.
struct SameRows {
  __device__ __forceinline__ int64_t Read(int row) const { return row; }
  __device__ __forceinline__ int64_t Written(int row) const { return row; }
};

template <class Rows = SameRows>
struct MmaLinearParams {
  const bf16* weight = nullptr;  // [columns, units * 32]
  int columns = 0;               // outputs
  int units = 0;
  const bf16* x = nullptr;  // [rows, k]; 16-byte aligned rows
  int64_t x_stride = 0;
  int rows = 0;
  int k = 0;            // % 8 == 0
  AnyFloats bias = {};  // [columns], data null: none
  void* out = nullptr;  // [rows, columns], bf16 or f32
  int64_t out_stride = 0;
  bool out_is_f32 = false;
  Rows map = {};

  __host__ __device__ int UnitsPerPart() const { return (units + kParts - 1) / kParts; }

  __device__ __forceinline__ void Store(int row, int column, float sum) const {
    const int64_t at = map.Written(row) * out_stride + column;
    if (out_is_f32) {
      static_cast<float*>(out)[at] = sum;
    } else {
      static_cast<bf16*>(out)[at] = __float2bfloat16(sum);
    }
  }

  /// A lane's share of a 16x8 tile: rows `row` and row + 1 of `column`, then of column + 8.
  __device__ __forceinline__ void Emit(int row, int column, float4 sum) const {
    if (row >= rows) return;
    if (column < columns) {
      const float add = bias.data == nullptr ? 0.0F : bias[column];
      Store(row, column, sum.x + add);
      if (row + 1 < rows) Store(row + 1, column, sum.y + add);
    }
    if (column + 8 < columns) {
      const float add = bias.data == nullptr ? 0.0F : bias[column + 8];
      Store(row, column + 8, sum.z + add);
      if (row + 1 < rows) Store(row + 1, column + 8, sum.w + add);
    }
  }
};

/// acc (16 outputs x 8 rows) += one unit. low, high: this lane's columns of weight rows g and g
/// + 8.
__device__ __forceinline__ void MultiplyUnit(float (&acc)[4], const uint4& low, const uint4& high,
                                             const uint4& x) {
  MmaBf16(acc, low.x, high.x, low.y, high.y, x.x, x.y);
  MmaBf16(acc, low.z, high.z, low.w, high.w, x.z, x.w);
}

/// 16 bytes that nobody else reads. Volatile: stays before the wait for the previous kernel.
__device__ __forceinline__ uint4 LoadWeight(const bf16* address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}

constexpr int kStreamThreads = kParts * kWarp;

constexpr size_t StreamSharedBytes(int out_tiles, int row_tiles) {
  return sizeof(float4) * static_cast<size_t>(kParts * out_tiles * row_tiles * kWarp);
}

/// Up to 8 * kRowTiles rows by 16 * kOutTiles outputs, a block's work; warp w has part w of K. The
/// first kDepth units of weights are on their way before the previous kernel has ended.
template <int kOutTiles, int kRowTiles, int kDepth, class Rows>
__device__ __forceinline__ void MultiplyStreamed(const MmaLinearParams<Rows>& p, int first_column) {
  constexpr int kTiles = kOutTiles * kRowTiles;
  extern __shared__ __align__(16) float4 partial[];  // [kParts][kTiles][lane]
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int g = lane / 4;
  const int t = lane % 4;
  const int begin = warp * p.UnitsPerPart();
  const int end = min(begin + p.UnitsPerPart(), p.units);

  // Rows past the end repeat the last one; their sums are dropped.
  const bf16* weight_rows[kOutTiles * 2];
#pragma unroll
  for (int i = 0; i < kOutTiles * 2; ++i) {
    const int column = min(first_column + i * 8 + g, p.columns - 1);
    weight_rows[i] = p.weight + static_cast<int64_t>(column) * p.units * kUnit + t * 8;
  }
  uint4 weights[kDepth][kOutTiles * 2];
  const auto load_weights = [&](int unit, uint4(&dst)[kOutTiles * 2]) {
#pragma unroll
    for (int i = 0; i < kOutTiles * 2; ++i) {
      dst[i] = {0, 0, 0, 0};
      if (unit < end) dst[i] = LoadWeight(weight_rows[i] + unit * kUnit);
    }
  };
#pragma unroll
  for (int d = 0; d < kDepth; ++d) load_weights(begin + d, weights[d]);
  WaitForPrerequisites();

  const bf16* x_rows[kRowTiles];
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    const int row = r * 8 + g;
    x_rows[r] = row < p.rows ? p.x + p.map.Read(row) * p.x_stride : nullptr;
  }
  float acc[kOutTiles][kRowTiles][4] = {};
  for (int first = begin; first < end; first += kDepth) {
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      const int column = (first + d) * kUnit + t * 8;
      uint4 x[kRowTiles];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        x[r] = {0, 0, 0, 0};
        if (first + d < end && x_rows[r] != nullptr && column < p.k) {
          x[r] = *reinterpret_cast<const uint4*>(x_rows[r] + column);
        }
      }
#pragma unroll
      for (int o = 0; o < kOutTiles; ++o) {
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          MultiplyUnit(acc[o][r], weights[d][2 * o], weights[d][2 * o + 1], x[r]);
        }
      }
      load_weights(first + d + kDepth, weights[d]);
    }
  }

#pragma unroll
  for (int o = 0; o < kOutTiles; ++o) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const float(&a)[4] = acc[o][r];
      partial[(warp * kTiles + o * kRowTiles + r) * kWarp + lane] = {a[0], a[1], a[2], a[3]};
    }
  }
  __syncthreads();
  // Each warp finishes every kParts-th tile.
  for (int tile = warp; tile < kTiles; tile += kParts) {
    float4 sum = {0, 0, 0, 0};
#pragma unroll
    for (int w = 0; w < kParts; ++w) {
      const float4 part = partial[(w * kTiles + tile) * kWarp + lane];
      sum.x += part.x;
      sum.y += part.y;
      sum.z += part.z;
      sum.w += part.w;
    }
    p.Emit(tile % kRowTiles * 8 + t * 2, first_column + tile / kRowTiles * 16 + g, sum);
  }
}

constexpr int StreamBlocksPerSm(int row_tiles) { return row_tiles <= 4 ? 2 : 1; }

/// Up to 8 * kRowTiles rows. Blocks: 16 * kOutTiles outputs. Cost: columns * k * 2 bytes of
/// weights; x comes from the caches, once for each block.
template <int kOutTiles, int kRowTiles, int kDepth>
__global__ void __launch_bounds__(kStreamThreads, StreamBlocksPerSm(kRowTiles))
    LinearStreamKernel(MmaLinearParams<> p) {
  LaunchDependents();
  MultiplyStreamed<kOutTiles, kRowTiles, kDepth>(p, static_cast<int>(blockIdx.x) * 16 * kOutTiles);
}

constexpr int kTile = 128;  // outputs and rows of a block
constexpr int kTileThreads = 256;
constexpr int kTileStages = 4;
constexpr int kTileStageElements = 2 * kTile * kUnit;  // weights, then x; unpadded rows of 64 bytes
constexpr int kTileSharedBytes = kTileStages * kTileStageElements * 2;

/// 128 outputs by 128 rows, a block's work; warps: 2 x 4, each 64 outputs x 32 rows. Eight lanes
/// read 128 bytes in a row from shared memory: no bank conflicts without padding.
template <class Rows>
__device__ __forceinline__ void MultiplyTile(const MmaLinearParams<Rows>& p, int first_column,
                                             int first_row) {
  extern __shared__ __align__(128) bf16 stages[];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int g = lane / 4;
  const int t = lane % 4;
  WaitForPrerequisites();

  // A thread copies 16 bytes of two weight rows and of two rows of x for each unit.
  const int copy_row = threadIdx.x / 4;
  const int copy_offset = threadIdx.x % 4 * 8;
  int64_t x_offsets[2];  // of the rows of x; -1: past the end
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + copy_row + i * (kTile / 2);
    x_offsets[i] = row < p.rows ? p.map.Read(row) * p.x_stride : -1;
  }
  const auto copy_unit = [&](int unit) {
    if (unit < p.units) {
      bf16* stage = stages + unit % kTileStages * kTileStageElements;
      const int column = unit * kUnit + copy_offset;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int r = copy_row + i * (kTile / 2);
        const int64_t weight_row = min(first_column + r, p.columns - 1);
        CopyAsync16OrZero(stage + r * kUnit + copy_offset,
                          p.weight + weight_row * p.units * kUnit + column, true);
        const bool valid = x_offsets[i] >= 0 && column < p.k;
        const int64_t offset = valid ? x_offsets[i] + column : 0;
        CopyAsync16OrZero(stage + (kTile + r) * kUnit + copy_offset, p.x + offset, valid);
      }
    }
    CommitCopies();
  };
#pragma unroll
  for (int unit = 0; unit < kTileStages - 1; ++unit) copy_unit(unit);

  const int warp_column = warp % 2 * 64;
  const int warp_row = warp / 2 * 32;
  float total[4][4][4] = {};
  float acc[4][4][4] = {};
  int left_in_part = p.UnitsPerPart();
  for (int unit = 0; unit < p.units; ++unit) {
    WaitForCopies<kTileStages - 2>();
    __syncthreads();  // the unit is here, and everybody is done with the stage copied to next
    copy_unit(unit + kTileStages - 1);
    const bf16* stage = stages + unit % kTileStages * kTileStageElements + t * 8;
    const auto read = [&](int row) { return *reinterpret_cast<const uint4*>(stage + row * kUnit); };
    uint4 x[4];
#pragma unroll
    for (int r = 0; r < 4; ++r) x[r] = read(kTile + warp_row + r * 8 + g);
#pragma unroll
    for (int o = 0; o < 4; ++o) {
      const uint4 low = read(warp_column + o * 16 + g);
      const uint4 high = read(warp_column + o * 16 + 8 + g);
#pragma unroll
      for (int r = 0; r < 4; ++r) MultiplyUnit(acc[o][r], low, high, x[r]);
    }
    if (--left_in_part == 0 || unit + 1 == p.units) {
      left_in_part = p.UnitsPerPart();
#pragma unroll
      for (int i = 0; i < 16; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          total[i / 4][i % 4][j] += acc[i / 4][i % 4][j];
          acc[i / 4][i % 4][j] = 0;
        }
      }
    }
  }

#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int column = first_column + warp_column + i / 4 * 16 + g;
    const int row = first_row + warp_row + i % 4 * 8 + t * 2;
    const float(&sum)[4] = total[i / 4][i % 4];
    p.Emit(row, column, {sum[0], sum[1], sum[2], sum[3]});
  }
}

/// Any number of rows. Blocks: (128 outputs, 128 rows). Cost: columns * rows * k MACs; every block
/// reads (128 + 128) * k elements.
static __global__ void __launch_bounds__(kTileThreads, 1) LinearTileKernel(MmaLinearParams<> p) {
  LaunchDependents();
  MultiplyTile(p, static_cast<int>(blockIdx.x) * kTile, static_cast<int>(blockIdx.y) * kTile);
}

constexpr int kAlignThreads = 256;

/// Copies rows of x so that they can be read 16 bytes at a time: `width` elements apart, the end
/// filled with zeros. Blocks: (row, group), groups side by side.
static __global__ void __launch_bounds__(kAlignThreads)
    AlignRowsKernel(const bf16* x, int64_t x_stride, int64_t group_stride, int k, bf16* out,
                    int width) {
  LaunchDependents();
  WaitForPrerequisites();
  const bf16* row = x + blockIdx.x * x_stride + blockIdx.y * group_stride;
  bf16* out_row = out + (int64_t{blockIdx.x} * gridDim.y + blockIdx.y) * width;
  for (int i = threadIdx.x; i < width; i += kAlignThreads) {
    out_row[i] = i < k ? row[i] : __float2bfloat16(0.0F);
  }
}

/// Sets what of `p` is the same for any rows: the weight [columns, in] and x [x rows, in], or
/// [x rows, groups, in] with `group_stride`. Copies x where its rows cannot be read 16 bytes at a
/// time. False when memory for that is lacking.
template <class Rows>
bool SetOperands(CudaStream& stream, const PackedLinear& weight, const TensorView& x,
                 MmaLinearParams<Rows>* p, int64_t* group_stride = nullptr) {
  constexpr int64_t kAligned = 8;
  p->weight = weight.data.As<bf16>();
  p->units = static_cast<int>(weight.data.strides[0] / kUnit);
  p->x = x.As<bf16>();
  p->x_stride = x.strides[0];
  p->k = static_cast<int>((weight.in + kAligned - 1) / kAligned * kAligned);
  const int64_t groups = group_stride == nullptr ? 1 : x.dim(1);
  const int64_t stride = group_stride == nullptr ? 0 : x.strides[1];
  if (group_stride != nullptr) *group_stride = stride;
  if (RowsArePacks(x)) return true;
  const auto width = static_cast<size_t>(groups * p->k);
  const auto rows = static_cast<size_t>(x.dim(0));
  auto* aligned = static_cast<bf16*>(stream.Scratch(rows * width * sizeof(bf16)));
  if (aligned == nullptr) return false;
  stream.Launch(
      {dim3(static_cast<unsigned>(rows), static_cast<unsigned>(groups)), dim3(kAlignThreads)},
      AlignRowsKernel, p->x, p->x_stride, stride, static_cast<int>(weight.in), aligned, p->k);
  p->x = aligned;
  p->x_stride = static_cast<int64_t>(width);
  if (group_stride != nullptr) *group_stride = p->k;
  return true;
}

}  // namespace gale::cuda
