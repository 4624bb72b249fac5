// Mixtures of experts: the router and the sum over experts; their products are in grouped_cases.cc.
//
// Bounds: as in row_op_cases.cc; u is the unit roundoff of f32.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "conformance/op_case.h"

namespace gale::test {
namespace {

constexpr double kU = 0x1p-24;

// ---- MoeRoute ----

struct RouteShape {
  int64_t tokens;
  int64_t experts;
  int64_t top_k;
  RouterScore score = RouterScore::kSoftmax;
  bool correction = false;
  int num_groups = 1;
  int top_groups = 1;
  int group_top = 1;
  bool renormalize = false;
  float scale = 1;
  bool ties = false;  ///< equal logits in runs of four experts
};

/// Each token's logits are 1/16 apart, so that rounding changes no rank; f32 holds them exactly.
HostTensor SpacedLogits(std::mt19937_64& random, const RouteShape& shape) {
  HostTensor logits = Zeros(DType::kF32, {shape.tokens, shape.experts});
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const auto row = logits.values.begin() + t * shape.experts;
    for (int64_t e = 0; e < shape.experts; ++e) {
      row[e] = static_cast<double>(e - shape.experts / 2) / 16;
    }
    std::shuffle(row, row + shape.experts, random);
    for (int64_t e = 0; shape.ties && e < shape.experts; ++e) row[e] = row[e / 4 * 4];
  }
  return logits;
}

/// Indices of `ranks` from the best on, equals by lower index.
std::vector<int64_t> Ranking(const std::vector<double>& ranks) {
  std::vector<int64_t> order(ranks.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int64_t a, int64_t b) {
    return ranks[static_cast<size_t>(a)] > ranks[static_cast<size_t>(b)];
  });
  return order;
}

struct Picks {
  std::vector<int64_t> experts;
  std::vector<double> weights;
};

Picks PickReference(const RouteShape& shape, const double* logits, const HostTensor& correction,
                    Mutation mutation) {
  const auto experts = static_cast<size_t>(shape.experts);
  std::vector<double> scores(logits, logits + experts);
  double sum = 0;
  for (double& score : scores) {
    score = shape.score == RouterScore::kSoftmax ? std::exp(score) : 1 / (1 + std::exp(-score));
    sum += score;
  }
  if (shape.score == RouterScore::kSoftmax) {
    for (double& score : scores) score /= sum;
  }
  std::vector<double> ranks = scores;
  if (shape.correction && mutation != Mutation::kNoCorrection) {
    for (size_t e = 0; e < experts; ++e) ranks[e] += correction.values[e];
  }
  if (shape.top_groups < shape.num_groups && mutation != Mutation::kNoGroupLimit) {
    const size_t size = experts / static_cast<size_t>(shape.num_groups);
    std::vector<double> ratings;
    for (size_t g = 0; g < experts; g += size) {
      std::vector<double> group(ranks.begin() + static_cast<ptrdiff_t>(g),
                                ranks.begin() + static_cast<ptrdiff_t>(g + size));
      std::ranges::sort(group, std::greater<>());
      ratings.push_back(std::accumulate(group.begin(), group.begin() + shape.group_top, 0.0));
    }
    const std::vector<int64_t> order = Ranking(ratings);
    for (size_t g = static_cast<size_t>(shape.top_groups); g < order.size(); ++g) {
      std::fill_n(ranks.begin() + order[g] * static_cast<int64_t>(size), size, -1e30);
    }
  }
  Picks picks;
  const std::vector<int64_t> order = Ranking(ranks);
  double chosen = 0;
  for (int64_t c = 0; c < shape.top_k; ++c) {
    picks.experts.push_back(order[static_cast<size_t>(c)]);
    picks.weights.push_back(scores[static_cast<size_t>(picks.experts.back())]);
    chosen += picks.weights.back();
  }
  const bool renormalize = shape.renormalize && mutation != Mutation::kSkipRenormalize;
  for (double& weight : picks.weights) weight *= shape.scale / (renormalize ? chosen : 1);
  return picks;
}

OpResult RunRoute(Device& device, const RouteShape& shape, Mutation mutation) {
  std::mt19937_64 random(21);
  const HostTensor logits = SpacedLogits(random, shape);
  HostTensor correction = Zeros(DType::kF32, {shape.experts});
  for (double& value : correction.values) value = static_cast<double>(random() % 64) / 64;
  const int64_t num_picks = shape.tokens * shape.top_k;
  const DeviceTensor device_logits = device.Upload(logits, 3);
  const DeviceTensor device_correction = device.Upload(correction);
  const DeviceTensor experts = device.Upload(Zeros(DType::kI32, {shape.tokens, shape.top_k}));
  const DeviceTensor weights = device.Upload(Zeros(DType::kF32, {shape.tokens, shape.top_k}));
  const DeviceTensor offsets =
      device.Upload(Tensor(DType::kI32, {shape.experts + 1},
                           std::vector<double>(static_cast<size_t>(shape.experts) + 1, -7)));
  const DeviceTensor picks = device.Upload(Zeros(DType::kI32, {num_picks}));
  const DeviceTensor tokens = device.Upload(Zeros(DType::kI32, {num_picks}));
  device.backend().MoeRoute(
      device.stream(), {.logits = device_logits.view(),
                        .correction = shape.correction ? device_correction.view() : TensorView(),
                        .score = shape.score,
                        .num_groups = shape.num_groups,
                        .top_groups = shape.top_groups,
                        .group_top = shape.group_top,
                        .renormalize = shape.renormalize,
                        .scale = shape.scale,
                        .experts = experts.view(),
                        .weights = weights.view(),
                        .offsets = offsets.view(),
                        .picks = picks.view(),
                        .tokens = tokens.view()});

  const HostTensor got_experts = device.Download(experts);
  const HostTensor got_weights = device.Download(weights);
  OpResult result;
  std::vector<std::vector<int64_t>> by_expert(static_cast<size_t>(shape.experts));
  const double bound = kU * (2 * static_cast<double>(shape.experts) + 32);
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const Picks want = PickReference(shape, &logits.values[static_cast<size_t>(t * shape.experts)],
                                     correction, mutation);
    for (int64_t c = 0; c < shape.top_k; ++c) {
      const int64_t expert = want.experts[static_cast<size_t>(c)];
      const double weight = want.weights[static_cast<size_t>(c)];
      result.Add(got_experts.at(t, c), static_cast<double>(expert), 0);
      result.Add(got_weights.at(t, c), weight, bound * weight);
      by_expert[static_cast<size_t>(expert)].push_back(t * shape.top_k + c);
    }
  }
  const HostTensor got_offsets = device.Download(offsets);
  const HostTensor got_picks = device.Download(picks);
  const HostTensor got_tokens = device.Download(tokens);
  size_t at = 0;
  for (size_t e = 0; e < by_expert.size(); ++e) {
    result.Add(got_offsets.values[e], static_cast<double>(at), 0);
    for (const int64_t pick : by_expert[e]) {
      result.Add(got_picks.values[at], static_cast<double>(pick), 0);
      result.Add(got_tokens.values[at], static_cast<double>(pick / shape.top_k), 0);
      ++at;
    }
  }
  result.Add(got_offsets.values.back(), static_cast<double>(num_picks), 0);
  return result;
}

OpCase RouteCase(const RouteShape& shape) {
  OpCase op{
      fmt::format("MoeRoute/{}_{}tokens_{}_of_{}{}_groups{}of{}by{}{}{}",
                  shape.score == RouterScore::kSoftmax ? "softmax" : "sigmoid", shape.tokens,
                  shape.top_k, shape.experts, shape.correction ? "_corrected" : "",
                  shape.top_groups, shape.num_groups, shape.group_top,
                  shape.renormalize ? "_renormalized" : "", shape.ties ? "_ties" : ""),
      [shape](Device& device, Mutation mutation) { return RunRoute(device, shape, mutation); },
      {}};
  if (shape.tokens == 0) return op;
  if (shape.correction) op.must_fail.push_back(Mutation::kNoCorrection);
  if (shape.top_groups < shape.num_groups) op.must_fail.push_back(Mutation::kNoGroupLimit);
  if (shape.renormalize) op.must_fail.push_back(Mutation::kSkipRenormalize);
  return op;
}

// ---- MoeCombine ----

struct CombineShape {
  DType dtype;
  int64_t tokens;
  int64_t top_k;
  int64_t hidden;
  bool shared = false;
  bool gate = false;
  bool in_place = false;  ///< over the shared experts' output
  int64_t padding = 0;
};

OpResult RunCombine(Device& device, const CombineShape& shape, Mutation mutation) {
  std::mt19937_64 random(23);
  const HostTensor x =
      RandomTensor(random, shape.dtype, {shape.tokens * shape.top_k, shape.hidden});
  const HostTensor weights = RandomTensor(random, DType::kF32, {shape.tokens, shape.top_k});
  const HostTensor shared = RandomTensor(random, shape.dtype, {shape.tokens, shape.hidden});
  const HostTensor gate = RandomTensor(random, DType::kF32, {shape.tokens, 1}, 2);
  const DeviceTensor device_x = device.Upload(x, shape.padding);
  const DeviceTensor device_weights = device.Upload(weights);
  const DeviceTensor device_shared = device.Upload(shared, shape.padding);
  const DeviceTensor device_gate = device.Upload(gate);
  const DeviceTensor separate =
      device.Upload(Zeros(shape.dtype, {shape.tokens, shape.hidden}), shape.padding);
  const DeviceTensor& out = shape.in_place ? device_shared : separate;
  device.backend().MoeCombine(device.stream(),
                              {.x = device_x.view(),
                               .weights = device_weights.view(),
                               .shared = shape.shared ? device_shared.view() : TensorView(),
                               .shared_gate = shape.gate ? device_gate.view() : TensorView(),
                               .out = out.view()});
  const HostTensor got = device.Download(out);
  const double v = shape.dtype == DType::kF32 ? 0 : Roundoff(shape.dtype);
  const int64_t terms = shape.top_k - (mutation == Mutation::kDropLastTerm ? 1 : 0);
  OpResult result;
  for (int64_t t = 0; t < shape.tokens; ++t) {
    for (int64_t i = 0; i < shape.hidden; ++i) {
      double sum = 0;
      double magnitude = 0;
      const auto add = [&](double product) {
        sum += product;
        magnitude += std::abs(product);
      };
      for (int64_t c = 0; c < terms; ++c) {
        add(weights.at(t, c) * x.at(t * shape.top_k + c, i));
      }
      if (shape.shared && mutation != Mutation::kSkipShared) {
        const bool gated = shape.gate && mutation != Mutation::kSkipGate;
        add(shared.at(t, i) * (gated ? 1 / (1 + std::exp(-gate.at(t, 0))) : 1));
      }
      const double bound = (static_cast<double>(shape.top_k) + 8) * kU * magnitude;
      result.Add(got.at(t, i), sum, bound + v * (std::abs(sum) + bound));
    }
  }
  return result;
}

OpCase CombineCase(const CombineShape& shape) {
  OpCase op{
      fmt::format("MoeCombine/{}_{}x{}x{}{}{}{}{}", DTypeName(shape.dtype), shape.tokens,
                  shape.top_k, shape.hidden, shape.shared ? "_shared" : "",
                  shape.gate ? "_gate" : "", shape.in_place ? "_in_place" : "",
                  shape.padding > 0 ? "_strided" : ""),
      [shape](Device& device, Mutation mutation) { return RunCombine(device, shape, mutation); },
      {}};
  if (shape.tokens == 0) return op;
  op.must_fail = {Mutation::kDropLastTerm};
  if (shape.shared) op.must_fail.push_back(Mutation::kSkipShared);
  if (shape.gate) op.must_fail.push_back(Mutation::kSkipGate);
  return op;
}

}  // namespace

std::vector<OpCase> MoeCases() {
  constexpr DType f32 = DType::kF32;
  constexpr DType bf16 = DType::kBf16;
  constexpr RouterScore kSigmoid = RouterScore::kSigmoid;
  const RouteShape routes[] = {
      {.tokens = 0, .experts = 8, .top_k = 2},
      {.tokens = 1, .experts = 1, .top_k = 1},
      {.tokens = 7, .experts = 8, .top_k = 2, .renormalize = true},
      {.tokens = 300, .experts = 128, .top_k = 8, .renormalize = true},
      {.tokens = 33, .experts = 60, .top_k = 4, .scale = 1.5F},
      {.tokens = 5, .experts = 33, .top_k = 32},
      {.tokens = 9, .experts = 16, .top_k = 6, .ties = true},
      {.tokens = 40, .experts = 64, .top_k = 6, .num_groups = 8, .top_groups = 3, .scale = 16},
      {.tokens = 40, .experts = 64, .top_k = 6, .num_groups = 8, .top_groups = 1, .ties = true},
      {.tokens = 13, .experts = 40, .top_k = 4, .score = kSigmoid, .renormalize = true},
      {.tokens = 50,
       .experts = 256,
       .top_k = 8,
       .score = kSigmoid,
       .correction = true,
       .num_groups = 8,
       .top_groups = 4,
       .group_top = 2,
       .renormalize = true,
       .scale = 2.5F},
      {.tokens = 50,
       .experts = 12,
       .top_k = 3,
       .score = kSigmoid,
       .correction = true,
       .num_groups = 3,
       .top_groups = 2,
       .group_top = 4},
      {.tokens = 4, .experts = 80, .top_k = 4, .num_groups = 40, .top_groups = 2, .group_top = 1},
  };
  const CombineShape sums[] = {
      {f32, 0, 2, 16},
      {f32, 5, 1, 33},
      {f32, 9, 8, 512, true},
      {bf16, 7, 4, 300, true, true},
      {bf16, 3, 8, 2048, true, true, true},
      {bf16, 4, 2, 64, false, false, false, 3},
      {f32, 6, 6, 70, true, false, true, 1},
  };
  std::vector<OpCase> cases;
  for (const RouteShape& shape : routes) cases.push_back(RouteCase(shape));
  for (const CombineShape& shape : sums) cases.push_back(CombineCase(shape));
  return cases;
}

}  // namespace gale::test
