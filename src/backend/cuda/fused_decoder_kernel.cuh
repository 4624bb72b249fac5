// The whole decoder as one persistent kernel, for steps of one row of bf16 models.
// One block per SM. A producer warp streams this SM's share of every weight matrix, in the order of
// use, through a ring in shared memory; it never waits for an activation, so memory stays busy
// while the eight consumer warps wait for other SMs: the ring holds about 5 us of HBM time, and
// three stages more wait in the consumers' registers.
//
// Phases per layer:
//   1 norm + QKV (+ bias)   2 qk-norm + RoPE + KV write + attention   3 output projection +
//   residual 4 norm + gate-up + SiLU   5 down projection + residual;   at the end norm + logits.
// Every phase reads what all SMs made in the one before; the values tell by their tags when they
// are there (fused_decoder_tagged.cuh), so that no barrier over the grid is needed.
//
// Every row of a weight belongs to one SM and every 64 columns of a stage to one warp.
#pragma once

#include "backend/cuda/fused_decoder_attention.cuh"
#include "backend/cuda/fused_decoder_linear.cuh"

namespace gale::cuda {
namespace fused {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// input = residual * weight in bf16; the division by the RMS follows where the products are summed
/// (InverseRms), which saves a pass. Ends with a consumer barrier.
__device__ inline void LoadNormed(const FusedParams& p, const float* residual, uint32_t tag,
                                  const bf16* weight, const SharedLayout& s) {
  constexpr int kUnroll = 4;
  const int vectors = p.hidden / 4;
  float sum = 0;
  for (int first = threadIdx.x; first < vectors; first += kUnroll * kConsumers) {
    uint2 packed[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = min(first + u * kConsumers, vectors - 1);
      packed[u] = reinterpret_cast<const uint2*>(weight)[i];
    }
    float4 values[kUnroll];
    LoadTagged4(values, tag, [&](int u) -> const float* {
      const int i = first + u * kConsumers;
      return i < vectors ? residual + i * 4 : nullptr;
    });
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = first + u * kConsumers;
      if (i >= vectors) continue;
      const float2 w01 = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(packed[u].x));
      const float2 w23 = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(packed[u].y));
      const float4 v = values[u];
      sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
      StoreInput(s.input, i * 4, {v.x * w01.x, v.y * w01.y, v.z * w23.x, v.w * w23.y});
    }
  }
  sum = WarpSum(sum);
  if ((threadIdx.x & 31) == 0) s.squares[threadIdx.x >> 5] = sum;
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

/// input = columns [begin, end) of the activations of the feed-forward layer. Ends with a consumer
/// barrier.
__device__ inline void LoadActivations(const FusedParams& p, uint32_t tag, int begin, int end,
                                       const SharedLayout& s) {
  constexpr int kUnroll = 8;
  for (int first = begin + static_cast<int>(threadIdx.x) * 4; first < end;
       first += kUnroll * kConsumers * 4) {
    float4 values[kUnroll];
    LoadTagged4(values, tag, [&](int u) -> const float* {
      const int column = first + u * kConsumers * 4;
      return column < end ? p.mlp_act + column : nullptr;
    });
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int column = first + u * kConsumers * 4;
      if (column < end) StoreInput(s.input, column - begin, values[u]);
    }
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

__device__ inline float InverseRms(const FusedParams& p, const SharedLayout& s) {
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kConsumerWarps; ++w) sum += s.squares[w];
  return rsqrtf(sum * __frcp_rn(static_cast<float>(p.hidden)) + p.norm_eps);
}

#endif

}  // namespace fused

/// One row.
template <int kHeadDim>
__global__ void __launch_bounds__(fused::kThreads, 1)
    FusedDecodeKernel(const __grid_constant__ FusedParams p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace fused;
  extern __shared__ __align__(1024) uint8_t shared_memory[];
  SharedLayout s;
  MakeLayout(shared_memory, p, kHeadDim, static_cast<int>(gridDim.x), &s);
  const int sum_columns = SumColumns(p, kHeadDim);
  const OwnedParts parts(p, kHeadDim);
  if (threadIdx.x == 0) {
    *s.is_waiting = 0;
    for (int i = 0; i < p.ring_stages; ++i) {
      MbarrierInit(&s.full[i], 1);
      MbarrierInit(&s.empty[i], kConsumerWarps);
    }
    FenceBarrierInit();
  }
  for (int l = threadIdx.x; l < p.num_layers; l += kThreads) s.layers[l] = p.layers[l];
  __syncthreads();
  LaunchDependents();

  if (threadIdx.x >= kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x >= kConsumers + 32) return;
    RingCursor cursor;
    int streamed = 0;
    const auto stream = [&](const RowSlice& slice) {
      StreamSlice(slice, s, p.ring_stages, cursor, streamed);
    };
    PrefetchLayer(p, s, parts, 0);
    const CUtensorMap* maps = p.maps;
    for (int l = 0; l < p.num_layers; ++l) {
      PrefetchLayer(p, s, parts, l + 1);
      stream(parts.Qkv(maps));
      stream(parts.Out(maps + kFusedMaps));
      stream(parts.GateUp(maps + 2 * kFusedMaps));
      const RowSlice down = parts.Down(maps + 3 * kFusedMaps);
      for (int begin = 0; begin < p.intermediate; begin += sum_columns) {
        stream(down.Columns(begin, min(begin + sum_columns, p.intermediate)));
      }
      maps += kFusedMatrices * kFusedMaps;
    }
    stream(parts.Head(maps));
    return;
  }

  // With the producer's 40 these are the registers of the launch: 168 for each of 384 threads.
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  RingCursor cursor;
  int meetings = 0;
  HeldStages held;
  WaitForPrerequisites();
  const int input_columns = InputColumns(p, kHeadDim);
  for (int i = threadIdx.x; i < parts.hidden.count; i += kConsumers) {
    s.residual[i] = p.mlp_residual[parts.hidden.first + i];
  }
  PrepareRow(p, s);
  const AttentionItem first_item = FindItem(p, s, static_cast<int>(blockIdx.x));
  const bool has_more_items = FindItem(p, s, static_cast<int>(blockIdx.x + gridDim.x)).exists();
  CachedRows<kHeadDim> cache;
  if (first_item.exists()) cache.Locate(p, first_item);
  const auto add_to_residual = [&](const RowSlice& slice, float* published, uint32_t tag,
                                   bool is_last) {
    return [&, published, tag, is_last, first = slice.first, count = slice.count](
               int group, int row, float low, float high) {
      const int i = group * 16 + row;
      float* own = s.residual + i;
      float* out = published + first + i;
      if (i < count) {
        own[0] += low;
        if (is_last) StoreTagged(&out[0], own[0], tag);
      }
      if (i + 8 < count) {
        own[8] += high;
        if (is_last) StoreTagged(&out[8], own[8], tag);
      }
    };
  };
  // What comes before a product: the ring's first stages of it, then the wait for its input.
  const auto begin_wait = [&](const RowSlice& slice) {
    if (threadIdx.x == 0) *s.is_waiting = 1;
    held.Take(slice, s, p.ring_stages, cursor);
  };
  const auto end_wait = [&] {
    if (threadIdx.x == 0) *s.is_waiting = 0;
  };
  const auto multiply = [&](const RowSlice& slice, int first_column, const auto& emit) {
    MultiplySlice(slice, first_column, p, s, cursor, meetings, held, emit);
  };
  for (int l = 0; l < p.num_layers; ++l) {
    const FusedLayer layer = s.layers[l];
    const uint32_t tag = l & 1;
    if (first_item.exists()) cache.Load(p, first_item, l);
    {
      const RowSlice slice = parts.Qkv();
      const bool has_bias =
          layer.qkv_bias != nullptr && static_cast<int>(threadIdx.x) < slice.count;
      const bf16 bias =
          has_bias ? layer.qkv_bias[slice.first + threadIdx.x] : __float2bfloat16(0.0F);
      begin_wait(slice);
      LoadNormed(p, p.mlp_residual, tag ^ 1, layer.input_norm, s);
      end_wait();
      if (static_cast<int>(threadIdx.x) < slice.count) s.bias[threadIdx.x] = __bfloat162float(bias);
      multiply(slice, 0, [&](int group, int row, float low, float high) {
        float* out = p.qkv_out + slice.first;
        const float scale = InverseRms(p, s);
        const int i = group * 16 + row;
        if (i < slice.count) StoreTagged(&out[i], low * scale + s.bias[i], tag);
        if (i + 8 < slice.count) StoreTagged(&out[i + 8], high * scale + s.bias[i + 8], tag);
      });
    }
    {
      const RowSlice slice = parts.Out();
      begin_wait(slice);
      if (first_item.exists()) Attend<kHeadDim>(p, layer, l, first_item, cache, s);
      if (has_more_items) {
        for (int index = static_cast<int>(blockIdx.x + gridDim.x);;
             index += static_cast<int>(gridDim.x)) {
          const AttentionItem item = FindItem(p, s, index);
          if (!item.exists()) break;
          CachedRows<kHeadDim> more;
          more.Locate(p, item);
          more.Load(p, item, l);
          Attend<kHeadDim>(p, layer, l, item, more, s);
        }
      }
      LoadAttention<kHeadDim>(p, tag, s);
      end_wait();
      multiply(slice, 0, add_to_residual(slice, p.attention_residual, tag, true));
    }
    {
      const RowSlice slice = parts.GateUp();
      begin_wait(slice);
      LoadNormed(p, p.attention_residual, tag, layer.mlp_norm, s);
      end_wait();
      multiply(slice, 0, [&](int group, int row, float gate, float up) {
        const int i = group * 8 + row;
        if (i >= slice.count) return;
        const float scale = InverseRms(p, s);
        gate *= scale;
        StoreTagged(&p.mlp_act[slice.first + i], gate / (1.0F + __expf(-gate)) * up * scale, tag);
      });
    }
    const RowSlice down = parts.Down();
    begin_wait(down.Columns(0, min(sum_columns, p.intermediate)));
    int loaded = 0;  // columns of the activations that have been in shared memory
    int first_loaded = 0;
    for (int begin = 0; begin < p.intermediate; begin += sum_columns) {
      const int end = min(begin + sum_columns, p.intermediate);
      if (begin == loaded) {
        first_loaded = begin;
        loaded = min(begin + input_columns, p.intermediate);
        LoadActivations(p, tag, begin, loaded, s);
        end_wait();
      }
      multiply(down.Columns(begin, end), begin - first_loaded,
               add_to_residual(down, p.mlp_residual, tag, end == p.intermediate));
      held.count = 0;
    }
  }
  const RowSlice slice = parts.Head();
  begin_wait(slice);
  LoadNormed(p, p.mlp_residual, (p.num_layers - 1) & 1, p.final_norm, s);
  end_wait();
  multiply(slice, 0, [&](int group, int row, float low, float high) {
    float* out = p.logits + slice.first;
    const float scale = InverseRms(p, s);
    const int i = group * 16 + row;
    if (i < slice.count) out[i] = low * scale;
    if (i + 8 < slice.count) out[i + 8] = high * scale;
  });
#endif
}

}  // namespace gale::cuda
