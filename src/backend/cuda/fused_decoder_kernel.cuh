// The whole decoder as one persistent kernel, for steps of up to eight rows of bf16 models.
// One block per SM. Producer warps stream this SM's share of every weight matrix, in the order of
// use, through a ring in shared memory; they never wait for an activation, so memory stays busy
// while the eight consumer warps pass the grid barriers between phases: the ring holds about 5 us
// of HBM time, a barrier and the prologue after it take about 2 us.
//
// Phases per layer, a grid barrier after each:
//   1 norm + QKV (+ bias)   2 qk-norm + RoPE + KV write + attention   3 output projection +
//   residual 4 norm + gate-up + SiLU   5 down projection + residual;   at the end norm + logits.
// Every output row belongs to one SM and every 64 columns of a stage to one warp, whatever the
// number of rows: the order of sums does not depend on it, so this kernel is batch invariant.
#pragma once

#include "backend/cuda/fused_decoder_attention.cuh"
#include "backend/cuda/fused_decoder_linear.cuh"

namespace gale::cuda {
namespace fused {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

/// All blocks of the grid meet; `epoch` counts the meetings. Called by the consumer threads.
__device__ inline void GridBarrier(uint32_t* counter, uint32_t& epoch) {
  NamedBarrierSync(kConsumerBarrier, kConsumers);
  ++epoch;
  if (threadIdx.x == 0) {
    const uint32_t target = epoch * gridDim.x;
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
    uint32_t seen;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
    } while (seen < target);
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

/// Brings a small weight vector into L2 before it is on the way of a phase; a line per block.
__device__ inline void PrefetchVector(const bf16* vector, int elements) {
  if (threadIdx.x == 0 && vector != nullptr && blockIdx.x * 64 < static_cast<unsigned>(elements)) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(vector + blockIdx.x * 64));
  }
}

/// input[r] = residual[r] * weight in bf16, for all rows; the division by the row's RMS follows
/// where the products are summed (InverseRms), which saves a pass. Ends with a consumer barrier.
__device__ inline void LoadNormed(const FusedParams& p, const bf16* weight, int row_bytes,
                                  const SharedLayout& s) {
  const int vectors = p.hidden / 4;
  float sums[kFusedMaxRows] = {};
  for (int i = threadIdx.x; i < vectors; i += kConsumers) {
    const uint2 packed = reinterpret_cast<const uint2*>(weight)[i];
    const float2 w01 = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(packed.x));
    const float2 w23 = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(packed.y));
#pragma unroll
    for (int r = 0; r < kFusedMaxRows; ++r) {
      if (r < p.rows) {
        const float4 v = __ldcg(
            reinterpret_cast<const float4*>(p.residual + static_cast<int64_t>(r) * p.hidden) + i);
        sums[r] += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
        const __nv_bfloat162 lo = __floats2bfloat162_rn(v.x * w01.x, v.y * w01.y);
        const __nv_bfloat162 hi = __floats2bfloat162_rn(v.z * w23.x, v.w * w23.y);
        reinterpret_cast<uint2*>(s.input + r * row_bytes)[i] = {
            reinterpret_cast<const uint32_t&>(lo), reinterpret_cast<const uint32_t&>(hi)};
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kFusedMaxRows; ++r) {
    if (r < p.rows) {
      const float sum = WarpSum(sums[r]);
      if ((threadIdx.x & 31) == 0) s.row_sums[r * kConsumerWarps + (threadIdx.x >> 5)] = sum;
    }
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

__device__ inline float InverseRms(const FusedParams& p, const SharedLayout& s, int row) {
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kConsumerWarps; ++w) sum += s.row_sums[row * kConsumerWarps + w];
  return rsqrtf(sum / static_cast<float>(p.hidden) + p.norm_eps);
}

#endif

}  // namespace fused

/// kGroup: query heads per kv head.
template <int kHeadDim, int kGroup>
__global__ void __launch_bounds__(fused::kThreads, 1)
    FusedDecodeKernel(const __grid_constant__ FusedParams p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  using namespace fused;
  extern __shared__ __align__(128) uint8_t shared_memory[];
  const SharedLayout s = MakeLayout(shared_memory, p, kHeadDim);
  const int q_width = p.q_heads * kHeadDim;
  const int qkv_width = q_width + 2 * p.kv_heads * kHeadDim;
  if (threadIdx.x == 0) {
    for (int i = 0; i < p.ring_stages; ++i) {
      MbarrierInit(&s.full[i], kProducerWarps * 32);
      MbarrierInit(&s.empty[i], kConsumerWarps);
    }
  }
  __syncthreads();
  LaunchDependents();

  RingCursor cursor;
  if (threadIdx.x >= kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    const auto stream = [&](const RowSlice& slice) {
      StreamSlice(slice, s, p.ring_stages, cursor);
    };
    for (int l = 0; l < p.num_layers; ++l) {
      const FusedLayer& layer = p.layers[l];
      stream(PlainSlice(layer.qkv, qkv_width, p.hidden));
      stream(PlainSlice(layer.o, p.hidden, q_width));
      stream(GateUpSlice(layer.gate_up, p.intermediate, p.hidden));
      stream(PlainSlice(layer.down, p.hidden, p.intermediate));
    }
    stream(PlainSlice(p.lm_head, p.vocab, p.hidden));
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  WaitForPrerequisites();
  uint32_t epoch = 0;
  const int row_bytes = InputRowBytes(p, kHeadDim);
  const InputRows<false> input{s.input, row_bytes};
  const AttentionItem first_item = FindItem(p, blockIdx.x);
  PrepareRope(p, s);
  const auto add_to_residual = [&](const RowSlice& slice) {
    return [&p, first = slice.first, count = slice.count](int group, int row, int column, float low,
                                                          float high) {
      float* residual = p.residual + static_cast<int64_t>(column) * p.hidden + first;
      const int i = group * 16 + row;
      // One writer per element: the atomic only spares the load.
      if (i < count) atomicAdd(&residual[i], low);
      if (i + 8 < count) atomicAdd(&residual[i + 8], high);
    };
  };
  for (int l = 0; l < p.num_layers; ++l) {
    const FusedLayer& layer = p.layers[l];
    PrefetchVector(layer.mlp_norm, p.hidden);
    PrefetchVector(l + 1 < p.num_layers ? p.layers[l + 1].input_norm : p.final_norm, p.hidden);
    if (l + 1 < p.num_layers) PrefetchVector(p.layers[l + 1].qkv_bias, qkv_width);
    {
      LoadNormed(p, layer.input_norm, row_bytes, s);
      const RowSlice slice = PlainSlice(layer.qkv, qkv_width, p.hidden);
      MultiplySlice(
          slice, input, p, s, cursor, [&](int group, int row, int column, float low, float high) {
            float* out = p.qkv_out + static_cast<int64_t>(column) * qkv_width + slice.first;
            const bf16* bias = layer.qkv_bias == nullptr ? nullptr : layer.qkv_bias + slice.first;
            const float scale = InverseRms(p, s, column);
            const int i = group * 16 + row;
            if (i < slice.count) {
              __stcg(&out[i], low * scale + (bias == nullptr ? 0.0F : __bfloat162float(bias[i])));
            }
            if (i + 8 < slice.count) {
              __stcg(&out[i + 8],
                     high * scale + (bias == nullptr ? 0.0F : __bfloat162float(bias[i + 8])));
            }
          });
    }
    CachedRows<kHeadDim> cache;
    if (first_item.row >= 0) cache.Load(p, first_item, l);
    GridBarrier(p.barrier, epoch);
    AttentionItem item = first_item;
    for (int index = blockIdx.x; item.row >= 0;) {
      Attend<kHeadDim, kGroup>(p, layer, l, item, cache, s);
      index += gridDim.x;
      item = FindItem(p, index);
      if (item.row >= 0) cache.Load(p, item, l);
    }
    GridBarrier(p.barrier, epoch);
    {
      LoadAttention<kHeadDim>(p, row_bytes, s);
      const RowSlice slice = PlainSlice(layer.o, p.hidden, q_width);
      MultiplySlice(slice, input, p, s, cursor, add_to_residual(slice));
      GridBarrier(p.barrier, epoch);
    }
    {
      LoadNormed(p, layer.mlp_norm, row_bytes, s);
      const RowSlice slice = GateUpSlice(layer.gate_up, p.intermediate, p.hidden);
      MultiplySlice(slice, input, p, s, cursor,
                    [&](int group, int row, int column, float gate, float up) {
                      const int i = group * 8 + row;
                      if (i >= slice.count) return;
                      const float scale = InverseRms(p, s, column);
                      gate *= scale;
                      p.mlp_act[static_cast<int64_t>(column) * p.intermediate + slice.first + i] =
                          __float2bfloat16(gate / (1.0F + __expf(-gate)) * up * scale);
                    });
      GridBarrier(p.barrier, epoch);
    }
    {
      const RowSlice slice = PlainSlice(layer.down, p.hidden, p.intermediate);
      const InputRows<true> act{reinterpret_cast<const uint8_t*>(p.mlp_act), p.intermediate * 2LL};
      MultiplySlice(slice, act, p, s, cursor, add_to_residual(slice));
      GridBarrier(p.barrier, epoch);
    }
  }
  LoadNormed(p, p.final_norm, row_bytes, s);
  const RowSlice slice = PlainSlice(p.lm_head, p.vocab, p.hidden);
  MultiplySlice(slice, input, p, s, cursor,
                [&](int group, int row, int column, float low, float high) {
                  float* out = p.logits + static_cast<int64_t>(column) * p.vocab + slice.first;
                  const float scale = InverseRms(p, s, column);
                  const int i = group * 16 + row;
                  if (i < slice.count) out[i] = low * scale;
                  if (i + 8 < slice.count) out[i + 8] = high * scale;
                });
#endif
}

}  // namespace gale::cuda
