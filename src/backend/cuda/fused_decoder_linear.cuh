// The weights' way through the persistent decoder kernel: which rows an SM owns, the ring that
// producer warps fill, and the products that consumer warps take from it.
#pragma once

#include "backend/cuda/fused_decoder_tagged.cuh"
#include "backend/cuda/ptx.cuh"

namespace gale::cuda::fused {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

/// This SM's rows of one weight matrix, or some columns of them. Groups of 16 rows are one MMA
/// tile: eight rows from `base` and eight from `base + high`; a gate-up matrix pairs gate i with up
/// i, a plain one rows i, i + 8.
struct RowSlice {
  const bf16* base;
  int64_t high;  // elements between a tile's lower and upper eight rows
  int count;     // rows (plain) or pairs (gate-up) that this SM owns
  int step;      // 16 or 8: rows or pairs per tile
  int first;     // global index of the first one
  int stride;    // elements of a row of the matrix
  int k;         // columns

  __device__ int groups() const { return (count + step - 1) / step; }
  /// Index of tile row `r` among the owned rows or pairs.
  __device__ int Index(int group, int r) const { return group * step + (step == 16 ? r : (r & 7)); }
  __device__ RowSlice Columns(int begin, int end) const {
    RowSlice columns = *this;
    columns.base += begin;
    columns.k = end - begin;
    return columns;
  }
};

/// The part of `n` rows that is this SM's. Found once a step: divisions take long.
struct OwnedRows {
  int first;
  int count;

  __device__ explicit OwnedRows(int n)
      : first(static_cast<int>(static_cast<uint32_t>(n) * blockIdx.x / gridDim.x)),
        count(static_cast<int>(static_cast<uint32_t>(n) * (blockIdx.x + 1) / gridDim.x) - first) {}

  __device__ RowSlice Plain(const bf16* weight, int k) const {
    return {weight + static_cast<int64_t>(first) * k, 8LL * k, count, 16, first, k, k};
  }
  /// Of a matrix [2 * intermediate, k], whose gates these rows are.
  __device__ RowSlice GateUp(const bf16* weight, int intermediate, int k) const {
    return {weight + static_cast<int64_t>(first) * k,
            static_cast<int64_t>(intermediate) * k,
            count,
            8,
            first,
            k,
            k};
  }
};

/// This SM's parts of all that a step makes.
struct OwnedParts {
  __device__ OwnedParts(const FusedParams& p, int head_dim)
      : q_width(p.q_heads * head_dim),
        qkv_width(q_width + 2 * p.kv_heads * head_dim),
        qkv(qkv_width),
        hidden(p.hidden),
        mlp(p.intermediate),
        vocab(p.vocab) {}
  int q_width;
  int qkv_width;
  OwnedRows qkv;
  OwnedRows hidden;
  OwnedRows mlp;
  OwnedRows vocab;
};

/// Position in the ring; producers and consumers walk it in the same order.
struct RingCursor {
  int slot = 0;
  uint32_t parity = 0;  // of the stage's `full` barrier
  uint32_t tiles = 0;   // multiplied so far; the parity says which half of `reduce` is next

  __device__ void Advance(int ring_stages) {
    if (++slot == ring_stages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

/// Brings a layer's small vectors (past the last: the final norm) into L2 before the consumers ask
/// for them; a line per block. Called by the producers.
__device__ inline void PrefetchVectors(const FusedParams& p, const OwnedParts& owned, int layer) {
  const auto prefetch = [&](int thread, const bf16* vector, int elements) {
    const int line = static_cast<int>(blockIdx.x) * 64;
    if (threadIdx.x == kConsumers + thread && vector != nullptr && line < elements) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(vector + line));
    }
  };
  if (layer == p.num_layers) {
    prefetch(0, p.final_norm, p.hidden);
    return;
  }
  prefetch(0, p.layers[layer].input_norm, p.hidden);
  prefetch(1, p.layers[layer].mlp_norm, p.hidden);
  prefetch(2, p.layers[layer].qkv_bias, owned.qkv_width);
}

/// Enough to keep the memory busy. More would not come sooner, only keep whatever the consumers ask
/// for waiting behind it.
constexpr int kStagesInFlight = 3;

/// Copies this SM's rows into the ring, stage by stage. Called by all producer warps; warp w brings
/// tile rows 4w..4w+3, 512 bytes an instruction.
__device__ inline void StreamSlice(const RowSlice& slice, const SharedLayout& s, int ring_stages,
                                   RingCursor& cursor) {
  const int warp = (threadIdx.x - kConsumers) >> 5;
  const int lane = threadIdx.x & 31;
  for (int group = 0; group < slice.groups(); ++group) {
    const bf16* tile = slice.base + static_cast<int64_t>(group) * slice.step * slice.stride;
    for (int begin = 0; begin < slice.k; begin += kSliceK) {
      const int bytes = min(kSliceK, slice.k - begin) * 2;
      MbarrierWait(&s.empty[cursor.slot], cursor.parity ^ 1);
#pragma unroll 1  // the producers live in 40 registers
      for (int i = 0; i < 4; ++i) {
        const int r = warp * 4 + i;
        if (slice.Index(group, r) >= slice.count) continue;
        const uint8_t* row = reinterpret_cast<const uint8_t*>(
            tile + begin + (r & 7) * static_cast<int64_t>(slice.stride) +
            (r >= 8 ? slice.high : 0));
        uint8_t* dst = s.ring + cursor.slot * kStageBytes + r * kStageRowBytes;
#pragma unroll
        for (int offset = lane * 16; offset < kSliceK * 2; offset += 512) {
          if (offset < bytes) CopyAsync16(dst + offset, row + offset);
        }
      }
      MbarrierArriveWhenCopied(&s.full[cursor.slot]);
      AwaitCopiesBut<kStagesInFlight - 1>();
      cursor.Advance(ring_stages);
    }
  }
}

/// y = input * slice^T, tile by tile, from the input's column `first_column` on; `emit(group, tile
/// row, column, low, high)` gets, for each row of the input (column) and tile row r < 8, the sums
/// of tile rows r and r + 8. Warp w multiplies columns 64 w .. 64 w + 63 of every stage; the warps
/// merge once a tile.
///
/// Lane (g, t) holds columns 8t..8t+7 of every 32, pairs p0 p1 p2 p3, of weight row g: as they
/// come, they are the MMA's operand A with p0, p2 in its row g and p1, p3 in its row g + 8. Column
/// 2r of operand B is row r of the input at pairs p0, p2, column 2r + 1 at p1, p3: so the product
/// of weight row g and input row r is D[g][2r] + D[g + 8][2r + 1], both of which lane (g, r) has,
/// and no register has to move between memory and the instruction.
template <class Emit>
__device__ inline void MultiplySlice(const RowSlice& slice, int first_column, int row_bytes,
                                     const FusedParams& p, const SharedLayout& s,
                                     RingCursor& cursor, const Emit& emit) {
  const int warp = threadIdx.x >> 5;
  const int lane = threadIdx.x & 31;
  const int g = lane >> 2;
  const int warp_column = warp * 64;
  const int lane_byte = (warp_column + (lane & 3) * 8) * 2;
  const uint8_t* lane_tile = s.ring + g * kStageRowBytes + lane_byte;
  const uint8_t* lane_input =
      s.input + (g >> 1) * row_bytes + first_column * 2 + lane_byte + (g & 1) * 8;
  static_assert(kFusedMaxRows == 4, "operand B has eight columns, two for each row");
  const bool has_input = (g >> 1) < p.rows;

  for (int group = 0; group < slice.groups(); ++group) {
    float low_sums[4] = {};
    float high_sums[4] = {};
#pragma unroll 1
    for (int begin = 0; begin < slice.k; begin += kSliceK) {
      const int halves = min(2, (slice.k - begin - warp_column) / 32);
      uint2 x[2] = {};
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        if (has_input && u < halves) {
          x[u] = *reinterpret_cast<const uint2*>(lane_input + begin * 2 + u * 64);
        }
      }
      MbarrierWait(&s.full[cursor.slot], cursor.parity);
      const uint8_t* tile = lane_tile + cursor.slot * kStageBytes;
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        if (u < halves) {
          const uint4 low = *reinterpret_cast<const uint4*>(tile + u * 64);
          const uint4 high = *reinterpret_cast<const uint4*>(tile + 8 * kStageRowBytes + u * 64);
          MmaBf16(low_sums, low.x, low.y, low.z, low.w, x[u].x, x[u].y);
          MmaBf16(high_sums, high.x, high.y, high.z, high.w, x[u].x, x[u].y);
        }
      }
      __syncwarp();
      if (lane == 0) MbarrierArrive(&s.empty[cursor.slot]);
      cursor.Advance(p.ring_stages);
    }
    float2* reduce =
        reinterpret_cast<float2*>(s.reduce + (cursor.tiles++ & 1) * kConsumerWarps * 64);
    reduce[warp * 32 + lane] = {low_sums[0] + low_sums[3], high_sums[0] + high_sums[3]};
    NamedBarrierSync(kConsumerBarrier, kConsumers);
    // One of the warps, in turn, merges a tile. The buffer is written again two tiles later, after
    // a barrier that it reaches only when done.
    const int merger = static_cast<int>(threadIdx.x) - group % kConsumerWarps * 32;
    if (merger >= 0 && merger < 32) {
      const int column = merger & 3;
      if (column < p.rows) {
        float low = 0;
        float high = 0;
#pragma unroll
        for (int w = 0; w < kConsumerWarps; ++w) {
          const float2 part = reduce[w * 32 + merger];
          low += part.x;
          high += part.y;
        }
        emit(group, merger >> 2, column, low, high);
      }
    }
  }
}

#endif

}  // namespace gale::cuda::fused
