// Mixtures of experts: which experts each token goes to, and the sum of what they made of it. The
// products between the two are linear_grouped.cu's.
#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int kRouteWarps = 8;
constexpr int kListThreads = 256;
constexpr int kCombineThreads = 256;

struct RouteParams {
  const float* logits;  // [tokens, experts]
  int64_t logits_stride;
  const float* correction;  // [experts] or null
  int tokens;
  int experts;
  int top_k;  // <= kWarp
  RouterScore score;
  int num_groups;
  int top_groups;
  int group_top;
  bool renormalize;
  float scale;
  int32_t* picked;  // [tokens, top_k]
  float* weights;   // [tokens, top_k]

  __host__ __device__ int FloatsPerWarp() const { return 2 * experts + num_groups; }
};

/// The largest of ranks[begin, end) as all lanes see it, the first of equals; its index is `end`
/// when all are -inf or NaN.
__device__ __forceinline__ int WarpBest(const float* ranks, int begin, int end) {
  float best = -INFINITY;
  int at = end;
  for (int i = begin + static_cast<int>(threadIdx.x) % kWarp; i < end; i += kWarp) {
    if (ranks[i] > best) {
      best = ranks[i];
      at = i;
    }
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) {
    const float other = __shfl_xor_sync(~0U, best, offset);
    const int other_at = __shfl_xor_sync(~0U, at, offset);
    if (other > best || (other == best && other_at < at)) {
      best = other;
      at = other_at;
    }
  }
  return at;
}

/// Turns one token's logits into scores, a warp's work.
__device__ __forceinline__ void Score(const RouteParams& p, const float* logits, float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (p.score == RouterScore::kSigmoid) {
    for (int e = lane; e < p.experts; e += kWarp) scores[e] = 1.0F / (1.0F + expf(-logits[e]));
    return;
  }
  float max = -INFINITY;
  for (int e = lane; e < p.experts; e += kWarp) max = fmaxf(max, logits[e]);
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) {
    max = fmaxf(max, __shfl_xor_sync(~0U, max, offset));
  }
  float sum = 0;
  for (int e = lane; e < p.experts; e += kWarp) {
    scores[e] = expf(logits[e] - max);
    sum += scores[e];
  }
  sum = WarpAdd(sum);
  for (int e = lane; e < p.experts; e += kWarp) scores[e] /= sum;
}

/// Rules out the experts of all but the best groups. A lane rates a group by its own passes over
/// it: the n-th best is the largest that comes after the one before.
__device__ __forceinline__ void LimitGroups(const RouteParams& p, float* ranks, float* ratings) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int size = p.experts / p.num_groups;
  for (int g = lane; g < p.num_groups; g += kWarp) {
    const float* group = ranks + g * size;
    float sum = 0;
    float last = INFINITY;
    int last_at = -1;
    for (int n = 0; n < p.group_top; ++n) {
      float best = -INFINITY;
      int at = size;
      for (int i = 0; i < size; ++i) {
        const bool after = group[i] < last || (group[i] == last && i > last_at);
        if (after && group[i] > best) {
          best = group[i];
          at = i;
        }
      }
      sum += best;
      last = best;
      last_at = at;
    }
    ratings[g] = sum;
  }
  __syncwarp();
  for (int g = lane; g < p.num_groups; g += kWarp) {
    int before = 0;
    for (int h = 0; h < p.num_groups; ++h) {
      before += ratings[h] > ratings[g] || (ratings[h] == ratings[g] && h < g) ? 1 : 0;
    }
    if (before < p.top_groups) continue;
    for (int i = 0; i < size; ++i) ranks[g * size + i] = -INFINITY;
  }
  __syncwarp();
}

/// Picks one token's experts, a warp's work, in `scores`, which has FloatsPerWarp. Cost: a read of
/// the logits and top_k passes over them in shared memory.
__device__ __forceinline__ void RouteToken(const RouteParams& p, int token, float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float* ranks = scores + p.experts;
  Score(p, p.logits + token * p.logits_stride, scores);
  for (int e = lane; e < p.experts; e += kWarp) {
    ranks[e] = scores[e] + (p.correction == nullptr ? 0.0F : p.correction[e]);
  }
  __syncwarp();
  if (p.top_groups < p.num_groups) LimitGroups(p, ranks, ranks + p.experts);

  float sum = 0;
  float weight = 0;  // lane c: of choice c
  int expert = 0;
  for (int c = 0; c < p.top_k; ++c) {
    int best = WarpBest(ranks, 0, p.experts);
    if (best == p.experts) best = c;  // logits that are no numbers; any expert will do
    sum += scores[best];
    if (lane == c) {
      weight = scores[best];
      expert = best;
    }
    __syncwarp();
    if (lane == 0) ranks[best] = -INFINITY;
    __syncwarp();
  }
  if (lane >= p.top_k) return;
  constexpr float kTiny = 1e-20F;  // sigmoids may all vanish
  if (p.renormalize) weight /= sum + kTiny;
  p.picked[token * p.top_k + lane] = expert;
  p.weights[token * p.top_k + lane] = weight * p.scale;
}

/// Warps: a token each.
__global__ void __launch_bounds__(kRouteWarps* kWarp) RouteKernel(RouteParams p) {
  extern __shared__ float shared[];
  LaunchDependents();
  WaitForPrerequisites();
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int token = static_cast<int>(blockIdx.x) * kRouteWarps + warp;
  if (token < p.tokens) RouteToken(p, token, shared + warp * p.FloatsPerWarp());
}

/// Where picks go that are listed by expert.
struct ListParams {
  int32_t* offsets;  // [experts + 1]
  int32_t* picks;    // [num_picks]
  int32_t* tokens;   // [num_picks]
};

/// Up to kRouteWarps tokens, routed and listed by one block, which saves a kernel where steps are
/// short. A thread lists an expert's picks, as the blocks of ListByExpertKernel do.
__global__ void __launch_bounds__(kRouteWarps* kWarp)
    RouteFewKernel(RouteParams p, ListParams list) {
  extern __shared__ float shared[];
  LaunchDependents();
  WaitForPrerequisites();
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (warp < p.tokens) RouteToken(p, warp, shared + warp * p.FloatsPerWarp());
  __syncthreads();
  const int num_picks = p.tokens * p.top_k;
  for (int expert = static_cast<int>(threadIdx.x); expert < p.experts; expert += blockDim.x) {
    int at = 0;
    for (int i = 0; i < num_picks; ++i) at += p.picked[i] < expert ? 1 : 0;
    list.offsets[expert] = at;
    for (int i = 0; i < num_picks; ++i) {
      if (p.picked[i] != expert) continue;
      list.picks[at] = i;
      list.tokens[at] = i / p.top_k;
      ++at;
    }
  }
  if (threadIdx.x == 0) list.offsets[p.experts] = num_picks;
}

/// Blocks: an expert each, which finds its own picks and, by counting the lesser experts' ones,
/// where they go: a stable sort without atomics. Cost: experts * picks reads from the caches.
__global__ void __launch_bounds__(kListThreads)
    ListByExpertKernel(const int32_t* picked, int num_picks, int top_k, ListParams list) {
  constexpr int kWarps = kListThreads / kWarp;
  __shared__ int lesser_of_warp[kWarps];
  __shared__ int own_of_warp[kWarps];
  LaunchDependents();
  WaitForPrerequisites();
  const int expert = static_cast<int>(blockIdx.x);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int chunk = (num_picks + kListThreads - 1) / kListThreads;
  const int begin = min(static_cast<int>(threadIdx.x) * chunk, num_picks);
  const int end = min(begin + chunk, num_picks);
  int lesser = 0;
  int own = 0;
  for (int i = begin; i < end; ++i) {
    lesser += picked[i] < expert ? 1 : 0;
    own += picked[i] == expert ? 1 : 0;
  }
  int own_through = own;  // of the lanes up to this one
#pragma unroll
  for (int offset = 1; offset < kWarp; offset <<= 1) {
    const int before = __shfl_up_sync(~0U, own_through, offset);
    if (lane >= offset) own_through += before;
  }
  lesser = __reduce_add_sync(~0U, lesser);
  if (lane == kWarp - 1) {
    lesser_of_warp[warp] = lesser;
    own_of_warp[warp] = own_through;
  }
  __syncthreads();
  int first = 0;  // of the expert
  int at = own_through - own;
  for (int w = 0; w < kWarps; ++w) {
    first += lesser_of_warp[w];
    if (w < warp) at += own_of_warp[w];
  }
  at += first;
  for (int i = begin; i < end; ++i) {
    if (picked[i] != expert) continue;
    list.picks[at] = i;
    list.tokens[at] = i / top_k;
    ++at;
  }
  if (threadIdx.x == 0) {
    list.offsets[expert] = first;
    if (expert + 1 == static_cast<int>(gridDim.x)) list.offsets[expert + 1] = num_picks;
  }
}

template <class T>
struct CombineParams {
  const T* x;  // [tokens * top_k, hidden]
  int64_t x_stride;
  const float* weights;  // [tokens, top_k]
  int top_k;
  const T* shared;  // [tokens, hidden] or null
  int64_t shared_stride;
  const float* shared_gate;  // [tokens] or null
  T* out;
  int64_t out_stride;
  int hidden;
};

/// kWide elements of one token. Blocks: (token, stretch of columns).
template <class T, int kWide>
__global__ void __launch_bounds__(kCombineThreads) CombineKernel(CombineParams<T> p) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t token = blockIdx.x;
  const int i =
      (static_cast<int>(blockIdx.y) * kCombineThreads + static_cast<int>(threadIdx.x)) * kWide;
  if (i >= p.hidden) return;
  float sum[kWide] = {};
  const auto add = [&](const T* row, float weight) {
    if constexpr (kWide == 1) {
      sum[0] = fmaf(weight, ToF32(row[i]), sum[0]);
    } else {
      float x[kWide];
      LoadPack(row + i, x);
#pragma unroll
      for (int j = 0; j < kWide; ++j) sum[j] = fmaf(weight, x[j], sum[j]);
    }
  };
  for (int c = 0; c < p.top_k; ++c) {
    add(p.x + (token * p.top_k + c) * p.x_stride, p.weights[token * p.top_k + c]);
  }
  if (p.shared != nullptr) {
    const float gate =
        p.shared_gate == nullptr ? 1.0F : 1.0F / (1.0F + expf(-p.shared_gate[token]));
    add(p.shared + token * p.shared_stride, gate);
  }
  T* out = p.out + token * p.out_stride + i;
  if constexpr (kWide == 1) {
    *out = FromF32<T>(sum[0]);
  } else {
    StorePack(out, sum);
  }
}

template <class T>
void RunCombine(CudaStream& stream, const MoeCombineArgs& args) {
  const CombineParams<T> params{.x = args.x.As<T>(),
                                .x_stride = args.x.strides[0],
                                .weights = args.weights.As<float>(),
                                .top_k = static_cast<int>(args.weights.dim(1)),
                                .shared = args.shared ? args.shared.As<T>() : nullptr,
                                .shared_stride = args.shared.strides[0],
                                .shared_gate = args.shared_gate.As<float>(),
                                .out = args.out.As<T>(),
                                .out_stride = args.out.strides[0],
                                .hidden = static_cast<int>(args.out.dim(1))};
  const bool packs =
      RowsArePacks(args.x) && RowsArePacks(args.out) && (!args.shared || RowsArePacks(args.shared));
  const int per_block = kCombineThreads * (packs ? kPack<T> : 1);
  const dim3 grid(static_cast<unsigned>(args.out.dim(0)),
                  static_cast<unsigned>((params.hidden + per_block - 1) / per_block));
  stream.Launch({grid, dim3(kCombineThreads)},
                packs ? CombineKernel<T, kPack<T>> : CombineKernel<T, 1>, params);
}

}  // namespace

void MoeRoute(CudaStream& stream, const MoeRouteArgs& args) {
  CheckMoeRouteArgs(args);
  const auto tokens = static_cast<int>(args.logits.dim(0));
  const RouteParams params{.logits = args.logits.As<float>(),
                           .logits_stride = args.logits.strides[0],
                           .correction = args.correction.As<float>(),
                           .tokens = tokens,
                           .experts = static_cast<int>(args.logits.dim(1)),
                           .top_k = static_cast<int>(args.experts.dim(1)),
                           .score = args.score,
                           .num_groups = args.num_groups,
                           .top_groups = args.top_groups,
                           .group_top = args.group_top,
                           .renormalize = args.renormalize,
                           .scale = args.scale,
                           .picked = args.experts.As<int32_t>(),
                           .weights = args.weights.As<float>()};
  GALE_CHECK_LE(params.top_k, kWarp);
  GALE_CHECK_EQ(args.experts.strides[0], params.top_k);
  GALE_CHECK_EQ(args.weights.strides[0], params.top_k);
  const size_t shared = kRouteWarps * static_cast<size_t>(params.FloatsPerWarp()) * sizeof(float);
  const ListParams list{args.offsets.As<int32_t>(), args.picks.As<int32_t>(),
                        args.tokens.As<int32_t>()};
  const dim3 threads(kRouteWarps * kWarp);
  if (tokens <= kRouteWarps) {
    stream.Launch({dim3(1), threads, shared}, RouteFewKernel, params, list);
    return;
  }
  const auto blocks = static_cast<unsigned>((tokens + kRouteWarps - 1) / kRouteWarps);
  stream.Launch({dim3(blocks), threads, shared}, RouteKernel, params);
  stream.Launch({dim3(static_cast<unsigned>(params.experts)), dim3(kListThreads)},
                ListByExpertKernel, static_cast<const int32_t*>(params.picked),
                tokens * params.top_k, params.top_k, list);
}

void MoeCombine(CudaStream& stream, const MoeCombineArgs& args) {
  CheckMoeCombineArgs(args);
  GALE_CHECK_EQ(args.weights.strides[0], args.weights.dim(1));
  if (args.shared_gate) GALE_CHECK_EQ(args.shared_gate.strides[0], 1);
  if (args.out.dtype == DType::kF32) {
    RunCombine<float>(stream, args);
  } else {
    RunCombine<bf16>(stream, args);
  }
}

}  // namespace gale::cuda
