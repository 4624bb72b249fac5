// Look-ups, norms, rotary embedding, activation and log-probabilities against fp64 references.
//
// Bounds: u is the unit roundoff of f32, v that of the output dtype. A device computes in f32 in
// any order; a sum of n products has a relative error of at most (n + 2) u when all terms have one
// sign. The result is then rounded once to the output dtype: + v |want|.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/rng.h"
#include "conformance/op_case.h"

namespace gale::test {
namespace {

constexpr double kU = 0x1p-24;

double OutputRounding(DType dtype, double want) {
  return dtype == DType::kF32 ? 0 : Roundoff(dtype) * std::abs(want) + 1e-38;
}

// ---- look-ups: exact up to the conversion ----

OpCase EmbeddingCase(DType table_dtype, DType out_dtype, int64_t tokens, int64_t vocab,
                     int64_t hidden, int64_t padding, float scale = 1) {
  const auto run = [=](Device& device, Mutation mutation) {
    std::mt19937_64 random(1);
    const HostTensor table = RandomTensor(random, table_dtype, {vocab, hidden});
    HostTensor ids = Zeros(DType::kI32, {tokens});
    for (double& id : ids.values) id = static_cast<double>(random() % static_cast<uint64_t>(vocab));
    // Every third one is only known to the device, in a slot of its own.
    HostTensor given = ids;
    HostTensor last_tokens = Zeros(DType::kI32, {tokens + 1});
    for (int64_t t = 0; t < tokens; t += 3) {
      const int64_t slot = tokens - t;
      last_tokens.values[static_cast<size_t>(slot)] = ids.values[static_cast<size_t>(t)];
      given.values[static_cast<size_t>(t)] = static_cast<double>(~slot);
    }
    const DeviceTensor device_table = device.Upload(table, padding);
    const DeviceTensor device_ids = device.Upload(given);
    const DeviceTensor device_last_tokens = device.Upload(last_tokens);
    const DeviceTensor out = device.Upload(Zeros(out_dtype, {tokens, hidden}), padding);
    device.backend().Embedding(device.stream(), {.tokens = device_ids.view(),
                                                 .table = device_table.view(),
                                                 .out = out.view(),
                                                 .last_tokens = device_last_tokens.view(),
                                                 .scale = scale});
    const HostTensor got = device.Download(out);
    const double factor = mutation == Mutation::kNoScale ? 1 : scale;
    OpResult result;
    for (int64_t t = 0; t < tokens; ++t) {
      auto id = static_cast<int64_t>(ids.values[static_cast<size_t>(t)]);
      if (mutation == Mutation::kWrongRow) id = (id + 1) % vocab;
      for (int64_t i = 0; i < hidden; ++i) {
        result.Add(got.at(t, i), RoundTo(out_dtype, RoundTo(DType::kF32, factor * table.at(id, i))),
                   0);
      }
    }
    return result;
  };
  OpCase op{fmt::format("Embedding/{}_to_{}_{}x{}_of_{}_pad{}_scale{}", DTypeName(table_dtype),
                        DTypeName(out_dtype), tokens, hidden, vocab, padding, scale),
            run,
            {}};
  if (tokens > 0) op.must_fail = {Mutation::kWrongRow};
  if (scale != 1) op.must_fail.push_back(Mutation::kNoScale);
  return op;
}

OpCase GatherCase(DType dtype, int64_t rows, int64_t hidden, std::vector<double> picked) {
  const auto run = [=](Device& device, Mutation mutation) {
    std::mt19937_64 random(2);
    const HostTensor x = RandomTensor(random, dtype, {rows, hidden});
    const auto n = static_cast<int64_t>(picked.size());
    const DeviceTensor device_x = device.Upload(x, 5);
    const DeviceTensor device_rows = device.Upload(Tensor(DType::kI32, {n}, picked));
    const DeviceTensor out = device.Upload(Zeros(dtype, {n, hidden}), 3);
    device.backend().GatherRows(device.stream(), {device_x.view(), device_rows.view(), out.view()});
    const HostTensor got = device.Download(out);
    OpResult result;
    for (int64_t r = 0; r < n; ++r) {
      auto row = static_cast<int64_t>(picked[static_cast<size_t>(r)]);
      if (mutation == Mutation::kWrongRow) row = (row + 1) % rows;
      for (int64_t i = 0; i < hidden; ++i) result.Add(got.at(r, i), x.at(row, i), 0);
    }
    return result;
  };
  OpCase op{fmt::format("GatherRows/{}_{}_of_{}x{}", DTypeName(dtype), picked.size(), rows, hidden),
            run,
            {}};
  if (!picked.empty()) op.must_fail = {Mutation::kWrongRow};
  return op;
}

// ---- RMSNorm ----

struct NormShape {
  DType dtype;
  DType weight;
  int64_t tokens;
  int64_t hidden;
  bool residual;
  bool in_place;
  double deviation = 1;
  bool over_residual = false;  ///< the output replaces the residual
  float weight_offset = 0;
};

OpCase RmsNormCase(const NormShape& shape) {
  const auto run = [=](Device& device, Mutation mutation) {
    std::mt19937_64 random(3);
    const std::vector<int64_t> dims = {shape.tokens, shape.hidden};
    const HostTensor x = RandomTensor(random, shape.dtype, dims, shape.deviation);
    const HostTensor residual = RandomTensor(random, shape.dtype, dims, shape.deviation);
    const HostTensor weight = RandomTensor(random, shape.weight, {shape.hidden});
    const DeviceTensor device_x = device.Upload(x, 2);
    const DeviceTensor device_weight = device.Upload(weight);
    const DeviceTensor device_residual = device.Upload(residual, 7);
    const DeviceTensor separate = device.Upload(Zeros(shape.dtype, dims), 1);
    const DeviceTensor& out = shape.in_place        ? device_x
                              : shape.over_residual ? device_residual
                                                    : separate;
    constexpr float kEps = 1e-5F;
    device.backend().RmsNorm(device.stream(),
                             {.x = device_x.view(),
                              .weight = device_weight.view(),
                              .residual = shape.residual ? device_residual.view() : TensorView(),
                              .out = out.view(),
                              .eps = kEps,
                              .weight_offset = shape.weight_offset});
    const HostTensor got = device.Download(out);
    const HostTensor got_residual = device.Download(device_residual);
    const auto n = static_cast<double>(shape.hidden);
    const double offset = mutation == Mutation::kNoWeightOffset ? 0 : shape.weight_offset;
    OpResult result;
    for (int64_t t = 0; t < shape.tokens; ++t) {
      std::vector<double> row(static_cast<size_t>(shape.hidden));
      for (int64_t i = 0; i < shape.hidden; ++i) {
        double sum = x.at(t, i);
        if (shape.residual && mutation != Mutation::kSkipResidual) sum += residual.at(t, i);
        row[static_cast<size_t>(i)] = RoundTo(shape.dtype, sum);
      }
      double squares = 0;
      for (const double value : row) squares += value * value;
      if (mutation == Mutation::kDropLastTerm) squares -= row.back() * row.back();
      const double scale = 1 / std::sqrt(squares / n + kEps);
      for (int64_t i = 0; i < shape.hidden; ++i) {
        const double stored = row[static_cast<size_t>(i)];
        const double factor = offset + weight.values[static_cast<size_t>(i)];
        const double want = stored * scale * factor;
        // The root halves the relative error of the sum. A device may norm x + residual before or
        // after it is rounded to storage: one more v.
        double bound = std::abs(want) * ((n / 2 + 6) * kU) + OutputRounding(shape.dtype, want);
        bound += std::abs(stored * scale) * kU * offset;  // of the factor's sum
        if (shape.residual) bound += Roundoff(shape.dtype) * std::abs(want);
        result.Add(got.at(t, i), want, bound);
        if (shape.over_residual) continue;
        result.Add(got_residual.at(t, i), shape.residual ? stored : residual.at(t, i), 0);
      }
    }
    return result;
  };
  OpCase op{fmt::format("RmsNorm/{}_weight_{}_{}x{}{}{}{}{}{}", DTypeName(shape.dtype),
                        DTypeName(shape.weight), shape.tokens, shape.hidden,
                        shape.residual ? "_residual" : "", shape.in_place ? "_in_place" : "",
                        shape.over_residual ? "_over_residual" : "",
                        shape.deviation == 1 ? "" : fmt::format("_deviation{}", shape.deviation),
                        shape.weight_offset == 0 ? "" : "_offset"),
            run,
            {}};
  // In bf16, and where eps rules, one of many squares is below the rounding of the output.
  if (shape.tokens > 0 && shape.dtype == DType::kF32 && shape.deviation >= 1) {
    op.must_fail.push_back(Mutation::kDropLastTerm);
  }
  if (shape.tokens > 0 && shape.residual) op.must_fail.push_back(Mutation::kSkipResidual);
  if (shape.weight_offset != 0) op.must_fail.push_back(Mutation::kNoWeightOffset);
  return op;
}

// ---- QkvRope ----

struct RopeShape {
  DType dtype;
  int64_t tokens;
  int q_heads;
  int kv_heads;
  int head_dim;
  int rotary_dim;
  bool norms;
  float scale = 1;
  bool interleaved = false;
  float norm_weight_offset = 0;
};

/// One head, normed and rotated, with the bound of each element.
struct HeadResult {
  std::vector<double> want;
  std::vector<double> bound;
};

HeadResult RotatedHead(const RopeShape& shape, std::vector<double> head, const HostTensor& norm,
                       const std::vector<float>& inv_freq, int position, Mutation mutation) {
  const auto dim = static_cast<double>(shape.head_dim);
  constexpr double kEps = 1e-6F;
  double relative = 4 * kU;
  double absolute = 0;
  if (shape.norms && mutation != Mutation::kSkipHeadNorm) {
    const double offset =
        mutation == Mutation::kNoWeightOffset ? 0 : double{shape.norm_weight_offset};
    const double squares = std::inner_product(head.begin(), head.end(), head.begin(), 0.0);
    const double scale = 1 / std::sqrt(squares / dim + kEps);
    for (size_t i = 0; i < head.size(); ++i) head[i] *= scale * (offset + norm.values[i]);
    relative += (dim / 2 + 6) * kU;
    absolute = 8 * kU * offset;  // a factor's sum may cancel, what it multiplies is below 8
  }
  HeadResult result{head, {}};
  for (const double value : head) {
    result.bound.push_back(std::abs(value) * relative + absolute +
                           OutputRounding(shape.dtype, value));
  }
  const auto half = static_cast<size_t>(shape.rotary_dim / 2);
  for (size_t i = 0; i < half && mutation != Mutation::kNoRope; ++i) {
    const double frequency = mutation == Mutation::kWrongTheta ? inv_freq[i] * 1.01F : inv_freq[i];
    // The angle is rounded to f32 by contract (models are trained with it).
    const double angle = static_cast<float>(position) * static_cast<float>(frequency);
    const double c = std::cos(angle) * shape.scale;
    const double s = std::sin(angle) * shape.scale;
    const bool interleaved = shape.interleaved != (mutation == Mutation::kOtherPairs);
    const size_t first = interleaved ? 2 * i : i;
    const size_t second = interleaved ? 2 * i + 1 : i + half;
    const double a = head[first];
    const double b = head[second];
    result.want[first] = a * c - b * s;
    result.want[second] = b * c + a * s;
    // A sine in f32 is off by at most 2 units of 1.
    const double bound = (std::abs(a) + std::abs(b)) * shape.scale * (relative + 8 * kU) +
                         2 * absolute * shape.scale;
    result.bound[first] = bound + OutputRounding(shape.dtype, result.want[first]);
    result.bound[second] = bound + OutputRounding(shape.dtype, result.want[second]);
  }
  return result;
}

OpCase QkvRopeCase(const RopeShape& shape) {
  const auto run = [=](Device& device, Mutation mutation) {
    std::mt19937_64 random(4);
    const int heads = shape.q_heads + 2 * shape.kv_heads;
    const int64_t width = int64_t{heads} * shape.head_dim;
    const HostTensor qkv = RandomTensor(random, shape.dtype, {shape.tokens, width});
    const HostTensor q_norm = RandomTensor(random, shape.dtype, {shape.head_dim});
    const HostTensor k_norm = RandomTensor(random, shape.dtype, {shape.head_dim});
    HostTensor positions = Zeros(DType::kI32, {shape.tokens});
    for (double& position : positions.values) position = static_cast<double>(random() % 40000);
    HostTensor inv_freq = Zeros(DType::kF32, {shape.rotary_dim / 2});
    std::vector<float> frequencies;
    for (size_t i = 0; i < inv_freq.values.size(); ++i) {
      frequencies.push_back(
          std::pow(10000.0F, -2.0F * static_cast<float>(i) / static_cast<float>(shape.rotary_dim)));
      inv_freq.values[i] = frequencies.back();
    }
    const DeviceTensor device_qkv = device.Upload(qkv, 9);
    const DeviceTensor device_positions = device.Upload(positions);
    const DeviceTensor device_q_norm = device.Upload(q_norm);
    const DeviceTensor device_k_norm = device.Upload(k_norm);
    const DeviceTensor device_freq = device.Upload(inv_freq);
    device.backend().QkvRope(device.stream(),
                             {.qkv = device_qkv.view(),
                              .positions = device_positions.view(),
                              .q_norm = shape.norms ? device_q_norm.view() : TensorView(),
                              .k_norm = shape.norms ? device_k_norm.view() : TensorView(),
                              .inv_freq = device_freq.view(),
                              .rope_scale = shape.scale,
                              .norm_weight_offset = shape.norm_weight_offset,
                              .interleaved = shape.interleaved,
                              .q_heads = shape.q_heads,
                              .kv_heads = shape.kv_heads,
                              .head_dim = shape.head_dim});
    const HostTensor got = device.Download(device_qkv);
    OpResult result;
    for (int64_t t = 0; t < shape.tokens; ++t) {
      for (int h = 0; h < heads; ++h) {
        const auto first = static_cast<size_t>(t * width + int64_t{h} * shape.head_dim);
        const std::vector<double> head(
            qkv.values.begin() + static_cast<ptrdiff_t>(first),
            qkv.values.begin() + static_cast<ptrdiff_t>(first) + shape.head_dim);
        const bool is_value = h >= shape.q_heads + shape.kv_heads;
        const HeadResult want =
            is_value
                ? HeadResult{head, std::vector<double>(head.size())}
                : RotatedHead(shape, head, h < shape.q_heads ? q_norm : k_norm, frequencies,
                              static_cast<int>(positions.values[static_cast<size_t>(t)]), mutation);
        for (size_t i = 0; i < head.size(); ++i) {
          result.Add(got.values[first + i], want.want[i], want.bound[i]);
        }
      }
    }
    return result;
  };
  OpCase op{fmt::format("QkvRope/{}_{}tokens_{}q_{}kv_dim{}_rotary{}{}{}{}{}",
                        DTypeName(shape.dtype), shape.tokens, shape.q_heads, shape.kv_heads,
                        shape.head_dim, shape.rotary_dim, shape.norms ? "_norms" : "",
                        shape.scale == 1 ? "" : "_scaled", shape.interleaved ? "_interleaved" : "",
                        shape.norm_weight_offset == 0 ? "" : "_offset"),
            run,
            {}};
  if (shape.tokens > 0) op.must_fail = {Mutation::kNoRope, Mutation::kWrongTheta};
  if (shape.tokens > 0 && shape.norms) op.must_fail.push_back(Mutation::kSkipHeadNorm);
  if (shape.interleaved) op.must_fail.push_back(Mutation::kOtherPairs);
  if (shape.norm_weight_offset != 0) op.must_fail.push_back(Mutation::kNoWeightOffset);
  return op;
}

// ---- Rotate ----

OpCase RotateCase(DType dtype, int64_t tokens, int heads, int rotary_dim, bool interleaved,
                  bool in_place) {
  const auto run = [=](Device& device, Mutation mutation) {
    constexpr float kScale = 1.2F;
    constexpr int kGap = 6;  // between the rotated parts of heads
    const int width = rotary_dim + kGap;
    std::mt19937_64 random(19);
    const HostTensor x = RandomTensor(random, dtype, {tokens, heads, width});
    HostTensor positions = Zeros(DType::kI32, {tokens});
    for (double& position : positions.values) position = static_cast<double>(random() % 40000);
    std::vector<float> frequencies;
    HostTensor inv_freq = Zeros(DType::kF32, {rotary_dim / 2});
    for (size_t i = 0; i < inv_freq.values.size(); ++i) {
      frequencies.push_back(
          std::pow(10000.0F, -2.0F * static_cast<float>(i) / static_cast<float>(rotary_dim)));
      inv_freq.values[i] = frequencies.back();
    }
    const DeviceTensor device_x = device.Upload(x, 4);
    const DeviceTensor separate = device.Upload(Zeros(dtype, {tokens, heads, width}), 2);
    const DeviceTensor& out = in_place ? device_x : separate;
    const DeviceTensor device_positions = device.Upload(positions);
    const DeviceTensor device_freq = device.Upload(inv_freq);
    device.backend().Rotate(device.stream(), {.x = device_x.view().Slice(2, kGap, width),
                                              .positions = device_positions.view(),
                                              .inv_freq = device_freq.view(),
                                              .rope_scale = kScale,
                                              .interleaved = interleaved,
                                              .out = out.view().Slice(2, kGap, width)});
    const HostTensor got = device.Download(out);
    const RopeShape shape = {.dtype = dtype,
                             .tokens = tokens,
                             .q_heads = heads,
                             .kv_heads = 0,
                             .head_dim = rotary_dim,
                             .rotary_dim = rotary_dim,
                             .norms = false,
                             .scale = kScale,
                             .interleaved = interleaved};
    OpResult result;
    for (int64_t row = 0; row < tokens * heads; ++row) {
      const auto first = x.values.begin() + row * width;
      const HeadResult want = RotatedHead(
          shape, {first + kGap, first + width}, {}, frequencies,
          static_cast<int>(positions.values[static_cast<size_t>(row / heads)]), mutation);
      for (int i = 0; i < width; ++i) {
        const double value = got.values[static_cast<size_t>(row * width + i)];
        if (i < kGap) {
          result.Add(value, in_place ? first[i] : 0, 0);
        } else {
          const auto at = static_cast<size_t>(i - kGap);
          result.Add(value, want.want[at], want.bound[at]);
        }
      }
    }
    return result;
  };
  OpCase op{fmt::format("Rotate/{}_{}x{}x{}{}{}", DTypeName(dtype), tokens, heads, rotary_dim,
                        interleaved ? "_interleaved" : "", in_place ? "_in_place" : ""),
            run,
            {}};
  if (tokens > 0) {
    op.must_fail = {Mutation::kNoRope, Mutation::kWrongTheta, Mutation::kOtherPairs};
  }
  return op;
}

// ---- GatedActivation ----

constexpr const char* kActivationNames[] = {"silu", "gelu_tanh", "clamped_swiglu"};
constexpr float kAlpha = 1.702F;
constexpr float kLimit = 1.5F;

OpCase GatedActivationCase(DType dtype, int64_t tokens, int64_t n, double deviation,
                           Activation activation = Activation::kSilu) {
  const auto run = [=](Device& device, Mutation mutation) {
    std::mt19937_64 random(5);
    const HostTensor gate_up = RandomTensor(random, dtype, {tokens, 2 * n}, deviation);
    const DeviceTensor device_gate_up = device.Upload(gate_up, 3);
    const DeviceTensor out = device.Upload(Zeros(dtype, {tokens, n}), 4);
    device.backend().GatedActivation(device.stream(), {.gate_up = device_gate_up.view(),
                                                       .out = out.view(),
                                                       .activation = activation,
                                                       .alpha = kAlpha,
                                                       .limit = kLimit});
    const HostTensor got = device.Download(out);
    OpResult result;
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = 0; i < n; ++i) {
        double gate = gate_up.at(t, i);
        double up = gate_up.at(t, n + i);
        if (mutation == Mutation::kSwapHalves) std::swap(gate, up);
        const bool is_gelu =
            (activation == Activation::kGeluTanh) != (mutation == Mutation::kOtherActivation);
        double steepness = gate;
        // GELU: (1 + tanh(t)) / 2 is 1 / (1 + exp(-2 t)).
        if (is_gelu) {
          steepness = 2 * std::sqrt(2 / std::numbers::pi) * (gate + 0.044715 * gate * gate * gate);
        } else if (activation == Activation::kClampedSwiglu) {
          gate = std::min<double>(gate, kLimit);
          up = std::clamp<double>(up, -kLimit, kLimit) + 1;
          steepness = kAlpha * gate;
        }
        const double want = gate / (1 + std::exp(-steepness)) * up;
        // exp: a few units, and those of its argument (SiLU's is exact); below -87 f32 cannot hold
        // exp(gate).
        const double argument = activation == Activation::kSilu ? 0 : 8 * std::abs(steepness);
        const double bound = (16 + argument) * kU * std::abs(want) + OutputRounding(dtype, want) +
                             1e-35 * std::abs(gate * up);
        result.Add(got.at(t, i), want, bound);
      }
    }
    return result;
  };
  OpCase op{fmt::format("GatedActivation/{}_{}_{}x{}_deviation{}",
                        kActivationNames[static_cast<int>(activation)], DTypeName(dtype), tokens, n,
                        deviation),
            run,
            {}};
  if (tokens > 0) op.must_fail = {Mutation::kSwapHalves};
  if (tokens > 0 && n > 1) op.must_fail.push_back(Mutation::kOtherActivation);
  return op;
}

// ---- AddSilu ----

OpCase AddSiluCase(DType dtype, int64_t rows, int64_t n, double deviation) {
  const auto run = [=](Device& device, Mutation mutation) {
    std::mt19937_64 random(11);
    const HostTensor x = RandomTensor(random, dtype, {rows, n}, 1);
    const HostTensor y = RandomTensor(random, dtype, {rows, n}, deviation);
    const DeviceTensor device_x = device.Upload(x, 8);
    const DeviceTensor device_y = device.Upload(y, 3);
    device.backend().AddSilu(device.stream(), {device_x.view(), device_y.view()});
    const HostTensor got = device.Download(device_x);
    OpResult result;
    for (size_t i = 0; i < x.values.size(); ++i) {
      const double added = y.values[i] / (1 + std::exp(-y.values[i]));
      const double want = (mutation == Mutation::kSkipResidual ? 0 : x.values[i]) + added;
      result.Add(got.values[i], want,
                 16 * kU * (std::abs(x.values[i]) + std::abs(added)) + OutputRounding(dtype, want) +
                     1e-35 * std::abs(y.values[i]));
    }
    return result;
  };
  OpCase op{
      fmt::format("AddSilu/{}_{}x{}_deviation{}", DTypeName(dtype), rows, n, deviation), run, {}};
  if (rows > 0) op.must_fail = {Mutation::kSkipResidual};
  return op;
}

// ---- Softcap ----

OpCase SoftcapCase(int64_t rows, int64_t n, float cap, double deviation) {
  const auto run = [=](Device& device, Mutation mutation) {
    std::mt19937_64 random(10);
    const HostTensor x = RandomTensor(random, DType::kF32, {rows, n}, deviation);
    const DeviceTensor device_x = device.Upload(x, 3);
    device.backend().Softcap(device.stream(), {device_x.view(), cap});
    const HostTensor got = device.Download(device_x);
    OpResult result;
    for (size_t i = 0; i < x.values.size(); ++i) {
      const double want = mutation == Mutation::kNoSoftcap
                              ? x.values[i]
                              : cap * std::tanh(x.values[i] / double{cap});
      result.Add(got.values[i], want, 8 * kU * std::abs(want));
    }
    return result;
  };
  OpCase op{fmt::format("Softcap/{}x{}_cap{}_deviation{}", rows, n, cap, deviation), run, {}};
  if (rows > 0) op.must_fail = {Mutation::kNoSoftcap};
  return op;
}

// ---- Logprobs ----

OpCase LogprobsCase(int64_t rows, int64_t vocab, int64_t k, double deviation, bool ties) {
  const auto run = [=](Device& device, Mutation mutation) {
    std::mt19937_64 random(6);
    HostTensor logits = RandomTensor(random, DType::kF32, {rows, vocab}, deviation);
    if (ties) {
      for (double& value : logits.values) value = std::round(value);
    }
    HostTensor tokens = Zeros(DType::kI32, {rows});
    for (double& token : tokens.values)
      token = static_cast<double>(random() % static_cast<uint64_t>(vocab));
    if (rows > 1) tokens.values[1] = -1;
    constexpr double kUnset = 42;
    const DeviceTensor device_logits = device.Upload(logits, 6);
    const DeviceTensor device_tokens = device.Upload(tokens);
    const DeviceTensor chosen = device.Upload(
        Tensor(DType::kF32, {rows}, std::vector<double>(static_cast<size_t>(rows), kUnset)));
    const DeviceTensor ids = device.Upload(Zeros(DType::kI32, {rows, k}));
    const DeviceTensor logprobs = device.Upload(Zeros(DType::kF32, {rows, k}));
    device.backend().Logprobs(device.stream(),
                              {.logits = device_logits.view(),
                               .tokens = device_tokens.view(),
                               .chosen = chosen.view(),
                               .top_ids = k > 0 ? ids.view() : TensorView(),
                               .top_logprobs = k > 0 ? logprobs.view() : TensorView()});
    const HostTensor got_chosen = device.Download(chosen);
    const HostTensor got_ids = device.Download(ids);
    const HostTensor got_logprobs = device.Download(logprobs);
    OpResult result;
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<int64_t> order(static_cast<size_t>(vocab));
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(
          order, [&](int64_t a, int64_t b) { return logits.at(r, a) > logits.at(r, b); });
      const double max = logits.at(r, order[0]);
      double sum = 0;
      for (int64_t i = 0; i < vocab; ++i) sum += std::exp(logits.at(r, i) - max);
      if (mutation == Mutation::kDropLastTerm) sum -= std::exp(logits.at(r, order[0]) - max) / 2;
      const double log_sum = max + std::log(sum);
      // exp of a difference d rounded to f32 is off by |d| u, times a term exp(d) <= 1 with
      // |d| exp(d) < 1; the sum of n positive terms by at most n u (pairs or lanes do better).
      const double bound =
          kU * (static_cast<double>(vocab) + 16 + 4 * std::abs(log_sum) + 4 * std::abs(max));
      const auto row = static_cast<size_t>(r);
      const double token = tokens.values[row];
      const double want = token < 0 ? kUnset : logits.at(r, static_cast<int64_t>(token)) - log_sum;
      result.Add(got_chosen.values[row], want, token < 0 ? 0 : bound + 2 * kU * std::abs(want));
      for (int64_t i = 0; i < k; ++i) {
        const int64_t id = order[static_cast<size_t>(i)];
        const double top = logits.at(r, id) - log_sum;
        result.Add(got_ids.at(r, i), static_cast<double>(id), 0);
        result.Add(got_logprobs.at(r, i), top, bound + 2 * kU * std::abs(top));
      }
    }
    return result;
  };
  OpCase op{fmt::format("Logprobs/{}x{}_top{}_deviation{}{}", rows, vocab, k, deviation,
                        ties ? "_ties" : ""),
            run,
            {}};
  if (rows > 0) op.must_fail = {Mutation::kDropLastTerm};
  return op;
}

// ---- random numbers: exact up to the rounding of a product, a sum and the output ----

OpCase FillRandomCase(DType dtype, std::vector<int64_t> dims, uint64_t seed, float mean) {
  const auto run = [=](Device& device, Mutation mutation) {
    constexpr int64_t kTableSize = 1 << 16;
    constexpr float kStd = 0.3F;
    constexpr uint64_t kStream = 0x0123456789ABCDEF;
    std::mt19937_64 random(9);
    const HostTensor table = RandomTensor(random, DType::kF32, {kTableSize});
    const DeviceTensor device_table = device.Upload(table);
    const DeviceTensor out = device.Upload(Zeros(dtype, dims));
    device.backend().FillRandom(device.stream(), {.table = device_table.view(),
                                                  .seed = seed,
                                                  .stream = kStream,
                                                  .mean = mean,
                                                  .std = kStd,
                                                  .out = out.view()});
    const HostTensor got = device.Download(out);
    const PhiloxKey key = {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
    OpResult result;
    for (size_t i = 0; i < got.values.size(); ++i) {
      const size_t at = mutation == Mutation::kWrongRow ? i + 1 : i;
      const auto block = static_cast<uint32_t>(at / 8);
      const PhiloxCounter words = Philox4x32(
          {{block, 0, static_cast<uint32_t>(kStream), static_cast<uint32_t>(kStream >> 32)}}, key);
      const uint32_t draw = words.words[at % 8 / 2] >> (16 * (at % 2)) & 0xFFFFU;
      const double product = double{kStd} * table.values[draw];
      const double want = mean + product;
      result.Add(got.values[i], want,
                 2 * kU * (std::abs(product) + std::abs(want)) + OutputRounding(dtype, want));
    }
    return result;
  };
  OpCase op{fmt::format("FillRandom/{}_{}", DTypeName(dtype), fmt::join(dims, "x")), run, {}};
  if (dims[0] > 0) op.must_fail = {Mutation::kWrongRow};
  return op;
}

}  // namespace

std::vector<OpCase> RowOpCases() {
  constexpr DType f32 = DType::kF32;
  constexpr DType bf16 = DType::kBf16;
  constexpr DType f16 = DType::kF16;
  return {
      EmbeddingCase(f32, f32, 5, 11, 7, 0),
      EmbeddingCase(f32, bf16, 3, 300, 64, 2),
      EmbeddingCase(bf16, bf16, 700, 50, 33, 1),
      EmbeddingCase(bf16, f32, 1, 9, 1, 0),
      EmbeddingCase(f16, f32, 4, 9, 130, 0),
      EmbeddingCase(f16, bf16, 4, 9, 17, 0),
      EmbeddingCase(f32, f32, 0, 9, 8, 0),
      EmbeddingCase(f32, f32, 5, 11, 64, 0, 7.75F),
      EmbeddingCase(bf16, bf16, 5, 11, 64, 0, 55.5F),

      GatherCase(f32, 6, 19, {5, 0, 0, 3}),
      GatherCase(bf16, 4, 64, {3}),
      GatherCase(bf16, 4, 64, {}),

      RmsNormCase({f32, f32, 1, 1, false, false}),
      RmsNormCase({f32, f32, 3, 64, false, true}),
      RmsNormCase({f32, bf16, 5, 77, true, false}),
      RmsNormCase({f32, f32, 3, 300, true, false, 1, true}),
      RmsNormCase({bf16, bf16, 6, 1024, true, false, 1, true}),
      RmsNormCase({f32, f32, 130, 1000, true, true}),
      RmsNormCase({f32, f32, 2, 129, false, false, 1e-6}),  // eps rules
      RmsNormCase({f32, f32, 2, 257, false, false, 1e15}),  // squares near f32's end
      RmsNormCase({f32, f16, 2, 40, false, false}),
      RmsNormCase({bf16, bf16, 4, 256, true, true}),
      RmsNormCase({bf16, bf16, 7, 1023, false, false}),
      RmsNormCase({bf16, f32, 1, 4096, true, false}),
      RmsNormCase({f32, f32, 0, 64, true, false}),
      RmsNormCase({f32, bf16, 3, 77, true, false, 1, false, 1}),
      RmsNormCase({bf16, bf16, 3, 256, true, true, 1, false, 1}),

      QkvRopeCase({f32, 3, 4, 2, 64, 64, false}),
      QkvRopeCase({f32, 9, 5, 1, 80, 80, true}),
      QkvRopeCase({f32, 2, 8, 1, 128, 128, true, 1.25F}),
      QkvRopeCase({f32, 65, 1, 1, 20, 20, true}),
      QkvRopeCase({f32, 4, 3, 3, 64, 16, false}),  // only a part of the head is rotated
      QkvRopeCase({f32, 2, 1, 1, 2, 2, false}),
      QkvRopeCase({bf16, 6, 6, 2, 128, 128, true}),
      QkvRopeCase({bf16, 6, 6, 2, 36, 36, false}),
      QkvRopeCase({f32, 0, 4, 2, 64, 64, true}),
      QkvRopeCase({f32, 3, 3, 1, 256, 256, true, 1, false, 1}),
      QkvRopeCase({f32, 5, 4, 2, 64, 32, false, 1, true}),
      QkvRopeCase({bf16, 5, 4, 2, 128, 64, false, 1, true}),
      QkvRopeCase({bf16, 5, 4, 2, 96, 72, false, 1.2F}),

      RotateCase(f32, 0, 2, 8, false, false),
      RotateCase(f32, 5, 3, 12, true, false),
      RotateCase(bf16, 4, 17, 64, true, true),
      RotateCase(bf16, 3, 1, 64, false, false),
      GatedActivationCase(f32, 1, 1, 1),
      GatedActivationCase(f32, 7, 100, 1),
      GatedActivationCase(f32, 2, 9001, 3),
      GatedActivationCase(f32, 3, 64, 60),
      GatedActivationCase(bf16, 5, 768, 2),
      GatedActivationCase(bf16, 1, 13, 40),
      GatedActivationCase(f32, 0, 16, 1),
      GatedActivationCase(f32, 7, 100, 1, Activation::kGeluTanh),
      GatedActivationCase(f32, 3, 64, 6, Activation::kGeluTanh),
      GatedActivationCase(bf16, 5, 768, 2, Activation::kGeluTanh),
      GatedActivationCase(f32, 7, 100, 1, Activation::kClampedSwiglu),
      GatedActivationCase(bf16, 3, 2880, 2, Activation::kClampedSwiglu),
      GatedActivationCase(bf16, 3, 70, 9, Activation::kClampedSwiglu),

      AddSiluCase(f32, 3, 77, 2),
      AddSiluCase(f32, 1, 5000, 40),
      AddSiluCase(bf16, 5, 256, 2),
      AddSiluCase(bf16, 2, 1, 9),
      AddSiluCase(bf16, 0, 16, 1),

      SoftcapCase(3, 77, 30, 1),
      SoftcapCase(2, 5000, 30, 40),
      SoftcapCase(1, 1, 2, 5),
      SoftcapCase(0, 8, 30, 1),

      LogprobsCase(1, 5, 5, 1, false),
      LogprobsCase(4, 1000, 20, 3, false),
      LogprobsCase(3, 50000, 7, 8, false),
      LogprobsCase(3, 2000, 40, 2, true),
      LogprobsCase(2, 700, 0, 30, false),
      LogprobsCase(0, 10, 2, 1, false),

      FillRandomCase(f32, {1}, 1, 0),
      FillRandomCase(f32, {3, 77, 9}, uint64_t{5} << 40, 0.5F),
      FillRandomCase(bf16, {100, 1000}, 2, 0),
      FillRandomCase(bf16, {13}, 3, 1),
      FillRandomCase(f32, {0}, 4, 0),
  };
}

}  // namespace gale::test
