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
constexpr int kQuarters = 4;      // of a block's columns, in whose steps it is multiplied

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

/// Blocks that so many inputs or outputs take.
inline int QuantTiles(int64_t n) { return static_cast<int>((n + kQuantTile - 1) / kQuantTile); }

/// Whether PackQuant takes weights of so many inputs.
bool CanPackQuant(const QuantFormat& format, int64_t in);
/// `data`: blocks and, where there is one, the permutation i32 [in]. `format` is kScaled: ggml's
/// blocks become codes beside their scales.
Result<PackedLinear> PackQuant(const LinearWeight& weight);
/// Of a weight that PackQuant made.
QuantBlock BlockOf(const PackedLinear& weight);

/// out[row][i] = x[row][i], or x[row][permutation[i]] unless that is null; zeros from the end of
/// the row to `width`.
void GatherColumns(CudaStream& stream, const TensorView& x, const int32_t* permutation, bf16* out,
                   int64_t width);

/// Whether rows are to be rounded to 8-bit floats, as the weight's codes are, whose outputs have
/// one scale each.
bool RoundsToF8(const PackedLinear& weight);
/// The product by way of a plain copy of the weight and cuBLASLt, which there must be
/// (linear_quant_unpack.cu). Sums in any order.
void RunUnpackedQuant(CudaStream& stream, const QuantParams& p, const int32_t* permutation,
                      const LinearArgs& args);

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

/// Both of a pair times `scale`, rounded.
__device__ __forceinline__ uint32_t ScalePair(uint32_t pair, float scale) {
  return PackBf16(__uint_as_float(pair << 16) * scale, __uint_as_float(pair & 0xFFFF0000U) * scale);
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
  static constexpr uint32_t kImpliedZeros = 0x0808;

  /// Pairs of an output's zero twice, plus the 128 of codes, from the zeros of g and g + 8.
  static __device__ __forceinline__ void Zeros(uint32_t both, uint32_t (&pairs)[2]) {
    pairs[0] = __byte_perm(both, k128, 0x5050);
    pairs[1] = __byte_perm(both, k128, 0x5151);
  }
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
  static constexpr uint32_t kImpliedZeros = 0;

  /// Codes and zeros of unsigned ones are stored 128 lower.
  static __device__ __forceinline__ void Zeros(uint32_t both, uint32_t (&pairs)[2]) {
    for (int i = 0; i < 2; ++i) {
      const auto zero = static_cast<float>(static_cast<int8_t>(both >> (8 * i)));
      pairs[i] = PackBf16(zero, zero);
    }
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
  static constexpr uint32_t kImpliedZeros = 0;

  static __device__ __forceinline__ void Zeros(uint32_t, uint32_t (&)[2]) {}
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

/// A number that is computed once: the compiler cannot know how to do so again.
__device__ __forceinline__ int Keep(int number) {
  asm volatile("" : "+r"(number));
  return number;
}

/// Where in a block a lane's codes begin, and what its outputs g and g + 8 have. Instructions limit
/// few rows, so none of this is left to loops.
struct QuantLane {
  int codes;
  int scales;
  int second_scale;  // bytes from the first one's word: both are in one, or f32
  int zeros;
  int zeros_mask;  // all ones, or none where there are none

  __device__ __forceinline__ QuantLane(const QuantParams& p) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int pair = warp * 8 + lane / 4;
    codes = Keep(warp * (p.block.code_bytes / 8) + lane * 16);
    scales = Keep(p.block.code_bytes + pair * 2 * p.block.scale_bytes);
    second_scale = p.scale == DType::kF32 ? 4 : 0;
    zeros = Keep(p.block.has_zeros ? p.block.ZerosAt() + pair * 2 : 0);
    zeros_mask = Keep(p.block.has_zeros ? 0xFFFF : 0);
  }
};

/// What a group's codes of a lane's outputs g and g + 8 mean.
template <class Codes>
struct GroupValues {
  float2 scales;
  uint32_t zeros[2];

  __device__ __forceinline__ void Load(const QuantParams& p, const QuantLane& lane,
                                       const uint8_t* block, int group) {
    const uint8_t* at = block + lane.scales + group * kQuantTile * p.block.scale_bytes;
    const uint32_t first = *reinterpret_cast<const uint32_t*>(at);
    const uint32_t second = *reinterpret_cast<const uint32_t*>(at + lane.second_scale);
    const uint32_t both =
        *reinterpret_cast<const uint16_t*>(block + lane.zeros + group * kQuantTile);
    const bool is_f32 = p.scale == DType::kF32;
    scales = {__uint_as_float(is_f32 ? first : first << 16),
              __uint_as_float(is_f32 ? second : first & 0xFFFF0000U)};
    if (p.scale == DType::kF16) scales = __half22float2(reinterpret_cast<const __half2&>(first));
    Codes::Zeros((both & lane.zeros_mask) | (Codes::kImpliedZeros & ~lane.zeros_mask), zeros);
  }
};

/// A lane's vectors of codes of quarters `first` to first + kCount - 1 of a block.
template <class Codes, int kCount>
__device__ __forceinline__ void LoadCodes(const QuantLane& lane, const uint8_t* block, int first,
                                          uint32_t (&words)[kCount * 2 * Codes::kWords]) {
  constexpr int kVectors = kCount * Codes::kWords / 2;
  const auto* codes =
      reinterpret_cast<const uint4*>(block + lane.codes) + first * Codes::kWords / 2 * kWarp;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const uint4 vector = codes[i * kWarp];
    words[4 * i] = vector.x;
    words[4 * i + 1] = vector.y;
    words[4 * i + 2] = vector.z;
    words[4 * i + 3] = vector.w;
  }
}

template <int kN>
__device__ __forceinline__ void AddScaled(float2 scales, const float (&sums)[kN / 2],
                                          float (&total)[kN / 2]) {
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) {
    total[i] = fmaf(i % 4 < 2 ? scales.x : scales.y, sums[i], total[i]);
  }
}

/// A warp's part of a stage, few rows: total (16 outputs x kN rows) += its codes times the rows.
/// All that is loaded is asked for first. `x_unit`: where the lane's 16 bytes of the first quarter
/// are in rows that are swizzled by 128 bytes.
template <CodeType kCode, int kN, int kGroups>
__device__ __forceinline__ void MultiplyFewRows(const QuantParams& p, const QuantLane& lane,
                                                const uint8_t* block, const uint8_t* x, int x_unit,
                                                float (&total)[kN / 2]) {
  using Codes = Unpacker<kCode>;
  constexpr int kQuartersOfGroup = kQuarters / kGroups;
  constexpr int kBatch = kN == 8 ? 4 : 2;  // quarters at once
  GroupValues<Codes> group;
  float sums[kN / 8][4];
#pragma unroll
  for (int first = 0; first < kQuarters; first += kBatch) {
    if (first % kQuartersOfGroup == 0) group.Load(p, lane, block, first / kQuartersOfGroup);
    uint32_t words[kBatch * 2 * Codes::kWords];
    LoadCodes<Codes, kBatch>(lane, block, first, words);
    uint32_t b[kBatch][kN / 8][4];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int quarter = first + i;
      const uint8_t* row = x + quarter / 2 * (kN * 128) + (x_unit ^ quarter % 2 * 64);
#pragma unroll
      for (int r = 0; r < kN / 8; ++r) LoadMatrices(b[i][r], row + r * 1024);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int quarter = first + i;
      const bool begins = quarter % kQuartersOfGroup == 0;
      if (begins && i > 0) group.Load(p, lane, block, quarter / kQuartersOfGroup);
      uint32_t a[2][4];
      Codes::Unpack(&words[2 * i * Codes::kWords], group.zeros, a[0]);
      Codes::Unpack(&words[(2 * i + 1) * Codes::kWords], group.zeros, a[1]);
#pragma unroll
      for (int r = 0; r < kN / 8; ++r) {
        if (begins) sums[r][0] = sums[r][1] = sums[r][2] = sums[r][3] = 0;
        MmaBf16(sums[r], a[0][0], a[0][1], a[0][2], a[0][3], b[i][r][0], b[i][r][1]);
        MmaBf16(sums[r], a[1][0], a[1][1], a[1][2], a[1][3], b[i][r][2], b[i][r][3]);
      }
      if ((quarter + 1) % kQuartersOfGroup == 0) {
        AddScaled<kN>(group.scales, reinterpret_cast<const float(&)[kN / 2]>(sums), total);
      }
    }
  }
}

/// The same of more rows by the units that warp groups share.
template <CodeType kCode, int kN, int kGroups>
__device__ __forceinline__ void MultiplyRows(const QuantParams& p, const QuantLane& lane,
                                             const uint8_t* block, const uint8_t* x,
                                             float (&total)[kN / 2]) {
  using Codes = Unpacker<kCode>;
  constexpr int kQuartersOfGroup = kQuarters / kGroups;
  GroupValues<Codes> group;
  float sums[kN / 2];
  uint32_t words[4 * Codes::kWords];
#pragma unroll
  for (int quarter = 0; quarter < kQuarters; ++quarter) {
    const bool begins = quarter % kQuartersOfGroup == 0;
    if (begins) group.Load(p, lane, block, quarter / kQuartersOfGroup);
    if (quarter % 2 == 0) LoadCodes<Codes, 2>(lane, block, quarter, words);
    const uint32_t* own = &words[quarter % 2 * 2 * Codes::kWords];
    uint32_t a[2][4];
    Codes::Unpack(own, group.zeros, a[0]);
    Codes::Unpack(own + Codes::kWords, group.zeros, a[1]);
    const uint8_t* half = x + quarter / 2 * (kN * 128);
    WgmmaFence();
    WgmmaByRows<kN>(sums, a[0], SwizzledMatrix(half, quarter % 2 * 32), begins ? 0 : 1);
    WgmmaByRows<kN>(sums, a[1], SwizzledMatrix(half, quarter % 2 * 32 + 16), 1);
    WgmmaCommit();
    if ((quarter + 1) % kQuartersOfGroup == 0) {
      WgmmaWait<0>();
      FenceRegisters(sums);
      AddScaled<kN>(group.scales, sums, total);
    } else if (kN >= 64) {
      WgmmaWait<1>();  // frees registers
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
    PrefetchMap(x_map);
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

  const QuantLane lane(p);
  const int x_row = static_cast<int>(threadIdx.x) % 8;
  const int x_unit = Keep(x_row * 128 + ((static_cast<int>(threadIdx.x) % kWarp / 8) ^ x_row) * 16);
  float total[kN / 2] = {};
  int stage = 0;
  uint32_t parity = 0;
  WaitForPrerequisites();
  for (int i = 0; i < count; ++i) {
    MbarrierWait(&full[stage], parity);
    const uint8_t* block = block_ring + stage * block_bytes;
    const uint8_t* x = x_ring + stage * kXBytes;
    if constexpr (kN <= 16) {  // by an instruction that each warp issues without waiting
      MultiplyFewRows<kCode, kN, kGroups>(p, lane, block, x, x_unit, total);
    } else {
      MultiplyRows<kCode, kN, kGroups>(p, lane, block, x, total);
    }
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
