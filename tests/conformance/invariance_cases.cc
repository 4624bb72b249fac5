// Numerics::kBatchInvariant, bit for bit: a row alone equals the row in any batch, a prompt in
// chunks equals the whole prompt, and the number of threads changes nothing.
#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "backend/kv_format.h"
#include "conformance/attention_batch.h"
#include "conformance/op_case.h"

namespace gale::test {
namespace {

void AddEqual(const HostTensor& got, const HostTensor& want, OpResult* result) {
  GALE_CHECK_EQ(got.values.size(), want.values.size());
  for (size_t i = 0; i < got.values.size(); ++i) result->Add(got.values[i], want.values[i], 0);
}

HostTensor Rows(const HostTensor& tensor, int64_t begin, int64_t end) {
  HostTensor rows = tensor;
  const auto row = static_cast<ptrdiff_t>(tensor.values.size()) / tensor.dim(0);
  rows.dims[0] = end - begin;
  rows.values.assign(tensor.values.begin() + begin * row, tensor.values.begin() + end * row);
  return rows;
}

/// The nearest other value: what a sum must not shrug off entirely.
void Nudge(HostTensor* tensor) {
  for (double& value : tensor->values)
    value = RoundTo(tensor->dtype, value * (1 + 2 * Roundoff(tensor->dtype)));
}

// ---- ops on rows ----

struct RowOp {
  std::string name;
  DType dtype;
  int64_t columns;
  std::function<HostTensor(Device&, const HostTensor& x)> run;
};

RowOp LinearOp(DType weight_dtype, DType dtype, int64_t in, int64_t columns) {
  return {fmt::format("Linear_{}_{}_{}x{}", DTypeName(weight_dtype), DTypeName(dtype), in, columns),
          dtype, in, [=](Device& device, const HostTensor& x) {
            std::mt19937_64 random(11);
            const HostTensor weight = RandomTensor(random, weight_dtype, {columns, in});
            const QuantFormat format{BlockCode::kNone, weight_dtype};
            const LinearKernel* kernel = device.backend().FindLinear(
                {format, in, columns, dtype, Numerics::kBatchInvariant});
            GALE_CHECK(kernel != nullptr);
            Device host("cpu");
            const DeviceTensor host_weight = host.Upload(weight);
            const auto packed = kernel->Prepare({format, in, columns, host_weight.view()});
            GALE_CHECK(packed.has_value());
            const DeviceTensor device_x = device.Upload(x);
            const DeviceTensor out = device.Upload(Zeros(DType::kF32, {x.dim(0), columns}));
            kernel->Run(device.stream(), {device_x.view(), &*packed, {}, out.view()});
            return device.Download(out);
          }};
}

RowOp RmsNormOp(DType dtype, int64_t hidden) {
  return {fmt::format("RmsNorm_{}_{}", DTypeName(dtype), hidden), dtype, hidden,
          [=](Device& device, const HostTensor& x) {
            std::mt19937_64 random(12);
            const DeviceTensor weight = device.Upload(RandomTensor(random, dtype, {hidden}));
            const DeviceTensor device_x = device.Upload(x);
            device.backend().RmsNorm(device.stream(), {.x = device_x.view(),
                                                       .weight = weight.view(),
                                                       .residual = {},
                                                       .out = device_x.view()});
            return device.Download(device_x);
          }};
}

RowOp GatedActivationOp(DType dtype, int64_t n) {
  return {fmt::format("GatedActivation_{}_{}", DTypeName(dtype), n), dtype, 2 * n,
          [=](Device& device, const HostTensor& x) {
            const DeviceTensor device_x = device.Upload(x);
            const DeviceTensor out = device.Upload(Zeros(dtype, {x.dim(0), n}));
            device.backend().GatedActivation(device.stream(), {device_x.view(), out.view()});
            return device.Download(out);
          }};
}

std::vector<RowOp> RowOps() {
  constexpr DType f32 = DType::kF32;
  constexpr DType bf16 = DType::kBf16;
  return {LinearOp(f32, f32, 300, 61), LinearOp(bf16, bf16, 257, 130),
          LinearOp(bf16, f32, 64, 50), LinearOp(DType::kF16, f32, 100, 31),
          RmsNormOp(f32, 333),         RmsNormOp(bf16, 256),
          GatedActivationOp(f32, 100), GatedActivationOp(bf16, 4100)};
}

/// Slices of a batch against the same rows of the whole.
OpCase RowsCase(const RowOp& op) {
  const auto run = [op](Device& device, Mutation mutation) {
    constexpr int64_t kRows = 270;
    std::mt19937_64 random(13);
    HostTensor x = RandomTensor(random, op.dtype, {kRows, op.columns});
    const HostTensor whole = op.run(device, x);
    if (mutation == Mutation::kOtherInput) Nudge(&x);
    OpResult result;
    const std::pair<int64_t, int64_t> slices[] = {{0, 1},     {1, 2},  {269, 270}, {5, 7},
                                                  {7, 10},    {3, 8},  {20, 28},   {40, 49},
                                                  {100, 117}, {9, 269}};
    for (const auto& [begin, end] : slices) {
      AddEqual(op.run(device, Rows(x, begin, end)), Rows(whole, begin, end), &result);
    }
    return result;
  };
  return {"Invariance/rows_" + op.name, run, {Mutation::kOtherInput}};
}

OpCase ThreadsCase(const RowOp& op) {
  const auto run = [op](Device& device, Mutation mutation) {
    std::mt19937_64 random(14);
    HostTensor x = RandomTensor(random, op.dtype, {37, op.columns});
    const HostTensor want = op.run(device, x);
    if (mutation == Mutation::kOtherInput) Nudge(&x);
    OpResult result;
    for (const int threads : {1, 2, 3, 7}) {
      Device other(device.name(), {.threads = threads});
      AddEqual(op.run(other, x), want, &result);
    }
    return result;
  };
  return {"Invariance/threads_" + op.name, run, {Mutation::kOtherInput}};
}

// ---- attention ----

/// With sinks, which every part of a softmax must count once.
AttentionProblem Problem(DType dtype, int group, int window, std::vector<SequenceShape> sequences) {
  AttentionSpec spec{.kind = window > 0 ? KvKind::kSlidingWindow : KvKind::kFull,
                     .layers = 1,
                     .q_heads = 2 * group,
                     .kv_heads = 2,
                     .head_dim = 64,
                     .window = window,
                     .scale = 0.125F,
                     .dtype = dtype,
                     .kv = PlainKv(dtype)};
  AttentionProblem problem{spec, 16, std::move(sequences)};
  problem.sinks = true;
  return problem;
}

/// As DeepSeek's layers have it, but narrower.
AttentionProblem LatentProblem(DType dtype, int q_heads) {
  AttentionProblem problem = Problem(dtype, 1, 0, {});
  problem.spec.kind = KvKind::kLatent;
  problem.spec.q_heads = q_heads;
  problem.spec.kv_heads = 1;
  problem.spec.head_dim = 80;
  problem.spec.latent_value_dim = 64;
  problem.sinks = false;
  return problem;
}

/// One sequence, its end computed after different chunks.
OpCase ChunksCase(const AttentionProblem& problem, int positions,
                  std::vector<std::vector<int>> chunkings) {
  const AttentionSpec& spec = problem.spec;
  const auto run = [=](Device& device, Mutation mutation) {
    AttentionProblem whole = problem;
    whole.sequences = {{0, positions, {}}};
    AttentionInputs inputs = RandomInputs(whole, 15);
    const HostTensor want = RunAttention(device, whole, inputs)[0];
    if (mutation == Mutation::kOtherInput) {
      if (IsQuantized(spec.kv)) {
        for (double& value : inputs.k[0].values) value *= 2;  // codes shrug off less
      } else {
        Nudge(&inputs.k[0]);
      }
    }
    OpResult result;
    for (const std::vector<int>& chunks : chunkings) {
      int context = 0;
      for (const int chunk : chunks) context += chunk;
      AttentionProblem split = problem;
      split.sequences = {{context, positions - context, chunks}};
      AddEqual(RunAttention(device, split, inputs)[0], Rows(want, context, positions), &result);
    }
    return result;
  };
  return {fmt::format("Invariance/chunks_of_{}_{}_group{}_window{}{}{}", positions,
                      DTypeName(spec.dtype), spec.q_heads / spec.kv_heads, spec.window,
                      spec.kind == KvKind::kLatent ? "_latent" : "",
                      IsQuantized(spec.kv) ? fmt::format("_kv{}", static_cast<int>(spec.kv)) : ""),
          run,
          {Mutation::kOtherInput}};
}

/// Sequences together against each alone, on other numbers of threads.
OpCase NeighboursCase(DType dtype, int group) {
  const auto run = [=](Device& device, Mutation mutation) {
    const AttentionProblem together =
        Problem(dtype, group, 0, {{30, 1, {}}, {0, 50, {}}, {77, 3, {}}, {12, 9, {}}});
    AttentionInputs inputs = RandomInputs(together, 16);
    const std::vector<HostTensor> want = RunAttention(device, together, inputs);
    if (mutation == Mutation::kOtherInput) Nudge(&inputs.v[2]);
    OpResult result;
    for (size_t s = 0; s < want.size(); ++s) {
      Device other(device.name(), {.threads = static_cast<int>(s) + 1});
      const AttentionProblem alone = Problem(dtype, group, 0, {together.sequences[s]});
      AddEqual(RunAttention(other, alone,
                            {{inputs.q[s]}, {inputs.k[s]}, {inputs.v[s]}, inputs.sinks})[0],
               want[s], &result);
    }
    return result;
  };
  return {fmt::format("Invariance/neighbours_{}_group{}", DTypeName(dtype), group),
          run,
          {Mutation::kOtherInput}};
}

/// A decode step with the launches of a graph, padded, against the same without.
OpCase GraphCase(DType dtype, int group, int window) {
  const auto run = [=](Device& device, Mutation mutation) {
    AttentionProblem problem =
        Problem(dtype, group, window, {{30, 1, {}}, {700, 1, {}}, {0, 1, {}}, {511, 1, {}}});
    AttentionInputs inputs = RandomInputs(problem, 17);
    const std::vector<HostTensor> want = RunAttention(device, problem, inputs);
    if (mutation == Mutation::kOtherInput) Nudge(&inputs.v[1]);
    problem.graph_padding = 5;
    const std::vector<HostTensor> got = RunAttention(device, problem, inputs);
    OpResult result;
    for (size_t s = 0; s < want.size(); ++s) AddEqual(got[s], want[s], &result);
    return result;
  };
  return {fmt::format("Invariance/graph_{}_group{}_window{}", DTypeName(dtype), group, window),
          run,
          {Mutation::kOtherInput}};
}

}  // namespace

std::vector<OpCase> InvarianceCases() {
  std::vector<OpCase> cases;
  for (const RowOp& op : RowOps()) {
    cases.push_back(RowsCase(op));
    cases.push_back(ThreadsCase(op));
  }
  const std::vector<std::vector<int>> chunkings = {
      {99}, {16}, {17, 30}, {1, 1, 1, 61}, {33, 33, 33}};
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int group : {1, 3, 8}) {
      cases.push_back(ChunksCase(Problem(dtype, group, 0, {}), 100, chunkings));
      cases.push_back(NeighboursCase(dtype, group));
    }
    cases.push_back(ChunksCase(Problem(dtype, 2, 20, {}), 100, chunkings));
    cases.push_back(GraphCase(dtype, 4, 0));
    cases.push_back(GraphCase(dtype, 4, 300));
    for (const int q_heads : {3, 16, 50}) {
      cases.push_back(ChunksCase(LatentProblem(dtype, q_heads), 100, chunkings));
    }
    cases.push_back(ChunksCase(LatentProblem(dtype, 16), 600, {{599}, {256, 341}, {257}}));
    for (const KvFormat kv : {KvFormat::kFp8, KvFormat::kInt8, KvFormat::kInt4}) {
      const auto quantized = [kv](AttentionProblem problem) {
        problem.spec.kv = kv;
        return problem;
      };
      cases.push_back(ChunksCase(quantized(Problem(dtype, 3, 0, {})), 100, chunkings));
      cases.push_back(ChunksCase(quantized(Problem(dtype, 2, 300, {})), 600, {{599}, {256, 341}}));
      cases.push_back(ChunksCase(quantized(LatentProblem(dtype, 16)), 100, chunkings));
    }
    // Long enough for devices that split the cached positions of a decode.
    cases.push_back(ChunksCase(Problem(dtype, 2, 0, {}), 600, {{599}, {256, 341}, {257}}));
    cases.push_back(ChunksCase(Problem(dtype, 2, 300, {}), 600, {{599}, {256, 341}}));
  }
  return cases;
}

}  // namespace gale::test
