// Codes of 4 or 8 bits times many bf16 rows on Hopper: blocks of linear_quant.cuh, but a thread
// block makes tiles of 128 outputs by up to 256 rows one after the other, and weights are rounded
// to bf16 with their scales applied, so that nothing but the matrix units touches the sums.
#pragma once

#include "backend/cuda/linear_quant.cuh"

namespace gale::cuda {

template <CodeType kCode_, int kN_, int kGroups_>
struct TiledQuant {
  static constexpr CodeType kCode = kCode_;
  static constexpr int kN = kN_;
  static constexpr int kGroups = kGroups_;
  static constexpr int kConsumers = kWgmmaConsumers;
  static constexpr int kThreads = kConsumers + 128;
  static constexpr int kXBytes = kN * kQuantTile * 2;
  static constexpr int kPatchBytes = 16 * 16 * 2;  // of a warp: its outputs of 16 rows
  static constexpr int kAlignment = 1024;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Where a warp's outputs of a tile go, 16 rows at a time.
struct TiledOutputs {
  const WgmmaParams& p;
  uint8_t* patch;  // 16 rows of 32 bytes, whose halves are exchanged in every other four of them
  int column;      // the warp's first

  __device__ uint8_t* Place(int row, int half) const {
    return patch + row * 32 + (half ^ (row >> 2 & 1)) * 16;
  }

  /// Sums as Wgmma leaves them of rows `row` to row + 15: v[0..3] of the first eight.
  __device__ __forceinline__ void Store(int row, const float (&v)[8]) const {
    const int lane = threadIdx.x % kWarp;
    // Matrices by outputs, then by rows; each arrives with its rows where outputs were.
    StoreMatricesTransposed(Place(lane / 16 * 8 + lane % 8, lane / 8 % 2), PackBf16(v[0], v[1]),
                            PackBf16(v[2], v[3]), PackBf16(v[4], v[5]), PackBf16(v[6], v[7]));
    __syncwarp();
    const uint4 pack = *reinterpret_cast<const uint4*>(Place(lane / 2, lane % 2));
    const int to = row + lane / 2;
    const int from = column + lane % 2 * 8;
    if (to < p.rows && from < p.columns) {
      *reinterpret_cast<uint4*>(static_cast<bf16*>(p.out) + to * p.out_stride + from) = pack;
    }
    __syncwarp();
  }
};

#endif

/// out = x * weight^T + bias. Map of x [rows, k] in boxes of 64 columns by kN rows, swizzled by 128
/// bytes. out: bf16 in whole packs of 16 bytes, or anything else more slowly. Blocks: at most as
/// many as tiles. Cost: rows * columns * k MACs; every tile reads its packed weights and rows.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    LinearQuantTiledKernel(const __grid_constant__ CUtensorMap x_map,
                           const __grid_constant__ QuantParams p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kN = Tile::kN;
  using Codes = Unpacker<Tile::kCode>;
  extern __shared__ uint8_t shared_memory[];
  __shared__ uint64_t full[kQuantStages];
  __shared__ uint64_t empty[kQuantStages];
  uint8_t* x_ring = shared_memory + (-SharedAddress(shared_memory) & (Tile::kAlignment - 1));
  uint8_t* block_ring = x_ring + p.stages * Tile::kXBytes;
  const int block_bytes = p.block.Bytes();
  const int row_tiles = (p.product.rows + kN - 1) / kN;
  const int tiles = row_tiles * p.product.out_tiles;
  const int k_tiles = p.product.k_tiles;
  LaunchDependents();
  if (threadIdx.x == 0) {
    for (int i = 0; i < p.stages; ++i) {
      MbarrierInit(&full[i], 1);
      MbarrierInit(&empty[i], Tile::kConsumers / kWarp);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  int stage = 0;
  uint32_t parity = 0;
  const auto advance = [&] {
    if (++stage == p.stages) stage = 0, parity ^= 1;
  };

  if (threadIdx.x >= Tile::kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x > Tile::kConsumers) return;
    PrefetchMap(x_map);
    const auto copy_weight = [&](int to, int tile, int k) {
      MbarrierArriveExpect(&full[to], block_bytes + Tile::kXBytes);
      CopyBytes(block_ring + to * block_bytes,
                p.blocks + (int64_t{tile / row_tiles} * k_tiles + k) * block_bytes, block_bytes,
                &full[to]);
    };
    // Weights do not depend on the kernels before this one.
    int early = min(k_tiles, p.stages);
    for (int k = 0; k < early; ++k) copy_weight(k, static_cast<int>(blockIdx.x), k);
    WaitForPrerequisites();
    for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += gridDim.x) {
      const int row = tile % row_tiles * kN;
      for (int k = 0; k < k_tiles; ++k) {
        if (early > 0) {
          --early;
        } else {
          MbarrierWait(&empty[stage], parity ^ 1);
          copy_weight(stage, tile, k);
        }
        uint8_t* x = x_ring + stage * Tile::kXBytes;
        CopyBox(x, x_map, k * kQuantTile, row, &full[stage]);
        CopyBox(x + Tile::kXBytes / 2, x_map, k * kQuantTile + kQuantTile / 2, row, &full[stage]);
        advance();
      }
    }
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  WaitForPrerequisites();
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const QuantLane quant_lane(p);
  float d[kN / 2];
  int previous = -1;
  const auto release_previous = [&] {
    if (previous >= 0 && lane == 0) MbarrierArrive(&empty[previous]);
    previous = -1;
  };
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += gridDim.x) {
    for (int k = 0; k < k_tiles; ++k) {
      const uint8_t* block = block_ring + stage * block_bytes;
      const uint8_t* x = x_ring + stage * Tile::kXBytes;
      MbarrierWait(&full[stage], parity);
      uint32_t words[4 * Codes::kWords];
      GroupValues<Codes> group;
      uint32_t a[2][2][4];
#pragma unroll
      for (int quarter = 0; quarter < kQuarters; ++quarter) {
        if (quarter % (kQuarters / Tile::kGroups) == 0) {
          group.Load(p, quant_lane, block, quarter / (kQuarters / Tile::kGroups));
        }
        if (quarter % 2 == 0) LoadCodes<Codes, 2>(quant_lane, block, quarter, words);
        uint32_t(&fragments)[2][4] = a[quarter % 2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          Codes::Unpack(&words[(quarter % 2 * 2 + i) * Codes::kWords], group.zeros, fragments[i]);
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            fragments[i][j] =
                ScalePair(fragments[i][j], j % 2 == 0 ? group.scales.x : group.scales.y);
          }
        }
        WgmmaFence();
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          WgmmaByRows<kN>(d, fragments[i],
                          SwizzledMatrix(x + quarter / 2 * (kN * 128), quarter % 2 * 32 + 16 * i),
                          k + quarter + i == 0 ? 0 : 1);
        }
        WgmmaCommit();
        WgmmaWait<1>();  // the fragments before these are free
        if (quarter == 0) release_previous();
      }
      previous = stage;
      advance();
    }
    WgmmaWait<0>();
    FenceRegisters(d);
    release_previous();

    const int row = tile % row_tiles * kN;
    const SumsPlace place(p.product, row, tile / row_tiles * kQuantTile,
                          static_cast<int>(threadIdx.x));
    if (p.product.out_is_f32 || !p.out_is_packs) {
#pragma unroll
      for (int i = 0; i < kN / 8; ++i) {
        place.Store(p.product, i, {d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]});
      }
      continue;
    }
    const TiledOutputs outputs = {p.product,
                                  block_ring + p.stages * block_bytes + warp * Tile::kPatchBytes,
                                  tile / row_tiles * kQuantTile + warp * 16};
#pragma unroll
    for (int i = 0; i < kN / 16; ++i) {
      float v[8];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        v[j] = d[8 * i + j] + (j % 4 < 2 ? place.bias : place.bias_8);
      }
      outputs.Store(row + 16 * i, v);
    }
  }
#endif
}

}  // namespace gale::cuda
