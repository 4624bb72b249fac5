#include "conformance/attention_batch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "tensor/f8.h"

namespace gale::test {
namespace {

/// One sequence's share of a step: `count` positions from `first` on.
struct Piece {
  int sequence = 0;
  int first = 0;
  int count = 0;
};

using Step = std::vector<Piece>;

/// Context chunks of all sequences side by side, then the step whose outputs count.
std::vector<Step> Steps(const AttentionProblem& problem) {
  std::vector<Step> steps;
  Step last;
  for (size_t s = 0; s < problem.sequences.size(); ++s) {
    const SequenceShape& shape = problem.sequences[s];
    std::vector<int> chunks = shape.chunks;
    if (chunks.empty() && shape.context > 0) chunks = {shape.context};
    int first = 0;
    for (size_t i = 0; i < chunks.size(); first += chunks[i++]) {
      if (steps.size() <= i) steps.emplace_back();
      steps[i].push_back({static_cast<int>(s), first, chunks[i]});
    }
    GALE_CHECK_EQ(first, shape.context);
    last.push_back({static_cast<int>(s), shape.context, shape.queries});
  }
  steps.push_back(std::move(last));
  return steps;
}

constexpr double kUnread = -1;  // entries of a block table past a sequence's end or out of a window

class Runner {
 public:
  Runner(Device& device, const AttentionProblem& problem, const AttentionInputs& inputs)
      : device_(device), problem_(problem), inputs_(inputs) {
    attention_ = device.backend().CreateAttention(problem.spec);
    const auto allowed = attention_->BlockTokens();
    GALE_CHECK(std::ranges::find(allowed, problem.block_tokens) != allowed.end());
    DealBlocks();
    const auto bytes = static_cast<int64_t>(attention_->BytesPerBlock(problem.block_tokens)) +
                       problem.extra_block_bytes;
    HostTensor pool = Zeros(DType::kU8, {num_blocks_ + 1, bytes});
    std::ranges::fill(pool.values, 255);
    pool_ = device.Upload(pool);
    if (problem.sinks) sinks_ = device.Upload(inputs.sinks);
    // A write for padding, to slot -1, would fall into the block before those of the sequences.
    attention_->BindCache({pool_.view().Rows(1, num_blocks_ + 1), problem.block_tokens});
  }

  std::vector<HostTensor> Run() {
    std::vector<HostTensor> out;
    const std::vector<Step> steps = Steps(problem_);
    for (const Step& step : steps) {
      padding_ = &step == &steps.back() ? problem_.graph_padding : 0;
      out = RunStep(step);
    }
    const HostTensor first_block = device_.Download(pool_.view().Rows(0, 1));
    for (const double byte : first_block.values) EXPECT_EQ(byte, 255) << "padding was written";
    return out;
  }

 private:
  void DealBlocks() {
    int64_t widest = 1;
    for (const SequenceShape& shape : problem_.sequences) {
      const int blocks =
          (shape.context + shape.queries + problem_.block_tokens - 1) / problem_.block_tokens;
      tables_.emplace_back(static_cast<size_t>(blocks));
      num_blocks_ += blocks;
      widest = std::max<int64_t>(widest, blocks);
    }
    std::vector<int> order(static_cast<size_t>(num_blocks_));
    std::iota(order.begin(), order.end(), 0);
    std::mt19937_64 random(8);
    std::ranges::shuffle(order, random);
    size_t next = 0;
    block_tables_ = Zeros(DType::kI32, {static_cast<int64_t>(tables_.size()), widest + 1});
    std::ranges::fill(block_tables_.values, kUnread);
    for (size_t s = 0; s < tables_.size(); ++s) {
      for (size_t i = 0; i < tables_[s].size(); ++i) {
        tables_[s][i] = order[next++];
        block_tables_.at(static_cast<int64_t>(s), static_cast<int64_t>(i)) = tables_[s][i];
      }
    }
  }

  /// The positions of a step, one sequence after the other, [tokens, heads, head_dim].
  HostTensor Concatenate(const Step& step, const std::vector<HostTensor>& source) const {
    HostTensor out = Zeros(source[0].dtype, {0, source[0].dim(1), source[0].dim(2)});
    const int64_t row = source[0].dim(1) * source[0].dim(2);
    for (const Piece& piece : step) {
      const auto& values = source[static_cast<size_t>(piece.sequence)].values;
      out.values.insert(out.values.end(), values.begin() + piece.first * row,
                        values.begin() + (piece.first + piece.count) * row);
      out.dims[0] += piece.count;
    }
    out.dims[0] += padding_;
    out.values.insert(out.values.end(), static_cast<size_t>(padding_ * row), NAN);
    return out;
  }

  std::vector<HostTensor> RunStep(const Step& step) {
    std::vector<int32_t> cu_seqlens = {0};
    std::vector<int32_t> upper;
    HostTensor seq_lens = Zeros(DType::kI32, {0});
    HostTensor slots = Zeros(DType::kI32, {0});
    HostTensor tables = Zeros(DType::kI32, {0, block_tables_.dim(1)});
    for (const Piece& piece : step) {
      cu_seqlens.push_back(cu_seqlens.back() + piece.count);
      upper.push_back(piece.first + piece.count);
      seq_lens.values.push_back(upper.back());
      const auto sequence = static_cast<size_t>(piece.sequence);
      for (int p = piece.first; p < piece.first + piece.count; ++p) {
        const int block = tables_[sequence][static_cast<size_t>(p / problem_.block_tokens)];
        slots.values.push_back(block * problem_.block_tokens + p % problem_.block_tokens);
      }
      const auto row = block_tables_.values.begin() + piece.sequence * block_tables_.dim(1);
      tables.values.insert(tables.values.end(), row, row + block_tables_.dim(1));
      const int freed = FirstVisible(piece.first) / problem_.block_tokens;
      std::fill_n(tables.values.end() - block_tables_.dim(1), freed, kUnread);
    }
    for (int i = 0; i < padding_; ++i) {
      cu_seqlens.push_back(cu_seqlens.back() + 1);
      upper.push_back(0);
      seq_lens.values.push_back(0);
      slots.values.push_back(-1);
      tables.values.resize(tables.values.size() + static_cast<size_t>(tables.dim(1)), -1);
    }
    seq_lens.dims[0] = tables.dims[0] = std::ssize(upper);
    slots.dims[0] = static_cast<int64_t>(slots.values.size());

    const DeviceTensor device_lens = device_.Upload(seq_lens);
    const DeviceTensor device_tables = device_.Upload(tables, 2);
    const DeviceTensor device_slots = device_.Upload(slots);
    const DeviceTensor out =
        device_.Upload(Zeros(problem_.spec.dtype,
                             {slots.dim(0), problem_.spec.q_heads, problem_.spec.value_dim()}),
                       8);
    std::vector<std::byte> plan(
        attention_->PlanBytes(cu_seqlens.back(), static_cast<int>(upper.size())));
    const auto plan_bytes = static_cast<int64_t>(plan.size());
    const DeviceTensor device_plan = device_.Upload(Zeros(DType::kU8, {plan_bytes}));
    attention_->Plan({.cu_seqlens_q = cu_seqlens,
                      .seq_lens_upper = upper,
                      .seq_lens = device_lens.view(),
                      .block_tables = device_tables.view(),
                      .slot_mapping = device_slots.view(),
                      .host_plan = plan,
                      .device_plan = device_plan.view().data,
                      .fixed_launches = padding_ > 0});
    device_.backend().Copy(device_.stream(), device_plan.view().data, plan.data(), plan.size());
    if (problem_.fused_write) {
      RunFused(step, device_slots.view(), out.view());
    } else {
      RunSeparate(step, device_slots.view(), out.view());
    }
    return Split(step, device_.Download(out));
  }

  void RunSeparate(const Step& step, const TensorView& slots, const TensorView& out) {
    const DeviceTensor q = device_.Upload(Concatenate(step, inputs_.q), 8);
    const DeviceTensor k = device_.Upload(Concatenate(step, inputs_.k), 24);
    const DeviceTensor v = device_.Upload(Concatenate(step, inputs_.v), 16);
    const bool is_latent = problem_.spec.kind == KvKind::kLatent;
    attention_->WriteKv(device_.stream(),
                        {layer(), k.view(), is_latent ? TensorView() : v.view(), slots});
    attention_->Run(device_.stream(), Args(q.view(), out));
    device_.Synchronize();  // the inputs die here
  }

  void RunFused(const Step& step, const TensorView& slots, const TensorView& out) {
    const AttentionSpec& spec = problem_.spec;
    const HostTensor parts[] = {Concatenate(step, inputs_.q), Concatenate(step, inputs_.k),
                                Concatenate(step, inputs_.v)};
    const int64_t tokens = parts[0].dim(0);
    HostTensor qkv = Zeros(spec.dtype, {tokens, 0});
    for (int64_t t = 0; t < tokens; ++t) {
      for (const HostTensor& part : parts) {
        const int64_t row = part.dim(1) * part.dim(2);
        const auto begin = part.values.begin() + t * row;
        qkv.values.insert(qkv.values.end(), begin, begin + row);
      }
    }
    qkv.dims[1] = int64_t{spec.q_heads + 2 * spec.kv_heads} * spec.head_dim;
    const DeviceTensor device_qkv = device_.Upload(qkv, 8);
    const DeviceTensor positions = device_.Upload(Zeros(DType::kI32, {tokens}));
    const DeviceTensor inv_freq = device_.Upload(Zeros(DType::kF32, {spec.head_dim / 2}));
    device_.backend().QkvRopeWrite(device_.stream(),
                                   {.qkv = device_qkv.view(),
                                    .positions = positions.view(),
                                    .q_norm = {},
                                    .k_norm = {},
                                    .inv_freq = inv_freq.view(),
                                    .q_heads = spec.q_heads,
                                    .kv_heads = spec.kv_heads,
                                    .head_dim = spec.head_dim},
                                   *attention_, layer(), slots);
    TensorView q = device_qkv.view();
    q.rank = 3;
    q.dims = {tokens, spec.q_heads, spec.head_dim};
    q.strides = {device_qkv.view().strides[0], spec.head_dim, 1};
    attention_->Run(device_.stream(), Args(q, out));
    device_.Synchronize();  // the inputs die here
  }

  int layer() const { return problem_.spec.layers - 1; }

  int FirstVisible(int position) const {
    if (problem_.spec.kind != KvKind::kSlidingWindow) return 0;
    return std::max(position - problem_.spec.window + 1, 0);
  }

  AttentionArgs Args(const TensorView& q, const TensorView& out) const {
    return {.layer = layer(), .q = q, .out = out, .sinks = sinks_.view()};
  }

  static std::vector<HostTensor> Split(const Step& step, const HostTensor& out) {
    std::vector<HostTensor> parts;
    const int64_t row = out.dim(1) * out.dim(2);
    auto begin = out.values.begin();
    for (const Piece& piece : step) {
      const auto end = begin + piece.count * row;
      parts.push_back(Tensor(out.dtype, {piece.count, out.dim(1), out.dim(2)}, {begin, end}));
      begin = end;
    }
    return parts;
  }

  Device& device_;
  const AttentionProblem& problem_;
  const AttentionInputs& inputs_;
  std::unique_ptr<AttentionBackend> attention_;
  std::vector<std::vector<int>> tables_;
  HostTensor block_tables_;
  int64_t num_blocks_ = 0;
  int padding_ = 0;  ///< sequences of this step
  DeviceTensor pool_;
  DeviceTensor sinks_;  ///< empty: none
};

}  // namespace

HostTensor AsCached(KvFormat format, const HostTensor& rows) {
  HostTensor cached = rows;
  if (format == KvFormat::kF32 || format == KvFormat::kBf16) {
    const DType dtype = format == KvFormat::kF32 ? DType::kF32 : DType::kBf16;
    for (double& value : cached.values) value = RoundTo(dtype, value);
    return cached;
  }
  const auto width = static_cast<ptrdiff_t>(rows.dims.back());
  for (auto row = cached.values.begin(); row != cached.values.end(); row += width) {
    const auto low = static_cast<float>(*std::min_element(row, row + width));
    const auto high = static_cast<float>(*std::max_element(row, row + width));
    const float most = std::max(-low, high);
    float scale = most * (1.0F / (format == KvFormat::kFp8 ? 448 : 127));
    float offset = 0;
    if (format == KvFormat::kInt4) {
      scale = static_cast<float>(RoundTo(DType::kBf16, (high - low) * (1.0F / 15)));
      offset = static_cast<float>(RoundTo(DType::kBf16, low + 8 * scale));
    }
    std::for_each(row, row + width, [&](double& value) {
      const float scaled = (static_cast<float>(value) - offset) * (1.0F / scale);
      const double code = format == KvFormat::kFp8 ? ToFloat(ToF8E4M3(scaled))
                          : format == KvFormat::kInt8
                              ? std::nearbyint(scaled)
                              : std::clamp(std::nearbyint(scaled), -8.0F, 7.0F);
      value = scale * code + offset;
    });
  }
  return cached;
}

HostTensor LastElements(const HostTensor& tensor, int count) {
  HostTensor last = tensor;
  last.dims.back() = count;
  last.values.clear();
  for (auto row = tensor.values.begin(); row != tensor.values.end(); row += tensor.dims.back()) {
    last.values.insert(last.values.end(), row + (tensor.dims.back() - count),
                       row + tensor.dims.back());
  }
  return last;
}

AttentionInputs RandomInputs(const AttentionProblem& problem, uint64_t seed) {
  AttentionInputs inputs;
  std::mt19937_64 random(seed);
  const AttentionSpec& spec = problem.spec;
  for (const SequenceShape& shape : problem.sequences) {
    const int64_t positions = shape.context + shape.queries;
    inputs.q.push_back(RandomTensor(random, spec.dtype, {positions, spec.q_heads, spec.head_dim}));
    inputs.k.push_back(RandomTensor(random, spec.dtype, {positions, spec.kv_heads, spec.head_dim}));
    inputs.v.push_back(
        spec.kind == KvKind::kLatent
            ? LastElements(inputs.k.back(), spec.latent_value_dim)
            : RandomTensor(random, spec.dtype, {positions, spec.kv_heads, spec.head_dim}));
  }
  if (problem.sinks) {
    inputs.sinks = RandomTensor(random, DType::kF32, {spec.q_heads}, 2);
    constexpr double kShare = 5;  // as much as some hundred positions
    for (double& sink : inputs.sinks.values) sink = RoundTo(DType::kF32, sink + kShare);
  }
  return inputs;
}

std::vector<HostTensor> RunAttention(Device& device, const AttentionProblem& problem,
                                     const AttentionInputs& inputs) {
  return Runner(device, problem, inputs).Run();
}

}  // namespace gale::test
