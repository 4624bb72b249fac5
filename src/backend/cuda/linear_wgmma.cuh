// bf16 weights times few bf16 rows on Hopper: a producer thread brings tiles of both by tensor
// copies, two warp groups multiply them. A tile is 128 outputs by up to 128 rows; where there are
// fewer tiles than blocks that fit, a cluster of blocks shares one along K and adds up in shared
// memory. The order of sums follows from the shape, so this is no batch-invariant kernel.
#pragma once

#include "backend/cuda/element.cuh"
#include "backend/cuda/ptx.cuh"
#include "backend/cuda/wgmma.cuh"

namespace gale::cuda {

constexpr int kWgmmaM = 128;  // outputs of a tile, 64 for each of two warp groups
constexpr int kWgmmaK = 64;   // columns of a stage: 128 bytes, one swizzled row
constexpr int kWgmmaConsumers = 256;
constexpr int kWgmmaThreads = kWgmmaConsumers + kWarp;
constexpr int kMaxCluster = 8;  // that every device can schedule

/// kN: rows of a tile, what the instruction takes.
template <int kN>
struct WgmmaTile {
  static constexpr int kWeightBytes = kWgmmaM * kWgmmaK * 2;
  static constexpr int kXBytes = kN * kWgmmaK * 2;
  static constexpr int kStageBytes = kWeightBytes + kXBytes;
  // Two blocks fit an SM: the next linear layer's fills its stages while this one's finishes.
  static constexpr int kRingBytes = 104 << 10;
  static constexpr int kStages = kRingBytes / kStageBytes;
  static constexpr int kAlignment = 1024;
  static constexpr int kSharedBytes = kStages * kStageBytes + kAlignment;
  static constexpr int kVectors = kN / 8;  // float4 of sums that a thread holds
  static_assert(kVectors * kWgmmaConsumers * sizeof(float4) <= kStages * kStageBytes);
};

struct WgmmaParams {
  int columns = 0;  // outputs
  int rows = 0;
  int k_tiles = 0;    // stages of a tile
  int out_tiles = 0;  // tiles that make up all outputs
  AnyFloats bias = {};
  void* out = nullptr;  // [rows, columns], bf16 or f32
  int64_t out_stride = 0;
  bool out_is_f32 = false;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Where a thread's sums go, as Wgmma leaves them: rows `row` and row + 1 (and every eighth from
/// there), outputs `column` and column + 8.
struct SumsPlace {
  int row;
  int column;
  float bias;
  float bias_8;

  __device__ SumsPlace(const WgmmaParams& p, int tile_row, int tile_column, int thread)
      : row(tile_row + thread % 4 * 2),
        column(tile_column + thread / kWarp * 16 + thread % kWarp / 4),
        bias(Bias(p, column)),
        bias_8(Bias(p, column + 8)) {}

  __device__ void Store(const WgmmaParams& p, int vector, const float4& sums) const {
    const int first = row + 8 * vector;
    StoreOne(p, first, column, sums.x + bias);
    StoreOne(p, first + 1, column, sums.y + bias);
    StoreOne(p, first, column + 8, sums.z + bias_8);
    StoreOne(p, first + 1, column + 8, sums.w + bias_8);
  }

 private:
  __device__ static float Bias(const WgmmaParams& p, int column) {
    return p.bias.data == nullptr || column >= p.columns ? 0.0F : p.bias[column];
  }
  __device__ static void StoreOne(const WgmmaParams& p, int row, int column, float value) {
    if (row >= p.rows || column >= p.columns) return;
    const int64_t at = row * p.out_stride + column;
    if (p.out_is_f32) {
      static_cast<float*>(p.out)[at] = value;
    } else {
      static_cast<bf16*>(p.out)[at] = __float2bfloat16(value);
    }
  }
};

#endif

/// out = x * weight^T + bias. Maps of [.., k] bf16 in boxes of 64 columns by 128 outputs or kN
/// rows, swizzled by 128 bytes. Clusters: a tile each; its blocks take equal stretches of K. Cost:
/// columns * k * 2 bytes of weights, once; x comes from L2, once for each tile.
template <int kN>
__global__ void __launch_bounds__(kWgmmaThreads, 2)
    LinearWgmmaKernel(const __grid_constant__ CUtensorMap weight_map,
                      const __grid_constant__ CUtensorMap x_map,
                      const __grid_constant__ WgmmaParams p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = WgmmaTile<kN>;
  extern __shared__ uint8_t shared_memory[];
  __shared__ uint64_t full[Tile::kStages];
  __shared__ uint64_t empty[Tile::kStages];
  uint8_t* stages = shared_memory + (-SharedAddress(shared_memory) & (Tile::kAlignment - 1));
  LaunchDependents();
  const int blocks = static_cast<int>(ClusterBlocks());
  const int rank = static_cast<int>(ClusterRank());
  const int tile = static_cast<int>(blockIdx.x) / blocks;
  const int row = tile / p.out_tiles * kN;
  const int column = tile % p.out_tiles * kWgmmaM;
  const int first = p.k_tiles * rank / blocks;
  const int count = p.k_tiles * (rank + 1) / blocks - first;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      MbarrierInit(&full[i], 1);
      MbarrierInit(&empty[i], kWgmmaConsumers / kWarp);
    }
    FenceBarrierInit();
  }
  __syncthreads();

  if (threadIdx.x >= kWgmmaConsumers) {
    if (threadIdx.x > kWgmmaConsumers) return;
    const auto copy_weight = [&](int i) {
      const int stage = i % Tile::kStages;
      MbarrierArriveExpect(&full[stage], Tile::kStageBytes);
      CopyBox(stages + stage * Tile::kStageBytes, weight_map, (first + i) * kWgmmaK, column,
              &full[stage]);
    };
    const auto copy_x = [&](int i) {
      const int stage = i % Tile::kStages;
      CopyBox(stages + stage * Tile::kStageBytes + Tile::kWeightBytes, x_map, (first + i) * kWgmmaK,
              row, &full[stage]);
    };
    // Weights do not depend on the kernels before this one.
    const int early = min(count, Tile::kStages);
    for (int i = 0; i < early; ++i) copy_weight(i);
    WaitForPrerequisites();
    for (int i = 0; i < early; ++i) copy_x(i);
    for (int i = early; i < count; ++i) {
      MbarrierWait(&empty[i % Tile::kStages], (i / Tile::kStages - 1) & 1);
      copy_weight(i);
      copy_x(i);
    }
    return;
  }

  const int group = threadIdx.x / 128;
  const bool arrives = threadIdx.x % kWarp == 0;
  float d[kN / 2] = {};
  WaitForPrerequisites();
  for (int i = 0; i < count; ++i) {
    const int stage = i % Tile::kStages;
    const uint8_t* weight = stages + stage * Tile::kStageBytes + group * (Tile::kWeightBytes / 2);
    const uint8_t* x = stages + stage * Tile::kStageBytes + Tile::kWeightBytes;
    MbarrierWait(&full[stage], i / Tile::kStages & 1);
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < kWgmmaK; k += 16) {
      Wgmma<kN>(d, SwizzledMatrix(weight, k), SwizzledMatrix(x, k), 1);
    }
    WgmmaCommit();
    WgmmaWait<1>();
    if (i > 0 && arrives) MbarrierArrive(&empty[(i - 1) % Tile::kStages]);
  }
  WgmmaWait<0>();
  const auto vector = [&](int i) {
    return make_float4(d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]);
  };
  if (blocks == 1) {
    const SumsPlace place(p, row, column, static_cast<int>(threadIdx.x));
#pragma unroll
    for (int i = 0; i < Tile::kVectors; ++i) place.Store(p, i, vector(i));
    return;
  }
  // Each block adds up its share of the vectors, in the order of the blocks.
  NamedBarrierSync(1, kWgmmaConsumers);  // nobody reads the stages any more
  auto* sums = reinterpret_cast<float4*>(stages);
#pragma unroll
  for (int i = 0; i < Tile::kVectors; ++i) sums[i * kWgmmaConsumers + threadIdx.x] = vector(i);
  ClusterSync();
  constexpr int kAll = Tile::kVectors * kWgmmaConsumers;
  const int end = kAll * (rank + 1) / blocks;
  const int begin = kAll * rank / blocks + static_cast<int>(threadIdx.x);
  const SumsPlace place(p, row, column, begin % kWgmmaConsumers);
  for (int i = begin; i < end; i += kWgmmaConsumers) {
    float4 parts[kMaxCluster];
#pragma unroll
    for (int block = 0; block < kMaxCluster; ++block) {
      parts[block] = make_float4(0, 0, 0, 0);
      if (block < blocks) parts[block] = LoadCluster(&sums[i], block);
    }
    float4 total = parts[0];
#pragma unroll
    for (int block = 1; block < kMaxCluster; ++block) {
      total.x += parts[block].x;
      total.y += parts[block].y;
      total.z += parts[block].z;
      total.w += parts[block].w;
    }
    place.Store(p, i / kWgmmaConsumers, total);
  }
  ClusterSync();  // the others may still be reading this block's sums
#endif
}

}  // namespace gale::cuda
