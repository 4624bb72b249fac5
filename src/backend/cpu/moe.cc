// Mixtures of experts: which experts each token goes to, and the sum of what they made of it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/cpu/ops.h"

namespace gale::cpu {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

/// Scores of one token's experts from its logits, in place.
void Score(const CpuKernels& kernels, RouterScore score, float* x, int64_t experts) {
  if (score == RouterScore::kSoftmax) {
    const float sum = kernels.exp_sum(x, kernels.max(x, experts), 1, x, experts);
    for (int64_t e = 0; e < experts; ++e) x[e] /= sum;
  } else {
    for (int64_t e = 0; e < experts; ++e) x[e] = 1 / (1 + std::exp(-x[e]));
  }
}

/// Rules out the experts of all but the best groups.
void LimitGroups(const MoeRouteArgs& args, float* ranks, int64_t experts) {
  const int64_t size = experts / args.num_groups;
  std::vector<float> best(static_cast<size_t>(size));
  std::vector<std::pair<float, int>> groups;  // ascending: the best first
  for (int g = 0; g < args.num_groups; ++g) {
    std::partial_sort_copy(ranks + g * size, ranks + (g + 1) * size, best.begin(),
                           best.begin() + args.group_top, std::greater<>());
    float sum = 0;
    for (int i = 0; i < args.group_top; ++i) sum += best[static_cast<size_t>(i)];
    groups.emplace_back(-sum, g);
  }
  std::sort(groups.begin(), groups.end());
  for (size_t i = static_cast<size_t>(args.top_groups); i < groups.size(); ++i) {
    std::fill_n(ranks + groups[i].second * size, size, kNever);
  }
}

void RouteToken(Context& context, const MoeRouteArgs& args, int64_t token, int thread) {
  const int64_t experts = args.logits.dim(1);
  const int64_t top_k = args.experts.dim(1);
  float* scores = context.thread_scratch[static_cast<size_t>(thread)].Floats(2 * experts);
  float* ranks = scores + experts;
  context.kernels.to_f32(RowAt(args.logits, token), DType::kF32, scores, experts);
  Score(context.kernels, args.score, scores, experts);
  std::copy_n(scores, experts, ranks);
  if (args.correction) {
    const float* correction = args.correction.As<float>();
    for (int64_t e = 0; e < experts; ++e) ranks[e] += correction[e];
  }
  if (args.top_groups < args.num_groups) LimitGroups(args, ranks, experts);

  auto* picked = static_cast<int32_t*>(RowAt(args.experts, token));
  auto* weights = static_cast<float*>(RowAt(args.weights, token));
  float sum = 0;
  for (int64_t c = 0; c < top_k; ++c) {
    const auto best = static_cast<int32_t>(std::max_element(ranks, ranks + experts) - ranks);
    picked[c] = best;
    weights[c] = scores[best];
    sum += scores[best];
    ranks[best] = kNever;
  }
  constexpr float kTiny = 1e-20F;  // sigmoids may all vanish
  for (int64_t c = 0; c < top_k; ++c) {
    if (args.renormalize) weights[c] /= sum + kTiny;
    weights[c] *= args.scale;
  }
}

/// A counting sort of the picks by expert.
void ListByExpert(const MoeRouteArgs& args) {
  const int64_t experts = args.logits.dim(1);
  const int64_t top_k = args.experts.dim(1);
  const int64_t tokens = args.logits.dim(0);
  auto* offsets = args.offsets.As<int32_t>();
  std::fill_n(offsets, experts + 1, 0);
  std::vector<int32_t> next(static_cast<size_t>(experts));
  for (int64_t t = 0; t < tokens; ++t) {
    const auto* picked = static_cast<const int32_t*>(RowAt(args.experts, t));
    for (int64_t c = 0; c < top_k; ++c) ++offsets[picked[c] + 1];
  }
  for (int64_t e = 0; e < experts; ++e) {
    next[static_cast<size_t>(e)] = offsets[e];
    offsets[e + 1] += offsets[e];
  }
  for (int64_t t = 0; t < tokens; ++t) {
    const auto* picked = static_cast<const int32_t*>(RowAt(args.experts, t));
    for (int64_t c = 0; c < top_k; ++c) {
      const int32_t at = next[static_cast<size_t>(picked[c])]++;
      args.picks.As<int32_t>()[at] = static_cast<int32_t>(t * top_k + c);
      args.tokens.As<int32_t>()[at] = static_cast<int32_t>(t);
    }
  }
}

}  // namespace

void MoeRoute(Context& context, const MoeRouteArgs& args) {
  CheckMoeRouteArgs(args);
  const int64_t cost = args.logits.dim(1) * args.experts.dim(1);
  ForRows(context, args.logits.dim(0), cost, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t t = begin; t < end; ++t) RouteToken(context, args, t, thread);
  });
  ListByExpert(args);
}

void MoeCombine(Context& context, const MoeCombineArgs& args) {
  CheckMoeCombineArgs(args);
  const CpuKernels& kernels = context.kernels;
  const int64_t hidden = args.out.dim(1);
  const int64_t top_k = args.weights.dim(1);
  const auto combine = [&](int64_t t, float* sum, float* row) {
    const auto* weights = static_cast<const float*>(RowAt(args.weights, t));
    std::fill_n(sum, hidden, 0.0F);
    for (int64_t c = 0; c < top_k; ++c) {
      kernels.to_f32(RowAt(args.x, t * top_k + c), args.x.dtype, row, hidden);
      for (int64_t i = 0; i < hidden; ++i) sum[i] += weights[c] * row[i];
    }
    if (args.shared) {
      float gate = 1;
      if (args.shared_gate) {
        gate = 1 / (1 + std::exp(-*static_cast<const float*>(RowAt(args.shared_gate, t))));
      }
      kernels.to_f32(RowAt(args.shared, t), args.shared.dtype, row, hidden);
      for (int64_t i = 0; i < hidden; ++i) sum[i] += gate * row[i];
    }
    kernels.from_f32(sum, RowAt(args.out, t), args.out.dtype, hidden);
  };
  ForRows(context, args.out.dim(0), top_k * hidden, [&](int64_t begin, int64_t end, int thread) {
    float* sum = context.thread_scratch[static_cast<size_t>(thread)].Floats(2 * hidden);
    for (int64_t t = begin; t < end; ++t) combine(t, sum, sum + hidden);
  });
}

}  // namespace gale::cpu
