// bf16 weights times many bf16 rows on Hopper. A cluster of two blocks makes a tile of 256 rows by
// 256 outputs, a block 128 of the rows: each brings its own rows and half of the weights, which go
// to both, so that L2 is read half as often. Clusters stay and take tiles in turn.
// The order of sums is that of K, but not the one of other kernels.
#pragma once

#include "backend/cuda/element.cuh"
#include "backend/cuda/ptx.cuh"
#include "backend/cuda/wgmma.cuh"

namespace gale::cuda {

struct TiledLinear {
  static constexpr int kRows = 128;     // of a block
  static constexpr int kOutputs = 256;  // of a cluster
  static constexpr int kCluster = 2;
  static constexpr int kK = 64;  // columns of a stage
  static constexpr int kXBytes = kRows * kK * 2;
  static constexpr int kHalfBytes = kOutputs / kCluster * kK * 2;  // of the weights
  static constexpr int kStageBytes = kXBytes + kCluster * kHalfBytes;
  static constexpr int kStages = 4;
  static constexpr int kAlignment = 1024;
  static constexpr int kSharedBytes = kStages * kStageBytes + kAlignment;
  static constexpr int kConsumers = 256;
  static constexpr int kThreads = kConsumers + 128;
};

struct TiledLinearParams {
  int columns = 0;  // outputs
  int rows = 0;
  int k_tiles = 0;
  int row_tiles = 0;  // of a cluster
  int tiles = 0;
  AnyFloats bias = {};
  void* out = nullptr;  // [rows, columns], bf16 or f32; pairs of outputs are aligned
  int64_t out_stride = 0;
  bool out_is_f32 = false;
};

/// First row and output of a cluster's tile. Eight tiles of rows at a time meet all weights, so
/// that both come from L2 when they come again.
__device__ inline int2 TiledOrigin(const TiledLinearParams& p, int tile) {
  constexpr int kBand = 8;
  const int out_tiles = p.tiles / p.row_tiles;
  const int band = tile / (kBand * out_tiles);
  const int height = min(kBand, p.row_tiles - band * kBand);
  const int inside = tile - band * kBand * out_tiles;
  return {(band * kBand + inside % height) * TiledLinear::kRows * TiledLinear::kCluster,
          inside / height * TiledLinear::kOutputs};
}

/// out = x * weight^T + bias. Maps of [.., k] bf16 in boxes of 64 columns by 128 rows or outputs,
/// swizzled by 128 bytes. Clusters of two blocks.
__global__ void __launch_bounds__(TiledLinear::kThreads, 1)
    LinearTiledWgmmaKernel(const __grid_constant__ CUtensorMap weight_map,
                           const __grid_constant__ CUtensorMap x_map,
                           const __grid_constant__ TiledLinearParams p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = TiledLinear;
  extern __shared__ uint8_t shared_memory[];
  __shared__ uint64_t full[Tile::kStages];
  __shared__ uint64_t empty[Tile::kStages];
  __shared__ __align__(8) float bias[Tile::kOutputs];
  uint8_t* stages = shared_memory + (-SharedAddress(shared_memory) & (Tile::kAlignment - 1));
  LaunchDependents();
  const auto rank = static_cast<int>(ClusterRank());
  const int first_tile = static_cast<int>(blockIdx.x) / Tile::kCluster;
  const int step = static_cast<int>(gridDim.x) / Tile::kCluster;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      MbarrierInit(&full[i], 1);
      MbarrierInit(&empty[i], Tile::kCluster * Tile::kConsumers / kWarp);
    }
    FenceBarrierInit();
  }
  ClusterSync();  // the other block's copies and arrivals come here too

  int stage = 0;
  uint32_t parity = 0;
  const auto advance = [&] {
    if (++stage == Tile::kStages) {
      stage = 0;
      parity ^= 1;
    }
  };
  if (threadIdx.x >= Tile::kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == Tile::kConsumers) {
      WaitForPrerequisites();
      for (int tile = first_tile; tile < p.tiles; tile += step) {
        const int2 origin = TiledOrigin(p, tile);
        for (int k = 0; k < p.k_tiles; ++k) {
          uint8_t* x = stages + stage * Tile::kStageBytes;
          MbarrierWait(&empty[stage], parity ^ 1);
          MbarrierArriveExpect(&full[stage], Tile::kStageBytes);
          CopyBox(x, x_map, k * Tile::kK, origin.x + rank * Tile::kRows, &full[stage]);
          CopyBoxToAll(x + Tile::kXBytes + rank * Tile::kHalfBytes, weight_map, k * Tile::kK,
                       origin.y + rank * (Tile::kOutputs / Tile::kCluster), &full[stage],
                       (1 << Tile::kCluster) - 1);
          advance();
        }
      }
    }
    __syncwarp();
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    WaitForPrerequisites();
    const int group = threadIdx.x / 128;
    const int lane = threadIdx.x % kWarp;
    const auto release = [&](int released) {
      if (lane < Tile::kCluster) MbarrierArriveCluster(&empty[released], lane);
    };
    for (int tile = first_tile; tile < p.tiles; tile += step) {
      float d[Tile::kOutputs / 2];
      int previous = -1;
      for (int k = 0; k < p.k_tiles; ++k) {
        const uint8_t* x = stages + stage * Tile::kStageBytes + group * (Tile::kXBytes / 2);
        const uint8_t* weight = stages + stage * Tile::kStageBytes + Tile::kXBytes;
        MbarrierWait(&full[stage], parity);
        WgmmaFence();
#pragma unroll
        for (int i = 0; i < Tile::kK; i += 16) {
          Wgmma<Tile::kOutputs>(d, SwizzledMatrix(x, i), SwizzledMatrix(weight, i),
                                k > 0 || i > 0 ? 1 : 0);
        }
        WgmmaCommit();
        WgmmaWait<1>();
        if (previous >= 0) release(previous);
        previous = stage;
        advance();
      }
      WgmmaWait<0>();
      release(previous);

      const int2 origin = TiledOrigin(p, tile);
      if (p.bias.data != nullptr) {
        NamedBarrierSync(1, Tile::kConsumers);  // nobody adds the last tile's any more
        const int column = origin.y + static_cast<int>(threadIdx.x);
        bias[threadIdx.x] = column < p.columns ? p.bias[column] : 0.0F;
        NamedBarrierSync(1, Tile::kConsumers);
#pragma unroll
        for (int j = 0; j < Tile::kOutputs / 8; ++j) {
          const float2 add = *reinterpret_cast<const float2*>(&bias[8 * j + lane % 4 * 2]);
          d[4 * j] += add.x;
          d[4 * j + 1] += add.y;
          d[4 * j + 2] += add.x;
          d[4 * j + 3] += add.y;
        }
      }
      const int row = origin.x + rank * Tile::kRows + threadIdx.x / kWarp * 16 + lane / 4;
      const int column = origin.y + lane % 4 * 2;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (row + 8 * half >= p.rows) continue;
        const int64_t at = (row + 8 * half) * p.out_stride + column;
        const int limit = p.columns - column;
        if (p.out_is_f32) {
          auto* out = static_cast<float*>(p.out) + at;
#pragma unroll
          for (int j = 0; j < Tile::kOutputs / 8; ++j) {
            if (8 * j >= limit) continue;
            *reinterpret_cast<float2*>(out + 8 * j) = {d[4 * j + 2 * half],
                                                       d[4 * j + 2 * half + 1]};
          }
        } else {
          auto* out = static_cast<bf16*>(p.out) + at;
#pragma unroll
          for (int j = 0; j < Tile::kOutputs / 8; ++j) {
            if (8 * j >= limit) continue;
            *reinterpret_cast<uint32_t*>(out + 8 * j) =
                PackBf16(d[4 * j + 2 * half], d[4 * j + 2 * half + 1]);
          }
        }
      }
    }
  }
  ClusterSync();  // the other block may still arrive here
#endif
}

}  // namespace gale::cuda
