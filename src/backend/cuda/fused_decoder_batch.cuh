// The persistent decoder for steps of several rows. Weights stream as for one row
// (fused_decoder_linear.cuh); what SMs make for one another is tagged in vectors of
// bf16 (fused_decoder_vectors.cuh).
//
// Phases of a layer: QKV; attention, by warps; output projection; gate-up; down. Whoever makes a
// part of the residual stream also multiplies it by the weights of the norm that comes next and
// adds up its squares, so that its readers have a product's input as it is; the division by the
// row's RMS follows where products are summed.
#pragma once

#include "backend/cuda/fused_decoder_batch_attention.cuh"
#include "backend/cuda/fused_decoder_batch_linear.cuh"

namespace gale::cuda {

/// residual[r] = embedding[ids[r]] (~slot: of last_tokens[slot]), the first norm's input and its
/// squares, with the tag of a layer before the first, and the same tag for all that layers will
/// write: what the step before left there would pass for this step's.
static __global__ void __launch_bounds__(1024)
    BeginBatchKernel(BatchParams b, const bf16* embedding, const int32_t* ids,
                     const int32_t* last_tokens, uint4* stale, int64_t stale_vectors) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ float sums[32];
  LaunchDependents();
  WaitForPrerequisites();
  const FusedParams& p = b.model;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < stale_vectors;
       i += step) {
    stale[i] = {1, 1, 1, 1};
  }
  const int row = static_cast<int>(blockIdx.x);
  if (row >= p.rows) return;
  const int32_t given = ids[row];
  const bf16* source = embedding + int64_t{given < 0 ? last_tokens[~given] : given} * p.hidden;
  float sum = 0;
  for (int i = threadIdx.x * 4; i < p.hidden; i += blockDim.x * 4) {
    float normed[4];
    for (int j = 0; j < 4; ++j) {
      const float x = __bfloat162float(source[i + j]);
      b.residual[int64_t{row} * p.hidden + i + j] = x;
      normed[j] = x * __bfloat162float(p.layers[0].input_norm[i + j]);
      sum += x * x;
    }
    fused::StoreVector(b.qkv_input + int64_t{row} * p.hidden + i, fused::PackTagged4(normed, 1));
  }
  sum = fused::WarpSum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) sum = fused::WarpSum(threadIdx.x < blockDim.x / 32 ? sums[threadIdx.x] : 0);
  for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) {
    fused::StoreTagged(b.qkv_squares + row * gridDim.x + i, i == 0 ? sum : 0.0F, 1);
  }
#endif
}

/// Up to eight rows.
template <int kHeadDim>
__global__ void __launch_bounds__(fused::kThreads, 1)
    FusedBatchKernel(const __grid_constant__ BatchParams b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace fused;
  extern __shared__ __align__(1024) uint8_t shared_memory[];
  const FusedParams& p = b.model;
  BatchLayout l;
  MakeBatchLayout(shared_memory, b, kHeadDim, static_cast<int>(gridDim.x), &l);
  const SharedLayout& s = l.shared;
  const OwnedParts parts(p, kHeadDim, kVector);
  if (threadIdx.x == 0) {
    *s.is_waiting = 0;
    MbarrierInit(l.asked, 1);
    MbarrierInit(l.found, 1);
    for (int i = 0; i < p.ring_stages; ++i) {
      MbarrierInit(&s.full[i], 1);
      MbarrierInit(&s.empty[i], kConsumerWarps);
    }
    FenceBarrierInit();
  }
  for (int i = threadIdx.x; i < p.num_layers; i += kThreads) s.layers[i] = p.layers[i];
  __syncthreads();
  LaunchDependents();

  if (threadIdx.x >= kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
    if (threadIdx.x >= kConsumers + 64) return;
    if (threadIdx.x >= kConsumers + 32) {
      WaitForPrerequisites();
      for (int i = 0; i <= 2 * p.num_layers; ++i) {
        const bool is_mlp = i % 2 == 1;
        const uint32_t tag = is_mlp ? i / 2 & 1 : (i / 2 & 1) ^ 1;
        MbarrierWait(l.asked, i & 1);
        FindInverseRms(is_mlp ? b.mlp_squares : b.qkv_squares, tag, p,
                       l.inverse_rms + (is_mlp ? kFusedMaxRows : 0));
        __syncwarp();
        if ((threadIdx.x & 31) == 0) MbarrierArrive(l.found);
      }
      return;
    }
    RingCursor cursor;
    int streamed = 0;
    const auto stream = [&](const RowSlice& slice) {
      StreamSlice(slice, s, p.ring_stages, cursor, streamed);
    };
    PrefetchLayer(p, s, parts, 0);
    const CUtensorMap* maps = p.maps;
    for (int i = 0; i < p.num_layers; ++i) {
      PrefetchLayer(p, s, parts, i + 1);
      stream(parts.Qkv(maps));
      stream(parts.Out(maps + kFusedMaps));
      stream(parts.GateUp(maps + 2 * kFusedMaps));
      const RowSlice down = parts.Down(maps + 3 * kFusedMaps);
      for (int begin = 0; begin < p.intermediate; begin += l.columns) {
        stream(down.Columns(begin, min(begin + l.columns, p.intermediate)));
      }
      maps += kFusedMatrices * kFusedMaps;
    }
    stream(parts.Head(maps));
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
  const int warp = threadIdx.x >> 5;
  const int lane = threadIdx.x & 31;
  RingCursor cursor;
  int meetings = 0;
  HeldStages held;
  WaitForPrerequisites();
  const int owned = BatchOwnedHidden(p, static_cast<int>(gridDim.x));
  for (int row = 0; row < p.rows; ++row) {
    for (int i = threadIdx.x; i < parts.hidden.count; i += kConsumers) {
      s.residual[row * owned + i] =
          b.residual[static_cast<int64_t>(row) * p.hidden + parts.hidden.first + i];
    }
  }
  for (int i = threadIdx.x; i < p.rows * 64; i += kConsumers) l.rope[i] = Turn(p, i / 64, i % 64);
  if (threadIdx.x < p.rows) {
    s.cached[threadIdx.x] = p.positions[p.row_first[threadIdx.x]];
    s.slots[threadIdx.x] = p.slot_mapping[threadIdx.x];
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);

  // Consecutive items go to different blocks.
  const int blocks = static_cast<int>(gridDim.x);
  const int first_index = static_cast<int>(blockIdx.x) + warp * blocks;
  HeadAttention<kHeadDim> attention(b, l, l.items[warp]);
  attention.Find(first_index);
  HeadAttention<kHeadDim> more(b, l, l.items[kConsumerWarps + warp]);

  // What comes before a product: the ring's first stages of it, then the wait for its input.
  const auto receive = [&](const RowSlice& slice, const bf16* source, int width, int columns,
                           uint32_t tag, bool is_normed) {
    if (threadIdx.x == 0) *s.is_waiting = 1;
    held.Take(slice, s, p.ring_stages, cursor);
    if (is_normed && threadIdx.x == 0) MbarrierArrive(l.asked);
    LoadInput(source, width, 0, columns, tag, p.rows, l);
    if (threadIdx.x == 0) *s.is_waiting = 0;
  };
  uint32_t asked = 0;  // products of normed input that are done
  const auto inverse_rms = [&](int row) {
    MbarrierWait(l.found, asked & 1);
    return l.inverse_rms[(asked & 1) * kFusedMaxRows + row];
  };
  const auto multiply = [&](const RowSlice& slice, const auto& emit) {
    MultiplyBatch(slice, 0, p, l, cursor, meetings, held, emit);
  };
  // With the weights of the norm that comes next, which are asked for before they are wanted.
  const auto load_norm = [&](const bf16* norm) {
    const bool has = static_cast<int>(threadIdx.x) < parts.hidden.count;
    return has ? norm[parts.hidden.first + threadIdx.x] : __float2bfloat16(0.0F);
  };
  const auto keep_norm = [&](bf16 norm) {
    if (static_cast<int>(threadIdx.x) < owned) l.norm[threadIdx.x] = __bfloat162float(norm);
  };
  const auto add_to_residual = [&](bf16* published, uint32_t tag, bool is_last) {
    return [&, published, tag, is_last](int group, int row, int column, float low, float high) {
      const int i = group * 16 + row;
      float* own = s.residual + column * owned + i;
      bf16* out = published + static_cast<int64_t>(column) * p.hidden + parts.hidden.first + i;
      if (i < parts.hidden.count) {
        own[0] += low;
        if (is_last) StoreTaggedLanes(&out[0], own[0] * l.norm[i], tag);
      }
      if (i + 8 < parts.hidden.count) {
        own[8] += high;
        if (is_last) StoreTaggedLanes(&out[8], own[8] * l.norm[i + 8], tag);
      }
    };
  };
  // After the residual stream has grown.
  const auto sum_squares = [&](float* squares, uint32_t tag) {
    NamedBarrierSync(kConsumerBarrier, kConsumers);
    for (int row = warp; row < p.rows; row += kConsumerWarps) {
      float sum = 0;
      for (int i = lane; i < parts.hidden.count; i += 32) {
        const float x = s.residual[row * owned + i];
        sum += x * x;
      }
      sum = WarpSum(sum);
      if (lane == 0) StoreTagged(squares + row * gridDim.x + blockIdx.x, sum, tag);
    }
  };

  for (int i = 0; i < p.num_layers; ++i) {
    const FusedLayer layer = s.layers[i];
    const uint32_t tag = i & 1;
    {
      const RowSlice slice = parts.Qkv();
      const bool has_bias =
          layer.qkv_bias != nullptr && static_cast<int>(threadIdx.x) < slice.count;
      const bf16 bias =
          has_bias ? layer.qkv_bias[slice.first + threadIdx.x] : __float2bfloat16(0.0F);
      receive(slice, b.qkv_input, p.hidden, p.hidden, tag ^ 1, true);
      if (static_cast<int>(threadIdx.x) < slice.count) s.bias[threadIdx.x] = __bfloat162float(bias);
      multiply(slice, [&](int group, int row, int column, float low, float high) {
        float* out = b.qkv + static_cast<int64_t>(column) * parts.qkv_width + slice.first;
        const float scale = inverse_rms(column);
        const int at = group * 16 + row;
        if (at < slice.count) StoreTagged(&out[at], low * scale + s.bias[at], tag);
        if (at + 8 < slice.count) StoreTagged(&out[at + 8], high * scale + s.bias[at + 8], tag);
      });
      ++asked;
    }
    {
      if (threadIdx.x == 0) *s.is_waiting = 1;
      typename HeadAttention<kHeadDim>::Cached cached;
      if (attention.exists()) {
        attention.Load(i, 0, cached);
        attention.Run(layer, i, cached);
        for (int index = first_index + blocks * kConsumerWarps;; index += blocks * kConsumerWarps) {
          more.Find(index);
          if (!more.exists()) break;
          more.Load(i, 0, cached);
          more.Run(layer, i, cached);
        }
      }
      const RowSlice slice = parts.Out();
      const bf16 norm = load_norm(layer.mlp_norm);
      receive(slice, b.attended, parts.q_width, parts.q_width, tag, false);
      keep_norm(norm);
      multiply(slice, add_to_residual(b.mlp_input, tag, true));
      sum_squares(b.mlp_squares, tag);
    }
    {
      const RowSlice slice = parts.GateUp();
      receive(slice, b.mlp_input, p.hidden, p.hidden, tag, true);
      multiply(slice, [&](int group, int row, int column, float gate, float up) {
        const int at = group * 8 + row;
        if (at >= slice.count) return;
        const float scale = inverse_rms(column);
        gate *= scale;
        StoreTaggedLanes(
            b.activations + static_cast<int64_t>(column) * p.intermediate + slice.first + at,
            gate / (1.0F + __expf(-gate)) * up * scale, tag);
      });
      ++asked;
    }
    const RowSlice down = parts.Down();
    const bf16 norm = load_norm(i + 1 < p.num_layers ? s.layers[i + 1].input_norm : p.final_norm);
    for (int begin = 0; begin < p.intermediate; begin += l.columns) {
      const int end = min(begin + l.columns, p.intermediate);
      const RowSlice columns = down.Columns(begin, end);
      if (begin == 0) {
        receive(columns, b.activations, p.intermediate, end, tag, false);
        keep_norm(norm);
      } else {
        held.count = 0;
        if (threadIdx.x == 0) *s.is_waiting = 1;
        LoadInput(b.activations, p.intermediate, begin, end - begin, tag, p.rows, l);
        if (threadIdx.x == 0) *s.is_waiting = 0;
      }
      multiply(columns, add_to_residual(b.qkv_input, tag, end == p.intermediate));
    }
    sum_squares(b.qkv_squares, tag);
  }
  const RowSlice slice = parts.Head();
  receive(slice, b.qkv_input, p.hidden, p.hidden, (p.num_layers - 1) & 1, true);
  multiply(slice, [&](int group, int row, int column, float low, float high) {
    float* out = p.logits + static_cast<int64_t>(column) * p.vocab + slice.first;
    const float scale = inverse_rms(column);
    const int at = group * 16 + row;
    if (at < slice.count) out[at] = low * scale;
    if (at + 8 < slice.count) out[at + 8] = high * scale;
  });
#endif
}

}  // namespace gale::cuda
