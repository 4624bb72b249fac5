// Products of up to eight rows inside the persistent decoder: their input from all SMs, and the
// weights of the ring times it.
#pragma once

#include "backend/cuda/fused_decoder_batch_params.cuh"
#include "backend/cuda/fused_decoder_linear.cuh"
#include "backend/cuda/fused_decoder_vectors.cuh"

namespace gale::cuda::fused {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// input[r] = columns [begin, begin + columns) of rows of `width`, as soon as they are there: a row
/// by a warp. Ends with a consumer barrier.
__device__ inline void LoadInput(const bf16* source, int width, int begin, int columns,
                                 uint32_t tag, int rows, const BatchLayout& l) {
  constexpr int kUnroll = 8;
  const int lane = threadIdx.x & 31;
  for (int row = threadIdx.x >> 5; row < rows; row += kConsumerWarps) {
    const bf16* from = source + static_cast<int64_t>(row) * width + begin + lane * 8;
    uint8_t* to = l.input + row * l.row_bytes + lane * 16;
    for (int left = columns / 8 - lane; left > 0; left -= kUnroll * 32) {
      uint4 values[kUnroll];
      uint32_t missing = (1U << kUnroll) - 1;
      do {
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          if ((missing >> u & 1) != 0 && u * 32 < left) LoadVectors(from + u * 256, values[u]);
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          if (u * 32 >= left) {
            missing &= ~(1U << u);
          } else if ((missing >> u & 1) != 0 &&
                     (((values[u].x ^ tag) | (values[u].z ^ tag)) & 1) == 0) {
            *reinterpret_cast<uint4*>(to + u * 512) = values[u];
            missing &= ~(1U << u);
          }
        }
      } while (missing != 0);
      from += kUnroll * 256;
      to += kUnroll * 512;
    }
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

/// inverse_rms of all rows from the squares of all blocks' parts. Called by a warp.
__device__ inline void FindInverseRms(const float* squares, uint32_t tag, const FusedParams& p,
                                      float* inverse_rms) {
  constexpr int kAtOnce = 5;
  const int lane = threadIdx.x & 31;
  const int blocks = static_cast<int>(gridDim.x);
  for (int row = 0; row < p.rows; ++row) {
    float sum = 0;
    for (int first = 0; first < blocks; first += kAtOnce * 32) {
      float parts[kAtOnce];
      LoadTagged(parts, tag, [&](int i) {
        return squares + row * blocks + min(first + i * 32 + lane, blocks - 1);
      });
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) sum += first + i * 32 + lane < blocks ? parts[i] : 0.0F;
    }
    sum = WarpSum(sum);
    if (lane == 0) {
      inverse_rms[row] = rsqrtf(sum * __frcp_rn(static_cast<float>(p.hidden)) + p.norm_eps);
    }
  }
}

/// y = input * slice^T as MultiplySlice, for up to eight rows: `emit(group, tile row, row of the
/// input, low, high)`.
///
/// Lane (g, t) holds columns 16t .. 16t + 15 of a box in weight rows g and g + 8 and in rows g and
/// g + 8 of the input: the MMA's own column order, permuted alike in both operands.
template <class Emit>
__device__ inline void MultiplyBatch(const RowSlice& slice, int first_column, const FusedParams& p,
                                     const BatchLayout& l, RingCursor& cursor, int& meetings,
                                     const HeldStages& held, const Emit& emit) {
  constexpr int kColumns = kFusedMaxRows;  // of sums
  static_assert(kFusedMaxRows == 8, "the columns of operand B");
  const SharedLayout& s = l.shared;
  const int warp = threadIdx.x >> 5;
  const int lane = threadIdx.x & 31;
  const int g = lane >> 2;
  const int lane_column = warp * kBoxColumns + (lane & 3) * 16;
  const uint8_t* lane_input = l.input + g * l.row_bytes + (first_column + lane_column) * 2;
  const int groups = slice.groups();
  const int slices = slice.slices();
  const int rows = p.rows;

  float acc[2][4] = {};  // of each half of a stage: shorter chains of products
  int tile = 0;
  int part = 0;
  int first = 0;
  const auto sums_of = [&](int meeting) {
    return l.sums + (meeting & 1) * kBatchSumTiles * kConsumerWarps * 16 * kColumns;
  };
  const auto multiply = [&](const StageWeights& weights) {
    const int begin = part * kSliceK;
    if (begin + warp * kBoxColumns >= slice.k) return;
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      const uint4& low = weights.low[u];
      const uint4& high = weights.high[u];
      uint4 x = {};
      if (g < rows && begin + lane_column + u * 8 < slice.k) {
        x = *reinterpret_cast<const uint4*>(lane_input + begin * 2 + u * 16);
      }
      MmaBf16(acc[u], low.x, high.x, low.y, high.y, x.x, x.y);
      MmaBf16(acc[u], low.z, high.z, low.w, high.w, x.z, x.w);
    }
  };
  const auto meet = [&] {
    const float* sums = sums_of(meetings);
    NamedBarrierSync(kConsumerBarrier, kConsumers);
    for (int index = threadIdx.x; index < (tile - first) * rows * 8; index += kConsumers) {
      const int rest = index >> 3;
      const int of_tile = rest / rows;
      const int column = rest - of_tile * rows;
      const float* parts = sums + (of_tile * kConsumerWarps * 16 + (index & 7)) * kColumns + column;
      float low = 0;
      float high = 0;
#pragma unroll
      for (int w = 0; w < kConsumerWarps; ++w) {
        low += parts[w * 16 * kColumns];
        high += parts[w * 16 * kColumns + 8 * kColumns];
      }
      emit(first + of_tile, index & 7, column, low, high);
    }
    ++meetings;
    first = tile;
  };
  const auto finish_tile = [&] {
    float* place = sums_of(meetings) + ((tile - first) * kConsumerWarps + warp) * 16 * kColumns;
    float* low = place + g * kColumns + (lane & 3) * 2;
    float* high = low + 8 * kColumns;
    *reinterpret_cast<float2*>(low) = {acc[0][0] + acc[1][0], acc[0][1] + acc[1][1]};
    *reinterpret_cast<float2*>(high) = {acc[0][2] + acc[1][2], acc[0][3] + acc[1][3]};
#pragma unroll
    for (int i = 0; i < 4; ++i) acc[0][i] = acc[1][i] = 0;
    part = 0;
    ++tile;
    if (tile == groups || tile - first == kBatchSumTiles) meet();
  };

#pragma unroll
  for (int i = 0; i < HeldStages::kMost; ++i) {
    if (i >= held.count) continue;
    multiply(held.stages[i]);
    if (++part == slices) finish_tile();
  }
  while (tile < groups) {
    const StageReader reader(slice, tile, s);
#pragma unroll 1
    for (; part < slices; ++part) {
      StageWeights weights;
      MbarrierWait(&s.full[cursor.slot], cursor.parity);
      reader.Read(cursor.slot, weights);
      multiply(weights);
      ReleaseStage(s, p.ring_stages, cursor);
    }
    finish_tile();
  }
}

#endif

}  // namespace gale::cuda::fused
