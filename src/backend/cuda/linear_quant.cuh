// Codes of 4 or 8 bits times bf16 rows on Hopper, from one packed layout for any number of rows. A
// producer thread brings blocks of codes with their scales, and rows; two warp groups turn codes
// into bf16 in registers, which is where the matrix units take the weight from, and multiply. A
// tile is 128 outputs by up to 128 rows; the blocks of a cluster share one along K.
#pragma once

#include "backend/cuda/linear_wgmma.cuh"
#include "backend/cuda/tile.cuh"
#include "tensor/quant_format.h"

namespace gale::cuda {

constexpr int kQuantTile = 128;   // outputs and columns of a block
constexpr int kQuantStages = 16;  // at most
constexpr int kCodeGroups = 4;    // of a block of small groups: 32 columns each

/// 128 outputs by 128 columns as they lie in memory, block after block along the columns: codes as
/// lanes take them, scales [groups][128], zeros u8 [groups][128]. Scales and zeros of outputs 8
/// apart are neighbours, since a lane has both.
struct QuantBlock {
  int code_bytes = 0;
  int groups = 0;       // 1, or kCodeGroups
  int scale_bytes = 0;  // of one: 2 or 4
  bool has_zeros = false;

  __host__ __device__ int ZerosAt() const { return code_bytes + groups * kQuantTile * scale_bytes; }
  __host__ __device__ int Bytes() const {
    return ZerosAt() + (has_zeros ? groups * kQuantTile : 0);
  }
};

struct QuantParams {
  WgmmaParams product;              // k_tiles: blocks along the columns
  const uint8_t* blocks = nullptr;  // [out_tiles][k_tiles] QuantBlock
  QuantBlock block;
  DType scale = DType::kF32;
  bool out_is_packs = false;  // of 16 bytes
  int stages = 0;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ __forceinline__ uint32_t SubtractPair(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("sub.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

__device__ __forceinline__ uint32_t MultiplyPair(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("mul.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

/// bf16 numbers from 128 to 255 have their integer in the low bits, which is how codes become
/// numbers: 0x4300 is 128.
constexpr uint32_t k128 = 0x43004300;

/// (bits & kMask) | kAdd, which the compiler makes two instructions of.
template <uint32_t kMask, uint32_t kAdd>
__device__ __forceinline__ uint32_t MaskAndAdd(uint32_t bits) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(d) : "r"(bits), "n"(kMask), "n"(kAdd));
  return d;
}

/// The matrix unit's fragment of 16 columns from the next words of a lane's codes. `zeros`: pairs
/// to be subtracted from outputs g and g + 8.
template <CodeType kCode>
struct Unpacker;

/// A word is one fragment. Nibble i, in the order of its registers, and nibble i + 4 are a pair.
template <>
struct Unpacker<CodeType::kUInt4> {
  static constexpr int kWords = 1;
  static constexpr uint32_t kZero = 0x43084308;  // 8, and the 128 of the codes

  static __device__ __forceinline__ uint32_t Zero(uint32_t code) { return code * 0x10001 | k128; }
  static __device__ __forceinline__ void Unpack(const uint32_t* words, const uint32_t (&zeros)[2],
                                                uint32_t (&a)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i] = SubtractPair(MaskAndAdd<0x000F000F, k128>(words[0] >> (4 * i)), zeros[i % 2]);
    }
  }
};

/// Two words a fragment. Bytes 0 and 2 are a pair of output g, 1 and 3 of g + 8.
template <>
struct Unpacker<CodeType::kInt8> {
  static constexpr int kWords = 2;
  static constexpr uint32_t kZero = 0;

  /// Codes and zeros of unsigned ones are stored 128 lower.
  static __device__ __forceinline__ uint32_t Zero(uint32_t code) {
    const float zero = static_cast<float>(static_cast<int8_t>(code));
    return PackBf16(zero, zero);
  }
  static __device__ __forceinline__ void Unpack(const uint32_t* words, const uint32_t (&zeros)[2],
                                                uint32_t (&a)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t pair = words[i / 2] >> (8 * (i % 2));
      const uint32_t low_bits = MaskAndAdd<0x007F007F, k128>(pair);
      const uint32_t sign = MaskAndAdd<0x00800080, k128>(pair);  // 128, or 256
      a[i] = SubtractPair(SubtractPair(low_bits, sign), zeros[i % 2]);
    }
  }
};

/// As kInt8. bf16 has the same bits four places further on, and an exponent 120 higher.
template <>
struct Unpacker<CodeType::kF8E4M3> {
  static constexpr int kWords = 2;
  static constexpr uint32_t kZero = 0;

  static __device__ __forceinline__ uint32_t Zero(uint32_t) { return 0; }
  static __device__ __forceinline__ void Unpack(const uint32_t* words, const uint32_t (&)[2],
                                                uint32_t (&a)[4]) {
    constexpr uint32_t kTwoTo120 = 0x7B807B80;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t pair = i % 2 == 0 ? words[i / 2] << 8 : words[i / 2];
      a[i] = MultiplyPair((pair & 0x80008000) | (pair >> 4 & 0x07F007F0), kTwoTo120);
    }
  }
};

/// Scales of a lane's outputs g and g + 8.
__device__ __forceinline__ float2 LoadScales(const uint8_t* scales, DType dtype, int pair) {
  if (dtype == DType::kF32) return reinterpret_cast<const float2*>(scales)[pair];
  const uint32_t both = reinterpret_cast<const uint32_t*>(scales)[pair];
  if (dtype == DType::kF16) return __half22float2(reinterpret_cast<const __half2&>(both));
  return {__uint_as_float(both << 16), __uint_as_float(both & 0xFFFF0000U)};
}

/// What a group's codes of a lane's outputs g and g + 8 mean.
template <class Codes>
struct GroupValues {
  float2 scales;
  uint32_t zeros[2] = {Codes::kZero, Codes::kZero};

  /// `pair`: of outputs.
  __device__ __forceinline__ void Load(const QuantParams& p, const uint8_t* block, int group,
                                       int pair) {
    scales = LoadScales(block + p.block.code_bytes + group * kQuantTile * p.block.scale_bytes,
                        p.scale, pair);
    if (!p.block.has_zeros) return;
    const uint8_t* at = block + p.block.ZerosAt() + group * kQuantTile + pair * 2;
    const uint32_t both = *reinterpret_cast<const uint16_t*>(at);
    zeros[0] = Codes::Zero(both & 0xFF);
    zeros[1] = Codes::Zero(both >> 8);
  }
};

/// Up to 16 rows are multiplied by the older instruction, which a warp issues without waiting.
template <int kN>
constexpr bool kFewRows = kN <= 16;

/// sums (16 outputs of each warp x kN rows) = a (32 columns) * x, added to what was there if
/// `accumulate`. x: rows of 64 columns, swizzled by 128 bytes; from `column` on.
template <int kN>
__device__ __forceinline__ void MultiplyFragments(float (&sums)[kN / 2], const uint32_t (&a)[2][4],
                                                  const uint8_t* x, int column, bool accumulate) {
  if constexpr (kFewRows<kN>) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int i = 0; i < kN / 8; ++i) {
      uint32_t b[4];
      LoadMatrices(b, x + (i * 8 + lane % 8) * 128 + ((column / 8 + lane / 8) ^ lane % 8) * 16);
      float d[4] = {};
#pragma unroll
      for (int j = 0; j < 4 && accumulate; ++j) d[j] = sums[4 * i + j];
      MmaBf16(d, a[0][0], a[0][1], a[0][2], a[0][3], b[0], b[1]);
      MmaBf16(d, a[1][0], a[1][1], a[1][2], a[1][3], b[2], b[3]);
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[4 * i + j] = d[j];
    }
  } else {
    WgmmaFence();
    WgmmaByRows<kN>(sums, a[0], SwizzledMatrix(x, column), accumulate ? 1 : 0);
    WgmmaByRows<kN>(sums, a[1], SwizzledMatrix(x, column + 16), 1);
    WgmmaCommit();
  }
}

/// A warp's part of a stage: total (16 outputs x kN rows) += its codes times the rows.
template <CodeType kCode, int kN, int kGroups>
__device__ __forceinline__ void MultiplyBlock(const QuantParams& p, const uint8_t* block,
                                              const uint8_t* x, float (&total)[kN / 2]) {
  using Codes = Unpacker<kCode>;
  constexpr int kQuarters = kQuantTile / 32;
  constexpr int kQuartersOfGroup = kQuarters / kGroups;
  constexpr int kQuarterWords = 2 * Codes::kWords;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const auto* codes =
      reinterpret_cast<const uint4*>(block) + warp * (kQuarters * kQuarterWords / 4 * kWarp) + lane;
  float sums[kN / 2];
  GroupValues<Codes> group;
  uint32_t words[4];
#pragma unroll
  for (int quarter = 0; quarter < kQuarters; ++quarter) {
    const bool begins = quarter % kQuartersOfGroup == 0;
    const bool ends = (quarter + 1) % kQuartersOfGroup == 0;
    if (begins) group.Load(p, block, quarter / kQuartersOfGroup, warp * 8 + lane / 4);
    const int first_word = quarter * kQuarterWords % 4;
    if (first_word == 0) {
      const uint4 vector = codes[quarter * kQuarterWords / 4 * kWarp];
      words[0] = vector.x, words[1] = vector.y, words[2] = vector.z, words[3] = vector.w;
    }
    uint32_t a[2][4];
    Codes::Unpack(words + first_word, group.zeros, a[0]);
    Codes::Unpack(words + first_word + Codes::kWords, group.zeros, a[1]);
    MultiplyFragments<kN>(sums, a, x + quarter / 2 * (kN * 128), quarter % 2 * 32, !begins);
    if (!kFewRows<kN>) {
      if (ends) {
        WgmmaWait<0>();
        FenceRegisters(sums);
      } else if (kN >= 64) {
        WgmmaWait<1>();  // frees registers
      }
    }
    if (ends) {
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) {
        total[i] = fmaf(i % 4 < 2 ? group.scales.x : group.scales.y, sums[i], total[i]);
      }
    }
  }
}

/// Adds up the totals of the cluster's blocks in their order and stores them: each block gets its
/// share of the tile from all. `sums`: shared, kN * 512 bytes, of which `arrived` expects all.
template <int kN>
__device__ __forceinline__ void AddUpCluster(const WgmmaParams& p, const float (&total)[kN / 2],
                                             int row, int column, float4* sums, uint64_t* arrived) {
  constexpr int kVectors = kN / 8;
  constexpr int kAll = kVectors * kWgmmaConsumers;
  const int rank = static_cast<int>(ClusterRank());
  const int log_blocks = __ffs(static_cast<int>(ClusterBlocks())) - 1;
  const int share = kAll >> log_blocks;
  ClusterWait();  // the others' barriers are there
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = v * kWgmmaConsumers + static_cast<int>(threadIdx.x);
    StoreCluster(&sums[rank * share + i % share], i / share,
                 {total[4 * v], total[4 * v + 1], total[4 * v + 2], total[4 * v + 3]}, arrived);
  }
  MbarrierWait(arrived, 0);
  const int begin = rank * share + static_cast<int>(threadIdx.x);
  const SumsPlace place(p, row, column, begin % kWgmmaConsumers);
  for (int i = static_cast<int>(threadIdx.x); i < share; i += kWgmmaConsumers) {
    float4 sum = sums[i];
    for (int block = 1; block < 1 << log_blocks; ++block) {
      const float4 part = sums[block * share + i];
      sum.x += part.x;
      sum.y += part.y;
      sum.z += part.z;
      sum.w += part.w;
    }
    place.Store(p, (rank * share + i) / kWgmmaConsumers, sum);
  }
}

#endif

/// Two blocks an SM where registers allow: the next linear layer's fills its stages while this
/// one's finishes.
constexpr int QuantBlocksPerSm(int n) { return n <= 64 ? 2 : 1; }

/// out = x * weight^T + bias. Map of x [rows, k] in boxes of 64 columns by kN rows, swizzled by 128
/// bytes. Clusters: a tile each; its blocks take equal stretches of K. Each group of columns is
/// summed in f32 by itself and then scaled. Cost: the packed bytes once for each kN rows; x comes
/// from L2, once for each tile.
template <CodeType kCode, int kN, int kGroups>
__global__ void __launch_bounds__(kWgmmaThreads, QuantBlocksPerSm(kN))
    LinearQuantKernel(const __grid_constant__ CUtensorMap x_map,
                      const __grid_constant__ QuantParams p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kXBytes = kN * kQuantTile * 2;
  constexpr int kAlignment = 1024;
  extern __shared__ uint8_t shared_memory[];
  __shared__ uint64_t full[kQuantStages];
  __shared__ uint64_t empty[kQuantStages];
  __shared__ uint64_t arrived;
  uint8_t* x_ring = shared_memory + (-SharedAddress(shared_memory) & (kAlignment - 1));
  uint8_t* block_ring = x_ring + p.stages * kXBytes;
  auto* sums = reinterpret_cast<float4*>(block_ring + p.stages * p.block.Bytes());
  const int block_bytes = p.block.Bytes();
  LaunchDependents();
  const int blocks = static_cast<int>(ClusterBlocks());
  const int rank = static_cast<int>(ClusterRank());
  const int tile = static_cast<int>(blockIdx.x) / blocks;
  const int row = tile / p.product.out_tiles * kN;
  const int out_tile = tile % p.product.out_tiles;
  const int first = p.product.k_tiles * rank / blocks;
  const int count = p.product.k_tiles * (rank + 1) / blocks - first;
  if (threadIdx.x == 0) {
    for (int i = 0; i < p.stages; ++i) {
      MbarrierInit(&full[i], 1);
      MbarrierInit(&empty[i], kWgmmaConsumers / kWarp);
    }
    MbarrierInit(&arrived, 1);
    FenceBarrierInit();
    if (blocks > 1) MbarrierArriveExpect(&arrived, kN * kQuantTile * sizeof(float));
  }
  __syncthreads();
  if (blocks > 1) ClusterArriveRelaxed();

  if (threadIdx.x >= kWgmmaConsumers) {
    if (threadIdx.x > kWgmmaConsumers) return;
    const uint8_t* weights =
        p.blocks + (int64_t{out_tile} * p.product.k_tiles + first) * block_bytes;
    const auto copy_weight = [&](int i, int stage) {
      MbarrierArriveExpect(&full[stage], block_bytes + kXBytes);
      CopyBytes(block_ring + stage * block_bytes, weights + int64_t{i} * block_bytes, block_bytes,
                &full[stage]);
    };
    const auto copy_x = [&](int i, int stage) {
      uint8_t* x = x_ring + stage * kXBytes;
      const int column = (first + i) * kQuantTile;
      CopyBox(x, x_map, column, row, &full[stage]);
      CopyBox(x + kXBytes / 2, x_map, column + kQuantTile / 2, row, &full[stage]);
    };
    // Weights do not depend on the kernels before this one.
    const int early = min(count, p.stages);
    for (int i = 0; i < early; ++i) copy_weight(i, i);
    WaitForPrerequisites();
    for (int i = 0; i < early; ++i) copy_x(i, i);
    int stage = 0;
    uint32_t parity = 0;
    for (int i = early; i < count; ++i) {
      MbarrierWait(&empty[stage], parity);
      copy_weight(i, stage);
      copy_x(i, stage);
      if (++stage == p.stages) stage = 0, parity ^= 1;
    }
    return;
  }

  float total[kN / 2] = {};
  int stage = 0;
  uint32_t parity = 0;
  WaitForPrerequisites();
  for (int i = 0; i < count; ++i) {
    MbarrierWait(&full[stage], parity);
    MultiplyBlock<kCode, kN, kGroups>(p, block_ring + stage * block_bytes, x_ring + stage * kXBytes,
                                      total);
    if (threadIdx.x % kWarp == 0) MbarrierArrive(&empty[stage]);
    if (++stage == p.stages) stage = 0, parity ^= 1;
  }
  const int column = out_tile * kQuantTile;
  if (blocks > 1) {
    AddUpCluster<kN>(p.product, total, row, column, sums, &arrived);
    return;
  }
  const SumsPlace place(p.product, row, column, static_cast<int>(threadIdx.x));
#pragma unroll
  for (int i = 0; i < kN / 8; ++i) {
    place.Store(p.product, i, {total[4 * i], total[4 * i + 1], total[4 * i + 2], total[4 * i + 3]});
  }
#endif
}

}  // namespace gale::cuda
