// bf16 weights times many bf16 rows on Hopper. A block makes tiles of 128 rows by up to 256
// outputs, one after the other: a producer thread keeps a ring of stages filled by tensor copies,
// two warp groups multiply them, and a tile's outputs go to memory while the next one's products
// run. The order of sums is that of K, but not the one of other kernels.
#pragma once

#include "backend/cuda/element.cuh"
#include "backend/cuda/ptx.cuh"
#include "backend/cuda/wgmma.cuh"

namespace gale::cuda {

/// kGated: half of a tile's outputs are gates, the other half what they gate, and silu(gate) * up
/// is written.
template <int kOutputs_, bool kGated_>
struct TiledLinear {
  static constexpr int kOutputs = kOutputs_;
  static constexpr bool kGated = kGated_;
  static constexpr int kRows = 128;
  static constexpr int kColumns = kGated ? kOutputs / 2 : kOutputs;  // that are written
  static constexpr int kK = 64;                                      // columns of a stage
  static constexpr int kXBytes = kRows * kK * 2;
  static constexpr int kHalfBytes = kOutputs / 2 * kK * 2;  // of the weights: a copy each
  static constexpr int kStageBytes = kXBytes + 2 * kHalfBytes;
  static constexpr int kStages = (200 << 10) / kStageBytes;
  static constexpr int kConsumers = 256;
  static constexpr int kThreads = kConsumers + 128;
  static constexpr int kPatchColumns = 32;  // outputs of 16 rows that a warp lays out at a time
  static constexpr int kPatchBytes = 16 * kPatchColumns * 2;
  static constexpr int kPatches = kColumns / kPatchColumns;
  static constexpr int kMinKTiles = kPatches;  // one patch is written behind each stage
  static constexpr int kAlignment = 1024;
  static constexpr int kSharedBytes =
      kStages * kStageBytes + kConsumers / kWarp * kPatchBytes + kAlignment;
};

struct TiledLinearParams {
  int columns = 0;  // of out
  int gap = 0;      // gated: outputs from a gate to what it gates
  int rows = 0;
  int k_tiles = 0;  // at least kMinKTiles
  int row_tiles = 0;
  int tiles = 0;
  AnyFloats bias = {};  // of all outputs
  void* out = nullptr;  // [rows, columns]: bf16 in whole packs of 16 bytes, or f32 in pairs
  int64_t out_stride = 0;
  bool out_is_f32 = false;  // not gated
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// First row and column of a tile. Sixteen tiles of rows at a time meet all weights, so that both
/// come from L2 when they come again.
template <class Tile>
__device__ __forceinline__ int2 TiledOrigin(const TiledLinearParams& p, int tile) {
  constexpr int kBand = 16;
  const int column_tiles = p.tiles / p.row_tiles;
  const int band = tile / (kBand * column_tiles);
  const int height = min(kBand, p.row_tiles - band * kBand);
  const int inside = tile - band * kBand * column_tiles;
  return {(band * kBand + inside % height) * Tile::kRows, inside / height * Tile::kColumns};
}

/// silu(gate) * up of two bf16 pairs.
__device__ __forceinline__ uint32_t GatedPair(uint32_t gate, uint32_t up) {
  const auto gated = [](float g, float u) { return __fdividef(g, 1.0F + __expf(-g)) * u; };
  return PackBf16(gated(__uint_as_float(gate << 16), __uint_as_float(up << 16)),
                  gated(__uint_as_float(gate & 0xFFFF0000U), __uint_as_float(up & 0xFFFF0000U)));
}

/// A finished tile of one warp, 16 rows of it, on its way to memory.
template <class Tile>
struct FinishedTile {
  uint32_t pairs[Tile::kOutputs / 4];  // as Wgmma leaves them, in bf16
  int row;                             // the thread's first one when it reads a patch back
  int column;

  /// Writes 32 outputs of each row through `patch`, so that memory sees 64 bytes at a time. Its
  /// 16-byte units are exchanged so that neither side meets a bank twice.
  __device__ __forceinline__ void StorePatch(const TiledLinearParams& p, uint8_t* patch, int index,
                                             int lane) const {
    constexpr int kRowBytes = Tile::kPatchColumns * 2;
    const auto unit = [&](int at_row, int i) {
      return patch + at_row * kRowBytes + (i ^ (at_row >> 1 & 3)) * 16;
    };
    uint32_t v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      v[i] = pairs[8 * index + i];
      if constexpr (Tile::kGated) v[i] = GatedPair(v[i], pairs[Tile::kOutputs / 8 + 8 * index + i]);
    }
    StoreMatrices(unit(lane % 16, lane / 16), v[0], v[1], v[2], v[3]);
    StoreMatrices(unit(lane % 16, lane / 16 + 2), v[4], v[5], v[6], v[7]);
    __syncwarp();
    const int from = column + Tile::kPatchColumns * index + lane % 4 * 8;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int to = row + 8 * half;
      const uint4 pack = *reinterpret_cast<const uint4*>(unit(lane / 4 + 8 * half, lane % 4));
      if (to < p.rows && from < p.columns) {
        *reinterpret_cast<uint4*>(static_cast<bf16*>(p.out) + to * p.out_stride + from) = pack;
      }
    }
    __syncwarp();
  }
};

/// Writes a tile's sums as they are.
template <class Tile>
__device__ __forceinline__ void StoreF32(const TiledLinearParams& p,
                                         const float (&d)[Tile::kOutputs / 2], int2 origin) {
  const int lane = threadIdx.x % kWarp;
  const int row = origin.x + threadIdx.x / kWarp * 16 + lane / 4;
  const int column = origin.y + lane % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (row + 8 * half >= p.rows) continue;
    float* out = static_cast<float*>(p.out) + (row + 8 * half) * p.out_stride + column;
#pragma unroll
    for (int j = 0; j < Tile::kOutputs / 8; ++j) {
      if (column + 8 * j >= p.columns) continue;
      *reinterpret_cast<float2*>(out + 8 * j) = {d[4 * j + 2 * half], d[4 * j + 2 * half + 1]};
    }
  }
}

#endif

/// out = x * weight^T + bias, or of that silu(gate) * up. Maps of [.., k] bf16 in boxes of 64
/// columns by 128 rows or half a tile's outputs, swizzled by 128 bytes. Blocks: at most as many as
/// tiles.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    LinearTiledWgmmaKernel(const __grid_constant__ CUtensorMap weight_map,
                           const __grid_constant__ CUtensorMap x_map,
                           const __grid_constant__ TiledLinearParams p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared_memory[];
  __shared__ uint64_t full[Tile::kStages];
  __shared__ uint64_t empty[Tile::kStages];
  __shared__ float bias[Tile::kOutputs];
  uint8_t* stages = shared_memory + (-SharedAddress(shared_memory) & (Tile::kAlignment - 1));
  LaunchDependents();
  const auto first_tile = static_cast<int>(blockIdx.x);
  const auto step = static_cast<int>(gridDim.x);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      MbarrierInit(&full[i], 1);
      MbarrierInit(&empty[i], Tile::kConsumers / kWarp);
    }
    FenceBarrierInit();
  }
  __syncthreads();

  int stage = 0;
  uint32_t parity = 0;
  const auto advance = [&] {
    if (++stage == Tile::kStages) {
      stage = 0;
      parity ^= 1;
    }
  };
  // Where the second half of a tile's weights begins.
  const auto second_half = [&](int column) {
    return column + (Tile::kGated ? p.gap : Tile::kOutputs / 2);
  };
  if (threadIdx.x >= Tile::kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x > Tile::kConsumers) return;
    const auto copy_weights = [&](int to, int k, int column) {
      uint8_t* weights = stages + to * Tile::kStageBytes + Tile::kXBytes;
      MbarrierArriveExpect(&full[to], Tile::kStageBytes);
      CopyBox(weights, weight_map, k * Tile::kK, column, &full[to]);
      CopyBox(weights + Tile::kHalfBytes, weight_map, k * Tile::kK, second_half(column), &full[to]);
    };
    // Weights do not depend on the kernels before this one.
    int early = min(p.k_tiles, Tile::kStages);
    for (int k = 0; k < early; ++k) copy_weights(k, k, TiledOrigin<Tile>(p, first_tile).y);
    WaitForPrerequisites();
    for (int tile = first_tile; tile < p.tiles; tile += step) {
      const int2 origin = TiledOrigin<Tile>(p, tile);
      for (int k = 0; k < p.k_tiles; ++k) {
        if (early > 0) {
          --early;
        } else {
          MbarrierWait(&empty[stage], parity ^ 1);
          copy_weights(stage, k, origin.y);
        }
        CopyBox(stages + stage * Tile::kStageBytes, x_map, k * Tile::kK, origin.x, &full[stage]);
        advance();
      }
    }
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  WaitForPrerequisites();
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  uint8_t* patch = stages + Tile::kStages * Tile::kStageBytes + warp * Tile::kPatchBytes;
  float d[Tile::kOutputs / 2];
  int previous = -1;
  const auto multiply = [&](bool is_first) {
    const uint8_t* x = stages + stage * Tile::kStageBytes + warp / 4 * (Tile::kXBytes / 2);
    const uint8_t* weights = stages + stage * Tile::kStageBytes + Tile::kXBytes;
    MbarrierWait(&full[stage], parity);
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < Tile::kK; i += 16) {
      Wgmma<Tile::kOutputs>(d, SwizzledMatrix(x, i), SwizzledMatrix(weights, i),
                            is_first && i == 0 ? 0 : 1);
    }
    WgmmaCommit();
  };
  const auto release_previous = [&] {
    if (previous >= 0 && lane == 0) MbarrierArrive(&empty[previous]);
    previous = -1;
  };
  const auto go_on = [&] {
    WgmmaWait<1>();
    release_previous();
    previous = stage;
    advance();
  };
  FinishedTile<Tile> finished;
  bool has_finished = false;
  for (int tile = first_tile; tile < p.tiles; tile += step) {
    int k = 0;
    if (has_finished) {
#pragma unroll
      for (int i = 0; i < Tile::kPatches; ++i) {
        multiply(i == 0);
        finished.StorePatch(p, patch, i, lane);
        go_on();
      }
      k = Tile::kPatches;
    }
    for (; k < p.k_tiles; ++k) {
      multiply(k == 0);
      go_on();
    }
    WgmmaWait<0>();
    release_previous();

    const int2 origin = TiledOrigin<Tile>(p, tile);
    if (p.bias.data != nullptr) {
      NamedBarrierSync(1, Tile::kConsumers);  // nobody adds the last tile's any more
      const auto i = static_cast<int>(threadIdx.x);
      if (i < Tile::kOutputs) {
        const bool upper = i >= Tile::kOutputs / 2;
        const int column = upper ? second_half(origin.y) + i - Tile::kOutputs / 2 : origin.y + i;
        bias[i] = column < p.columns + p.gap ? p.bias[column] : 0.0F;
      }
      NamedBarrierSync(1, Tile::kConsumers);
#pragma unroll
      for (int i = 0; i < Tile::kOutputs / 2; ++i) d[i] += bias[i / 4 * 8 + lane % 4 * 2 + i % 2];
    }
    if (!Tile::kGated && p.out_is_f32) {
      StoreF32<Tile>(p, d, origin);
      continue;
    }
#pragma unroll
    for (int i = 0; i < Tile::kOutputs / 4; ++i) {
      finished.pairs[i] = PackBf16(d[2 * i], d[2 * i + 1]);
    }
    finished.row = origin.x + warp * 16 + lane / 4;
    finished.column = origin.y;
    has_finished = true;
  }
  if (!has_finished) return;
#pragma unroll
  for (int i = 0; i < Tile::kPatches; ++i) finished.StorePatch(p, patch, i, lane);
#endif
}

}  // namespace gale::cuda
