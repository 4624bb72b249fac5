// Products of groups of rows with a weight each, and of all rows with each group's weight.
//
// Bounds: as in linear_reference.h; u is the unit roundoff of f32.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "conformance/op_case.h"

namespace gale::test {
namespace {

constexpr double kU = 0x1p-24;

// ---- RunGrouped ----

enum class Spread {
  kEven,      ///< at random
  kOneGroup,  ///< one group has all entries
  kFew,       ///< every third group has some
};

struct GroupedShape {
  DType weight;
  DType activation;
  int64_t tokens;
  int64_t top_k;  ///< entries = tokens * top_k
  int64_t groups;
  int64_t in;
  int64_t columns;
  Spread spread = Spread::kEven;
  bool bias = false;
  bool mapped = true;  ///< entry i reads row picks[i] / top_k and writes row picks[i]
  int64_t padding = 0;

  int64_t entries() const { return tokens * top_k; }
};

/// Which entries each group has, as MoeRoute lists them.
struct Entries {
  std::vector<int64_t> group_of;  ///< [entry]
  HostTensor offsets;
  HostTensor picks;
  HostTensor tokens;
};

Entries SpreadEntries(std::mt19937_64& random, const GroupedShape& shape) {
  std::vector<std::vector<int64_t>> by_group(static_cast<size_t>(shape.groups));
  for (int64_t pick = 0; pick < shape.entries(); ++pick) {
    auto group = static_cast<int64_t>(random() % static_cast<uint64_t>(shape.groups));
    if (shape.spread == Spread::kOneGroup) group = shape.groups / 2;
    if (shape.spread == Spread::kFew) group -= group % 3;
    by_group[static_cast<size_t>(group)].push_back(pick);
  }
  Entries entries{{},
                  Zeros(DType::kI32, {shape.groups + 1}),
                  Zeros(DType::kI32, {shape.entries()}),
                  Zeros(DType::kI32, {shape.entries()})};
  for (int64_t g = 0; g < shape.groups; ++g) {
    for (const int64_t pick : by_group[static_cast<size_t>(g)]) {
      const size_t at = entries.group_of.size();
      entries.group_of.push_back(g);
      entries.picks.values[at] = static_cast<double>(pick);
      entries.tokens.values[at] = static_cast<double>(pick / shape.top_k);
    }
    entries.offsets.values[static_cast<size_t>(g) + 1] =
        static_cast<double>(entries.group_of.size());
  }
  return entries;
}

/// A problem and its answer by the device.
struct GroupedRun {
  Entries entries;
  HostTensor x;
  HostTensor weight;
  HostTensor bias;
  HostTensor out;

  int64_t ReadRow(const GroupedShape& shape, int64_t entry) const {
    return shape.mapped ? static_cast<int64_t>(entries.tokens.values[static_cast<size_t>(entry)])
                        : entry;
  }
  int64_t WrittenRow(const GroupedShape& shape, int64_t entry) const {
    return shape.mapped ? static_cast<int64_t>(entries.picks.values[static_cast<size_t>(entry)])
                        : entry;
  }
};

/// For a GroupedShape or a BatchedShape.
template <class Shape>
const LinearKernel& FindKernel(Device& device, const Shape& shape, int64_t out, bool grouped) {
  const LinearKernel* kernel =
      device.backend().FindLinear({.format = {BlockCode::kNone, shape.weight},
                                   .in = shape.in,
                                   .out = out,
                                   .activation = shape.activation,
                                   .numerics = Numerics::kBatchInvariant,
                                   .grouped = grouped});
  GALE_CHECK(kernel != nullptr);
  return *kernel;
}

PackedLinear Pack(const LinearKernel& kernel, const HostTensor& weight) {
  Device host("cpu");  // LinearWeight is host memory by contract
  const DeviceTensor uploaded = host.Upload(weight);
  auto packed = kernel.Prepare(
      {{BlockCode::kNone, weight.dtype}, weight.dim(1), weight.dim(0), uploaded.view()});
  GALE_CHECK(packed.has_value());
  if (packed->storage.data() == nullptr) {  // borrowed, as the CPU does
    packed->storage = host.Allocate(uploaded.view().Bytes());
    host.backend().Copy(host.stream(), packed->storage.data(), uploaded.view().data,
                        uploaded.view().Bytes());
    packed->data.data = packed->storage.data();
  }
  return *std::move(packed);
}

GroupedRun RunGrouped(Device& device, const GroupedShape& shape) {
  std::mt19937_64 random(22);
  GroupedRun run{
      .entries = SpreadEntries(random, shape),
      .x = RandomTensor(random, shape.activation,
                        {shape.mapped ? shape.tokens : shape.entries(), shape.in}),
      .weight = RandomTensor(random, shape.weight, {shape.groups * shape.columns, shape.in}),
      .bias = RandomTensor(random, shape.activation, {shape.groups * shape.columns}),
      .out = {}};
  const LinearKernel& kernel = FindKernel(device, shape, shape.groups * shape.columns, true);
  const PackedLinear packed = Pack(kernel, run.weight);
  const DeviceTensor x = device.Upload(run.x, shape.padding);
  const DeviceTensor bias = device.Upload(run.bias);
  const DeviceTensor offsets = device.Upload(run.entries.offsets);
  const DeviceTensor picks = device.Upload(run.entries.picks);
  const DeviceTensor tokens = device.Upload(run.entries.tokens);
  const DeviceTensor out =
      device.Upload(Zeros(shape.activation, {shape.entries(), shape.columns}), shape.padding);
  kernel.RunGrouped(device.stream(), {.x = x.view(),
                                      .weight = &packed,
                                      .bias = shape.bias ? bias.view() : TensorView(),
                                      .offsets = offsets.view(),
                                      .x_rows = shape.mapped ? tokens.view() : TensorView(),
                                      .out_rows = shape.mapped ? picks.view() : TensorView(),
                                      .out = out.view()});
  run.out = device.Download(out);
  return run;
}

OpResult CompareGrouped(Device& device, const GroupedShape& shape, Mutation mutation) {
  const GroupedRun run = RunGrouped(device, shape);
  const double v = shape.activation == DType::kF32 ? 0 : Roundoff(shape.activation);
  const int64_t terms = shape.in - (mutation == Mutation::kDropLastTerm ? 1 : 0);
  OpResult result;
  for (int64_t entry = 0; entry < shape.entries(); ++entry) {
    int64_t group = run.entries.group_of[static_cast<size_t>(entry)];
    if (mutation == Mutation::kWrongRow) group = (group + 1) % shape.groups;
    for (int64_t c = 0; c < shape.columns; ++c) {
      const int64_t column = group * shape.columns + c;
      double sum = 0;
      double magnitude = 0;
      for (int64_t i = 0; i < terms; ++i) {
        const double product = run.x.at(run.ReadRow(shape, entry), i) * run.weight.at(column, i);
        sum += product;
        magnitude += std::abs(product);
      }
      if (shape.bias && mutation != Mutation::kSkipBias) {
        sum += run.bias.values[static_cast<size_t>(column)];
      }
      const double bound =
          (static_cast<double>(shape.in) + 2) * kU * magnitude + kU * std::abs(sum);
      result.Add(run.out.at(run.WrittenRow(shape, entry), c), sum,
                 bound + v * (std::abs(sum) + bound));
    }
  }
  return result;
}

std::string GroupedName(const GroupedShape& shape) {
  constexpr const char* kSpreads[] = {"even", "one_group", "few_groups"};
  return fmt::format("weight_{}_x_{}_{}x{}_in_{}_{}_to_{}_{}{}{}{}", DTypeName(shape.weight),
                     DTypeName(shape.activation), shape.tokens, shape.top_k, shape.groups, shape.in,
                     shape.columns, kSpreads[static_cast<int>(shape.spread)],
                     shape.bias ? "_bias" : "", shape.mapped ? "" : "_unmapped",
                     shape.padding > 0 ? "_strided" : "");
}

OpCase GroupedCase(const GroupedShape& shape) {
  OpCase op{"GroupedLinear/" + GroupedName(shape),
            [shape](Device& device, Mutation mutation) {
              return CompareGrouped(device, shape, mutation);
            },
            {}};
  if (shape.tokens == 0) return op;
  op.must_fail = {Mutation::kDropLastTerm, Mutation::kWrongRow};
  if (shape.bias) op.must_fail.push_back(Mutation::kSkipBias);
  return op;
}

/// Bit for bit what Run makes of each row and its group's weight alone: no row depends on how many
/// others its group, or any group, has.
OpCase GroupedEqualsLinearCase(const GroupedShape& shape) {
  const auto run = [shape](Device& device, Mutation mutation) {
    const GroupedRun grouped = RunGrouped(device, shape);
    const LinearKernel& kernel = FindKernel(device, shape, shape.columns, false);
    const auto slice = [&](const HostTensor& tensor, int64_t row, int64_t rows, int64_t width) {
      const auto begin = tensor.values.begin() + row * width;
      return Tensor(tensor.dtype, {rows, width}, {begin, begin + rows * width});
    };
    OpResult result;
    std::vector<PackedLinear> packed;
    for (int64_t g = 0; g < shape.groups; ++g) {
      packed.push_back(
          Pack(kernel, slice(grouped.weight, g * shape.columns, shape.columns, shape.in)));
    }
    for (int64_t entry = 0; entry < shape.entries(); ++entry) {
      const int64_t group = grouped.entries.group_of[static_cast<size_t>(entry)];
      HostTensor x = slice(grouped.x, grouped.ReadRow(shape, entry), 1, shape.in);
      if (mutation == Mutation::kOtherInput) {
        for (double& value : x.values) {
          value = RoundTo(x.dtype, value * (1 + 2 * Roundoff(x.dtype)));
        }
      }
      const DeviceTensor device_x = device.Upload(x);
      const DeviceTensor out = device.Upload(Zeros(shape.activation, {1, shape.columns}));
      kernel.Run(device.stream(), {.x = device_x.view(),
                                   .weight = &packed[static_cast<size_t>(group)],
                                   .bias = {},
                                   .out = out.view()});
      const HostTensor alone = device.Download(out);
      for (int64_t c = 0; c < shape.columns; ++c) {
        result.Add(grouped.out.at(grouped.WrittenRow(shape, entry), c), alone.at(0, c), 0);
      }
    }
    return result;
  };
  return {"Invariance/grouped_equals_linear_" + GroupedName(shape), run, {Mutation::kOtherInput}};
}

// ---- RunBatched ----

struct BatchedShape {
  DType weight;
  DType activation;
  int64_t rows;
  int64_t groups;
  int64_t in;
  int64_t columns;
  int64_t padding = 0;  ///< of rows, and as much between the groups of x
};

/// The dimensions as one row for each of [rows, groups].
HostTensor Flat(const HostTensor& tensor) {
  return Tensor(tensor.dtype, {tensor.dim(0) * tensor.dim(1), tensor.dim(2)}, tensor.values);
}

OpResult RunBatched(Device& device, const BatchedShape& shape, Mutation mutation) {
  std::mt19937_64 random(24);
  const HostTensor x =
      RandomTensor(random, shape.activation, {shape.rows, shape.groups, shape.in + shape.padding});
  const HostTensor weight =
      RandomTensor(random, shape.weight, {shape.groups * shape.columns, shape.in});
  const LinearKernel& kernel = FindKernel(device, shape, shape.groups * shape.columns, true);
  const PackedLinear packed = Pack(kernel, weight);
  const DeviceTensor device_x = device.Upload(x, shape.padding);
  const DeviceTensor out = device.Upload(
      Zeros(shape.activation, {shape.rows, shape.groups, shape.columns}), shape.padding);
  kernel.RunBatched(device.stream(),
                    {.x = device_x.view().Slice(2, shape.padding, shape.padding + shape.in),
                     .weight = &packed,
                     .out = out.view()});
  const HostTensor got = Flat(device.Download(out));
  const HostTensor rows = Flat(x);
  const double v = shape.activation == DType::kF32 ? 0 : Roundoff(shape.activation);
  const int64_t terms = shape.in - (mutation == Mutation::kDropLastTerm ? 1 : 0);
  OpResult result;
  for (int64_t r = 0; r < rows.dim(0); ++r) {
    int64_t group = r % shape.groups;
    if (mutation == Mutation::kWrongRow) group = (group + 1) % shape.groups;
    for (int64_t c = 0; c < shape.columns; ++c) {
      double sum = 0;
      double magnitude = 0;
      for (int64_t i = 0; i < terms; ++i) {
        const double product =
            rows.at(r, shape.padding + i) * weight.at(group * shape.columns + c, i);
        sum += product;
        magnitude += std::abs(product);
      }
      const double bound = (static_cast<double>(shape.in) + 2) * kU * magnitude;
      result.Add(got.at(r, c), sum, bound + v * (std::abs(sum) + bound));
    }
  }
  return result;
}

OpCase BatchedCase(const BatchedShape& shape) {
  OpCase op{
      fmt::format("BatchedLinear/weight_{}_x_{}_{}x{}_{}_to_{}{}", DTypeName(shape.weight),
                  DTypeName(shape.activation), shape.rows, shape.groups, shape.in, shape.columns,
                  shape.padding > 0 ? "_strided" : ""),
      [shape](Device& device, Mutation mutation) { return RunBatched(device, shape, mutation); },
      {}};
  if (shape.rows > 0) op.must_fail = {Mutation::kDropLastTerm, Mutation::kWrongRow};
  return op;
}

}  // namespace

std::vector<OpCase> GroupedCases() {
  constexpr DType f32 = DType::kF32;
  constexpr DType bf16 = DType::kBf16;
  const GroupedShape products[] = {
      {f32, f32, 0, 2, 4, 16, 16},
      {f32, f32, 1, 2, 8, 100, 33},
      {f32, f32, 11, 3, 5, 77, 53, Spread::kEven, true, true, 5},
      {f32, f32, 70, 2, 3, 33, 10, Spread::kOneGroup},
      {f32, f32, 300, 1, 2, 20, 9, Spread::kEven, true, false},
      {bf16, f32, 7, 2, 6, 65, 29, Spread::kFew, true},
      {bf16, bf16, 0, 8, 16, 64, 32},
      {bf16, bf16, 1, 4, 16, 256, 70},
      {bf16, bf16, 30, 4, 16, 257, 41, Spread::kEven, true, true, 3},  // 7 entries a group
      {bf16, bf16, 40, 2, 7, 96, 40, Spread::kFew, true},              // 11
      {bf16, bf16, 60, 4, 8, 64, 24, Spread::kEven, false, false},     // 30
      {bf16, bf16, 150, 2, 3, 72, 24, Spread::kEven, true},            // 100
      {bf16, bf16, 90, 2, 5, 64, 136, Spread::kOneGroup},
      {bf16, bf16, 20, 3, 40, 40, 16, Spread::kEven, true},
      {f32, bf16, 6, 2, 3, 64, 20, Spread::kEven, true},
  };
  const GroupedShape invariant[] = {
      {f32, f32, 70, 1, 3, 130, 21, Spread::kEven},
      {bf16, f32, 9, 2, 5, 64, 17, Spread::kEven},
      {bf16, bf16, 5, 2, 16, 300, 24, Spread::kEven},
      {bf16, bf16, 20, 2, 5, 300, 24, Spread::kEven},   // 8
      {bf16, bf16, 30, 2, 4, 300, 24, Spread::kEven},   // 15
      {bf16, bf16, 60, 1, 2, 264, 24, Spread::kEven},   // 30
      {bf16, bf16, 130, 1, 2, 264, 24, Spread::kEven},  // 65
  };
  const BatchedShape batches[] = {
      {f32, f32, 0, 3, 16, 8},       {f32, f32, 1, 16, 128, 40},     {f32, f32, 70, 3, 33, 10, 5},
      {bf16, bf16, 1, 16, 128, 64},  {bf16, bf16, 12, 5, 36, 24, 3}, {bf16, bf16, 30, 4, 64, 40, 8},
      {bf16, bf16, 130, 2, 40, 136},
  };
  std::vector<OpCase> cases;
  for (const GroupedShape& shape : products) cases.push_back(GroupedCase(shape));
  for (const GroupedShape& shape : invariant) cases.push_back(GroupedEqualsLinearCase(shape));
  for (const BatchedShape& shape : batches) cases.push_back(BatchedCase(shape));
  return cases;
}

}  // namespace gale::test
