// Paged attention against an fp64 softmax over plain arrays.
//
// Bound: a score of D products in f32 is off by e <= (D + 4) u scale sum |q k|. The weights
// exp(s - max) / sum are then off by a factor of at most 1 + 2 max e + (n + 32) u for n positions
// (rescaling and summation), and so is every output relative to sum p |v|. A soft cap does not
// enlarge an error (its slope is at most 1) and adds 8 u of what it yields.
// A device may round its weights to the activation dtype before the product with V (tensor cores
// do): + v sum p |v|; and what a quantized cache stands for, which is another v scale sum |q k| in
// e and v sum p |v|.
#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>

#include <fmt/format.h>

#include "backend/kv_format.h"
#include "conformance/attention_batch.h"
#include "conformance/op_case.h"

namespace gale::test {
namespace {

/// Outputs of the sequence's query at `position`, all heads. `inputs` has keys and values as the
/// cache gives them back.
void AddRow(const AttentionProblem& problem, const AttentionInputs& inputs, size_t sequence,
            int position, Mutation mutation, const HostTensor& got, int64_t row, OpResult* result) {
  const AttentionSpec& spec = problem.spec;
  const double u = Roundoff(DType::kF32);
  const double v = spec.dtype == DType::kF32 ? 0 : Roundoff(spec.dtype);
  const double cache_roundoff = IsQuantized(spec.kv) ? v : 0;
  const int dim = spec.head_dim;
  int window = spec.kind == KvKind::kSlidingWindow ? spec.window : position + 1;
  if (mutation == Mutation::kWindowOffByOne) ++window;
  const int first = std::max(0, position - window + 1);
  const int last = position - (mutation == Mutation::kMaskOffByOne ? 1 : 0);
  const auto element = [&](const HostTensor& tensor, int64_t p, int head, int d) {
    return tensor.values[static_cast<size_t>((p * tensor.dim(1) + head) * tensor.dim(2) + d)];
  };
  for (int head = 0; head < spec.q_heads; ++head) {
    int kv_head = head / (spec.q_heads / spec.kv_heads);
    if (mutation == Mutation::kSwapKvHeads) kv_head = spec.kv_heads - 1 - kv_head;
    std::vector<double> weights;
    double score_error = 0;
    for (int p = first; p <= last; ++p) {
      double score = 0;
      double magnitude = 0;
      for (int d = 0; d < dim; ++d) {
        const double product = element(inputs.q[sequence], position, head, d) *
                               element(inputs.k[sequence], p, kv_head, d) * spec.scale;
        score += product;
        magnitude += std::abs(product);
      }
      double error = ((dim + 4) * u + cache_roundoff) * magnitude;
      if (spec.softcap > 0 && mutation != Mutation::kNoSoftcap) {
        score = spec.softcap * std::tanh(score / spec.softcap);
        error += 8 * u * std::abs(score);
      }
      weights.push_back(score);
      score_error = std::max(score_error, error);
    }
    const double max = weights.empty() ? 0 : *std::ranges::max_element(weights);
    double sum = 0;
    if (problem.sinks && mutation != Mutation::kNoSinks) {
      sum = std::exp(inputs.sinks.values[static_cast<size_t>(head)] - max);
    }
    for (double& weight : weights) sum += weight = std::exp(weight - max);
    const auto n = static_cast<double>(weights.size());
    for (int d = 0; d < spec.value_dim(); ++d) {
      double want = 0;
      double magnitude = 0;
      for (size_t j = 0; j < weights.size(); ++j) {
        const HostTensor& values =
            mutation == Mutation::kWrongValues ? inputs.k[sequence] : inputs.v[sequence];
        const double term =
            weights[j] / sum * element(values, first + static_cast<int>(j), kv_head, d);
        want += term;
        magnitude += std::abs(term);
      }
      const double bound = magnitude * (2 * score_error + (n + 32) * u + v + cache_roundoff);
      result->Add(element(got, row, head, d), want, bound + v * std::abs(want));
    }
  }
}

OpCase AttentionCase(std::string name, AttentionProblem problem, std::vector<Mutation> must_fail) {
  problem.spec.scale = 1 / std::sqrt(static_cast<float>(problem.spec.head_dim));
  const auto run = [problem](Device& device, Mutation mutation) {
    AttentionInputs inputs = RandomInputs(problem, 9);
    const std::vector<HostTensor> got = RunAttention(device, problem, inputs);
    const KvFormat kv = mutation == Mutation::kPlainCache ? KvFormat::kF32 : problem.spec.kv;
    for (size_t s = 0; s < got.size(); ++s) {
      inputs.k[s] = AsCached(kv, inputs.k[s]);
      inputs.v[s] = problem.spec.kind == KvKind::kLatent
                        ? LastElements(inputs.k[s], problem.spec.latent_value_dim)
                        : AsCached(kv, inputs.v[s]);
    }
    OpResult result;
    for (size_t s = 0; s < got.size(); ++s) {
      const SequenceShape& shape = problem.sequences[s];
      for (int i = 0; i < shape.queries; ++i) {
        AddRow(problem, inputs, s, shape.context + i, mutation, got[s], i, &result);
      }
    }
    return result;
  };
  return {"Attention/" + std::move(name), run, std::move(must_fail)};
}

AttentionSpec Spec(int q_heads, int kv_heads, int head_dim, DType dtype, KvFormat kv,
                   int window = 0) {
  return {.kind = window > 0 ? KvKind::kSlidingWindow : KvKind::kFull,
          .layers = 2,
          .q_heads = q_heads,
          .kv_heads = kv_heads,
          .head_dim = head_dim,
          .window = window,
          .dtype = dtype,
          .kv = kv};
}

AttentionSpec Spec(int q_heads, int kv_heads, int head_dim, DType dtype, DType kv, int window = 0) {
  return Spec(q_heads, kv_heads, head_dim, dtype, PlainKv(kv), window);
}

std::string_view Name(KvFormat format) {
  switch (format) {
    case KvFormat::kF32: return "f32";
    case KvFormat::kBf16: return "bf16";
    case KvFormat::kFp8: return "fp8";
    case KvFormat::kInt8: return "int8";
    case KvFormat::kInt4: return "int4";
  }
  return "?";
}

using AddCase = std::function<void(std::string name, AttentionProblem problem)>;

/// Quantized caches under all that attention is asked for.
void AddQuantized(const AddCase& add) {
  const std::vector<SequenceShape> some = {{0, 33, {}}, {47, 2, {}}, {37, 1, {7, 30}}};
  const std::vector<SequenceShape> mixed = {{0, 60, {}}, {130, 50, {}}, {300, 1, {}}, {250, 9, {}}};
  const std::vector<SequenceShape> decodes = {{700, 1, {}}, {20, 1, {}}, {299, 1, {}}, {0, 1, {}}};
  for (const KvFormat kv : {KvFormat::kFp8, KvFormat::kInt8, KvFormat::kInt4}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      const std::string suffix = fmt::format("{}_{}", Name(kv), DTypeName(dtype));
      for (const int head_dim : {20, 64, 80, 128, 256}) {
        add(fmt::format("quantized_dim{}_{}", head_dim, suffix),
            {Spec(4, 2, head_dim, dtype, kv), 16, some});
        if (dtype == DType::kF32 || head_dim % 64 != 0) continue;
        for (const int window : {6, 290}) {
          AttentionProblem problem{Spec(16, 2, head_dim, dtype, kv, window), 16, decodes};
          problem.sinks = true;
          add(fmt::format("quantized_window{}_dim{}_{}", window, head_dim, suffix), problem);
        }
        add(fmt::format("quantized_mixed_dim{}_{}", head_dim, suffix),
            {Spec(6, 2, head_dim, dtype, kv), 16, mixed});
      }
      for (const int group : {1, 5, 8, 16}) {
        add(fmt::format("quantized_group{}_{}", group, suffix),
            {Spec(2 * group, 2, 64, dtype, kv), 16, {{90, 1, {}}, {0, 19, {}}}});
      }
      for (const int block_tokens : {32, 128}) {
        add(fmt::format("quantized_block{}_{}", block_tokens, suffix),
            {Spec(4, 2, 64, dtype, kv), block_tokens, mixed, 192});
      }
      AttentionProblem graph{Spec(4, 2, 128, dtype, kv), 16, decodes, 0, true, 3};
      graph.spec.softcap = 0.8F;
      graph.sinks = true;
      add("quantized_graph_" + suffix, graph);
      AttentionProblem latent{Spec(6, 1, 96, dtype, kv), 16, some};
      latent.spec.kind = KvKind::kLatent;
      latent.spec.latent_value_dim = 80;
      add("quantized_latent_" + suffix, latent);
    }
  }
}

}  // namespace

std::vector<OpCase> AttentionCases() {
  constexpr DType f32 = DType::kF32;
  constexpr DType bf16 = DType::kBf16;
  std::vector<OpCase> cases;
  const auto add = [&](std::string name, AttentionProblem problem) {
    std::vector<Mutation> must_fail = {Mutation::kMaskOffByOne};
    if (problem.spec.kv_heads > 1) must_fail.push_back(Mutation::kSwapKvHeads);
    // One position more of hundreds is less than what rounding a quantized cache to bf16 may do.
    const bool is_coarse = IsQuantized(problem.spec.kv) && problem.spec.dtype == bf16;
    if (problem.spec.window > 0 && !(is_coarse && problem.spec.window > 100)) {
      must_fail.push_back(Mutation::kWindowOffByOne);
    }
    if (problem.spec.softcap > 0) must_fail.push_back(Mutation::kNoSoftcap);
    if (problem.sinks) must_fail.push_back(Mutation::kNoSinks);
    if (problem.spec.kind == KvKind::kLatent) must_fail.push_back(Mutation::kWrongValues);
    if (IsQuantized(problem.spec.kv) && problem.spec.dtype == f32) {
      must_fail.push_back(Mutation::kPlainCache);
    }
    if (problem.spec.dtype == bf16 && problem.spec.kv != KvFormat::kF32) {
      // Devices may have other kernels where batches may change sums.
      AttentionProblem fast = problem;
      fast.spec.numerics = Numerics::kFast;
      cases.push_back(AttentionCase(name + "_fast", std::move(fast), {}));
    }
    cases.push_back(AttentionCase(std::move(name), std::move(problem), std::move(must_fail)));
  };
  for (int group = 1; group <= 8; ++group) {
    add(fmt::format("group{}", group),
        {Spec(2 * group, 2, 64, f32, f32), 16, {{20, 1, {}}, {0, 19, {}}}});
  }
  for (const int head_dim : {8, 20, 64, 80, 96, 112, 128, 256}) {
    add(fmt::format("dim{}_f32", head_dim),
        {Spec(4, 2, head_dim, f32, f32), 16, {{0, 33, {}}, {47, 2, {}}}});
    add(fmt::format("dim{}_bf16", head_dim),
        {Spec(4, 2, head_dim, bf16, bf16), 16, {{0, 33, {}}, {47, 2, {}}}});
  }
  for (const DType dtype : {f32, bf16}) {
    const auto latent = [&](int q_heads, int head_dim, int value_dim) {
      AttentionSpec spec = Spec(q_heads, 1, head_dim, dtype, dtype);
      spec.kind = KvKind::kLatent;
      spec.latent_value_dim = value_dim;
      return spec;
    };
    add(fmt::format("latent_{}", DTypeName(dtype)),
        {latent(4, 44, 32), 16, {{0, 33, {}}, {47, 2, {}}, {16, 1, {}}}, 64});
    add(fmt::format("latent_{}_of_many_heads", DTypeName(dtype)),
        {latent(40, 96, 80), 32, {{70, 3, {}}, {0, 1, {}}}});
    add(fmt::format("latent_{}_of_deepseek", DTypeName(dtype)),
        {latent(16, 576, 512), 16, {{300, 1, {}}, {0, 5, {}}}});
  }
  add("f32_over_bf16_cache", {Spec(4, 2, 64, f32, bf16), 16, {{5, 20, {}}}});
  add("bf16_over_f32_cache", {Spec(4, 2, 64, bf16, f32), 16, {{5, 20, {}}}});
  for (const int block_tokens : {16, 32, 64, 128}) {
    add(fmt::format("block{}", block_tokens),
        {Spec(4, 2, 64, f32, f32),
         block_tokens,
         {{130, 3, {}}, {0, 16, {}}, {127, 2, {}}, {15, 1, {}}},
         192});
  }
  add("chunks", {Spec(4, 2, 64, f32, f32), 16, {{100, 9, {1, 31, 16, 52}}, {40, 1, {40}}}});
  for (const DType dtype : {f32, bf16}) {
    add(fmt::format("fused_write_{}", DTypeName(dtype)),
        {Spec(4, 2, 64, dtype, dtype), 16, {{20, 3, {}}, {0, 17, {}}}, 0, true});
  }
  for (const int window : {1, 5, 16, 40}) {
    add(fmt::format("window{}", window),
        {Spec(4, 2, 64, f32, f32, window), 16, {{70, 40, {}}, {50, 1, {}}, {41, 2, {}}}});
  }
  // Beyond what one thread of the CPU takes, and a window that begins there.
  const std::vector<SequenceShape> stretches = {{2100, 1, {}}, {1030, 2, {}}, {3, 1, {}}};
  add("stretches_f32", {Spec(2, 1, 32, f32, f32), 16, stretches});
  add("stretches_windowed", {Spec(2, 1, 32, f32, f32, 700), 16, stretches});
  cases.push_back(AttentionCase("stretches_bf16", {Spec(6, 1, 64, bf16, bf16), 16, stretches}, {}));
  // Long enough for devices that split the cached positions of a decode.
  const std::vector<SequenceShape> long_decodes = {{700, 1, {}}, {255, 2, {}}, {511, 1, {}}};
  for (const DType dtype : {f32, bf16}) {
    const std::string name(DTypeName(dtype));
    add("long_" + name, {Spec(4, 2, 64, dtype, dtype), 16, long_decodes});
    add("long_dim256_" + name, {Spec(4, 2, 256, dtype, dtype), 16, long_decodes});
    for (const int window : {40, 300}) {
      add(fmt::format("long_window{}_{}", window, name),
          {Spec(4, 2, 64, dtype, dtype, window), 16, long_decodes});
    }
    for (const bool is_long : {false, true}) {
      const auto sequences = is_long ? long_decodes : std::vector<SequenceShape>{{20, 40, {}}};
      const std::string suffix = (is_long ? "_long_" : "_") + name;
      AttentionProblem problem{Spec(6, 2, 64, dtype, dtype), 16, sequences};
      problem.spec.softcap = 0.8F;
      add("softcap" + suffix, problem);
      problem.spec.softcap = 0;
      problem.sinks = true;
      add("sinks" + suffix, problem);
    }
    AttentionProblem windowed_sinks{Spec(6, 2, 64, dtype, dtype, 24), 16, {{90, 30, {}}}};
    windowed_sinks.sinks = true;
    add("window_sinks_" + name, windowed_sinks);
    // The layers with windows of Gemma 2 and of gpt-oss, as captured in a graph too.
    AttentionProblem gemma{Spec(4, 2, 256, dtype, dtype, 300), 16, long_decodes};
    gemma.spec.softcap = 0.8F;
    AttentionProblem gpt_oss{Spec(16, 2, 64, dtype, dtype, 128), 16, long_decodes};
    gpt_oss.sinks = true;
    for (AttentionProblem problem : {gemma, gpt_oss}) {
      const std::string model = problem.sinks ? "gpt_oss_" : "gemma2_";
      add(model + name, problem);
      problem.sequences = {{700, 1, {}}, {20, 1, {}}, {299, 1, {}}, {0, 1, {}}};
      problem.fused_write = true;
      problem.graph_padding = 4;
      add(model + "graph_" + name, problem);
    }
  }
  // As captured in a graph: from few sequences, which are split, to enough to be left whole.
  for (const DType dtype : {f32, bf16}) {
    for (const bool fused_write : {false, true}) {
      add(fmt::format("graph_{}{}", DTypeName(dtype), fused_write ? "_fused_write" : ""),
          {Spec(4, 2, 64, dtype, dtype),
           16,
           {{700, 1, {}}, {20, 1, {}}, {255, 1, {}}, {0, 1, {}}, {256, 1, {}}},
           0,
           fused_write,
           3});
    }
    add(fmt::format("graph_many_{}", DTypeName(dtype)),
        {Spec(4, 2, 64, dtype, dtype), 16, std::vector<SequenceShape>(300, {17, 1, {}}), 0, false,
         20});
  }
  // Many rows: several tiles of them and of positions, chunks after what is cached, with a decode
  // beside them, in blocks of all sizes; long contexts that may be cut into parts.
  const std::vector<SequenceShape> mixed = {{0, 60, {}}, {130, 50, {}}, {300, 1, {}}, {250, 9, {}}};
  for (const int head_dim : {64, 128, 256}) {
    add(fmt::format("mixed_dim{}", head_dim), {Spec(6, 2, head_dim, bf16, bf16), 16, mixed});
  }
  for (const int block_tokens : {32, 64, 128, 256}) {
    add(fmt::format("mixed_block{}", block_tokens),
        {Spec(6, 2, 64, bf16, bf16), block_tokens, mixed, 192});
  }
  for (const int group : {1, 7}) {
    add(fmt::format("mixed_group{}", group), {Spec(2 * group, 2, 64, bf16, bf16), 16, mixed});
  }
  for (const int window : {1, 60, 130}) {
    AttentionProblem problem{Spec(6, 2, 64, bf16, bf16, window), 16, mixed};
    problem.spec.softcap = 0.8F;
    problem.sinks = true;
    add(fmt::format("mixed_window{}", window), problem);
  }
  add("parts", {Spec(4, 2, 64, bf16, bf16), 16, {{700, 20, {}}, {800, 3, {}}}});
  AddQuantized(add);
  // A softmax of one position is 1 whatever the mask's mistake leaves; only the values are checked.
  cases.push_back(AttentionCase("one_position", {Spec(4, 2, 64, f32, f32), 16, {{0, 1, {}}}},
                                {Mutation::kSwapKvHeads}));
  cases.push_back(AttentionCase("no_sequences", {Spec(4, 2, 64, f32, f32), 16, {{16, 0, {}}}}, {}));
  add("many_sequences",
      {Spec(3, 1, 64, f32, f32), 16, std::vector<SequenceShape>(40, {17, 1, {}})});
  return cases;
}

}  // namespace gale::test
