// The weights' way through the persistent decoder kernel: which rows an SM owns, the ring that
// producer warps fill, and the products that consumer warps take from it.
#pragma once

#include "backend/cuda/fused_decoder_params.cuh"
#include "backend/cuda/ptx.cuh"

namespace gale::cuda::fused {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

/// This SM's rows of one weight matrix. Groups of 16 rows are one MMA tile: eight rows from `base`
/// and eight from `base + high`; a gate-up matrix pairs gate i with up i, a plain one rows i, i
/// + 8.
struct RowSlice {
  const bf16* base;
  int64_t high;  // elements between a tile's lower and upper eight rows
  int count;     // rows (plain) or pairs (gate-up) that this SM owns
  int step;      // 16 or 8: rows or pairs per tile
  int first;     // global index of the first one
  int k;

  __device__ int groups() const { return (count + step - 1) / step; }
  __device__ int slices() const { return (k + kSliceK - 1) / kSliceK; }
  /// Index of tile row `r` among the owned rows or pairs.
  __device__ int Index(int group, int r) const { return group * step + (step == 16 ? r : (r & 7)); }
};

__device__ inline RowSlice PlainSlice(const bf16* weight, int n, int k) {
  const int first = static_cast<int>(static_cast<int64_t>(n) * blockIdx.x / gridDim.x);
  const int last = static_cast<int>(static_cast<int64_t>(n) * (blockIdx.x + 1) / gridDim.x);
  return {weight + static_cast<int64_t>(first) * k, 8LL * k, last - first, 16, first, k};
}

__device__ inline RowSlice GateUpSlice(const bf16* weight, int intermediate, int k) {
  RowSlice slice = PlainSlice(weight, intermediate, k);
  slice.high = static_cast<int64_t>(intermediate) * k;
  slice.step = 8;
  return slice;
}

/// Position in the ring; producers and consumers walk it in the same order.
struct RingCursor {
  int slot = 0;
  uint32_t parity = 0;  // of the stage's `full` barrier

  __device__ void Advance(int ring_stages) {
    if (++slot == ring_stages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

/// Copies this SM's rows into the ring, stage by stage. Called by all producer warps; warp w brings
/// tile rows 4w..4w+3, 512 bytes an instruction.
__device__ inline void StreamSlice(const RowSlice& slice, const SharedLayout& s, int ring_stages,
                                   RingCursor& cursor) {
  const int warp = (threadIdx.x - kConsumers) >> 5;
  const int lane = threadIdx.x & 31;
  for (int group = 0; group < slice.groups(); ++group) {
    const bf16* tile = slice.base + static_cast<int64_t>(group) * slice.step * slice.k;
    for (int begin = 0; begin < slice.k; begin += kSliceK) {
      const int bytes = min(kSliceK, slice.k - begin) * 2;
      MbarrierWait(&s.empty[cursor.slot], cursor.parity ^ 1);
#pragma unroll 1  // the producers live in 40 registers
      for (int i = 0; i < 4; ++i) {
        const int r = warp * 4 + i;
        if (slice.Index(group, r) >= slice.count) continue;
        const uint8_t* row = reinterpret_cast<const uint8_t*>(
            tile + begin + (r & 7) * static_cast<int64_t>(slice.k) + (r >= 8 ? slice.high : 0));
        uint8_t* dst = s.ring + cursor.slot * kStageBytes + r * kStageRowBytes;
#pragma unroll
        for (int offset = lane * 16; offset < kSliceK * 2; offset += 512) {
          if (offset < bytes) CopyAsync16(dst + offset, row + offset);
        }
      }
      MbarrierArriveWhenCopied(&s.full[cursor.slot]);
      cursor.Advance(ring_stages);
    }
  }
}

/// Where a linear phase finds its input rows: bf16, `row_bytes` apart.
template <bool kGlobal>
struct InputRows {
  const uint8_t* base;
  int64_t row_bytes;

  __device__ uint4 Load(int64_t offset) const {
    const uint4* address = reinterpret_cast<const uint4*>(base + offset);
    return kGlobal ? __ldcg(address) : *address;
  }
};

/// y = x * slice^T, tile by tile; `emit(group, tile row, column, low, high)` gets, for each row of
/// x (column) and tile row r < 8, the sums of tile rows r and r + 8. Warp w multiplies columns 64 w
/// .. 64 w + 63 of every stage; the warps merge once a tile.
template <bool kGlobal, class Emit>
__device__ inline void MultiplySlice(const RowSlice& slice, const InputRows<kGlobal>& x,
                                     const FusedParams& p, const SharedLayout& s,
                                     RingCursor& cursor, const Emit& emit) {
  const int warp = threadIdx.x >> 5;
  const int lane = threadIdx.x & 31;
  const int g = lane >> 2;
  const int t = lane & 3;
  // Lane (g, t) holds columns 8t..8t+7 of every 32: the MMA's own column order, permuted alike in
  // both operands, so that each operand comes in 16-byte loads from plain row-major memory.
  const int lane_k = warp * 64 + t * 8;
  const int64_t x_offset = g * x.row_bytes + lane_k * 2;
  const bool has_x = g < p.rows;
  const int num_slices = slice.slices();

  // x of the slices ahead: from global memory it is an L2 round trip away. Tiles of up to kAhead
  // slices share what is loaded once.
  constexpr int kAhead = 4;
  uint4 b[kAhead][2];
  const auto load_x = [&](int index, uint4(&dst)[2]) {
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      dst[u] = {0, 0, 0, 0};
      if (has_x && index * kSliceK + warp * 64 + u * 32 < slice.k) {
        dst[u] = x.Load(x_offset + index * (kSliceK * 2) + u * 64);
      }
    }
  };
  const bool keeps_x = num_slices <= kAhead;

  for (int group = 0; group < slice.groups(); ++group) {
    float acc[2][4] = {};
    if (group == 0 || !keeps_x) {
#pragma unroll
      for (int j = 0; j < kAhead; ++j) load_x(j, b[j]);
    }
    for (int base = 0; base < num_slices; base += kAhead) {
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        const int index = base + j;
        if (index < num_slices) {
          MbarrierWait(&s.full[cursor.slot], cursor.parity);
          const uint8_t* tile =
              s.ring + cursor.slot * kStageBytes + g * kStageRowBytes + lane_k * 2;
#pragma unroll
          for (int u = 0; u < 2; ++u) {
            if (index * kSliceK + warp * 64 + u * 32 < slice.k) {
              const uint4 low = *reinterpret_cast<const uint4*>(tile + u * 64);
              const uint4 high =
                  *reinterpret_cast<const uint4*>(tile + 8 * kStageRowBytes + u * 64);
              MmaBf16(acc[0], low.x, high.x, low.y, high.y, b[j][u].x, b[j][u].y);
              MmaBf16(acc[1], low.z, high.z, low.w, high.w, b[j][u].z, b[j][u].w);
            }
          }
          __syncwarp();
          if (lane == 0) MbarrierArrive(&s.empty[cursor.slot]);
          cursor.Advance(p.ring_stages);
          if (!keeps_x) load_x(index + kAhead, b[j]);
        }
      }
    }
    float* reduce = s.reduce + (group & 1) * kConsumerWarps * 128;
    reinterpret_cast<float4*>(reduce)[warp * 32 + lane] = {
        acc[0][0] + acc[1][0], acc[0][1] + acc[1][1], acc[0][2] + acc[1][2], acc[0][3] + acc[1][3]};
    NamedBarrierSync(kConsumerBarrier, kConsumers);
    // Two of the warps, in turn, merge a tile: thread = fragment lane (5 bits), column bit. The
    // buffer is written again two tiles later, after a barrier that they reach only when done.
    const int merger = static_cast<int>(threadIdx.x) - (group & 3) * 64;
    if (merger >= 0 && merger < 64) {
      const int fragment = merger >> 1;
      const int column = (fragment & 3) * 2 + (merger & 1);
      if (column < p.rows) {
        float low = 0;
        float high = 0;
#pragma unroll
        for (int w = 0; w < kConsumerWarps; ++w) {
          low += reduce[w * 128 + fragment * 4 + (merger & 1)];
          high += reduce[w * 128 + fragment * 4 + 2 + (merger & 1)];
        }
        emit(group, fragment >> 2, column, low, high);
      }
    }
  }
}

#endif

}  // namespace gale::cuda::fused
