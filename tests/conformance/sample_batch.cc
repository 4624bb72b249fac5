#include "conformance/sample_batch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "base/rng.h"

namespace gale::test {
namespace {

double Sum(const std::vector<double>& weights) {
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

/// Keeps tokens in `order` until their share reaches `share`; the others' weights become 0.
void KeepShare(std::vector<double>& weights, const std::vector<size_t>& order, double share) {
  const double wanted = share * Sum(weights);
  double mass = 0;
  for (const size_t token : order) {
    const double weight = weights[token];
    if (mass >= wanted) weights[token] = 0;
    mass += weight;
  }
}

void KeepTypical(std::vector<double>& weights, double share) {
  const double total = Sum(weights);
  double entropy = 0;
  for (const double w : weights) entropy -= w > 0 ? w / total * std::log(w / total) : 0;
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t token) {
    const double w = weights[token];
    return w > 0 ? std::abs(-std::log(w / total) - entropy) : INFINITY;
  });
  KeepShare(weights, order, share);
}

/// Logits may be minus infinity, or banned.
double LeastNearMaximum(const std::vector<double>& logits, double n) {
  std::vector<double> possible;
  std::ranges::copy_if(logits, std::back_inserter(possible), [](double x) { return x > -1e30; });
  const double mean = Sum(possible) / static_cast<double>(possible.size());
  double squares = 0;
  for (const double x : possible) squares += (x - mean) * (x - mean);
  return *std::ranges::max_element(possible) -
         n * std::sqrt(squares / static_cast<double>(possible.size()));
}

/// Of `order`, which is by likelihood.
void ExcludeTopChoices(std::vector<double>& weights, const std::vector<size_t>& order,
                       double threshold) {
  const double least = threshold * Sum(weights);
  std::vector<size_t> top;
  std::ranges::copy_if(order, std::back_inserter(top),
                       [&](size_t token) { return weights[token] >= least; });
  for (size_t i = 0; i + 1 < top.size(); ++i) weights[top[i]] = 0;
}

}  // namespace

std::vector<double> ExactProbabilities(const std::vector<double>& logits, const Filters& filters,
                                       bool with_mirostat) {
  const size_t vocab = logits.size();
  std::vector<double> masked = logits;
  for (const int id : filters.forbidden) masked[static_cast<size_t>(id)] = -INFINITY;
  std::vector<size_t> order(vocab);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return masked[a] > masked[b]; });
  std::vector<double> weights(vocab);
  const double max = masked[order[0]];
  const size_t kept =
      filters.top_k > 0 ? std::min(vocab, static_cast<size_t>(filters.top_k)) : vocab;
  const double least =
      filters.top_n_sigma > 0 ? LeastNearMaximum(masked, filters.top_n_sigma) : -INFINITY;
  for (size_t i = 0; i < kept; ++i) {
    if (masked[order[i]] < least) continue;
    weights[order[i]] = std::exp((masked[order[i]] - max) / filters.temperature);
  }
  if (filters.typical_p < 1) KeepTypical(weights, filters.typical_p);
  if (filters.top_p < 1) KeepShare(weights, order, filters.top_p);
  const double floor = filters.min_p * *std::ranges::max_element(weights);
  for (double& weight : weights) weight = weight < floor ? 0 : weight;
  std::vector<double> excluded = weights;
  ExcludeTopChoices(excluded, order, filters.xtc_threshold);
  const double q = filters.xtc_probability;
  const double shares[] = {Sum(weights), Sum(excluded)};
  for (size_t i = 0; i < vocab; ++i) {
    weights[i] = (1 - q) * weights[i] / shares[0] + q * excluded[i] / shares[1];
  }
  if (with_mirostat && filters.mirostat_tau > 0) {
    const double best = *std::ranges::max_element(weights);
    for (double& weight : weights) {
      if (-std::log2(weight) > filters.mirostat_mu && weight < best) weight = 0;
    }
  }
  const double left = Sum(weights);
  for (double& weight : weights) weight /= left;
  return weights;
}

SampleBatch::SampleBatch(Device& device, const HostTensor& logits, const Filters& filters,
                         uint64_t seed, int64_t first)
    : device_(device), rows_(logits.dim(0)) {
  constexpr size_t kMostTensors = 20;
  tensors_.reserve(kMostTensors);  // Upload hands out references
  const int64_t vocab = logits.dim(1);
  HostTensor counter = Zeros(DType::kU64, {rows_, 2});
  for (int64_t r = 0; r < rows_; ++r) {
    counter.at(r, 0) = static_cast<double>((first + r) % 1000);
    counter.at(r, 1) = static_cast<double>(
        RandomCounterHigh(static_cast<uint32_t>((first + r) / 1000), RandomStream::kSample));
  }
  HostTensor mask = Zeros(DType::kI32, {rows_, (vocab + 31) / 32});
  for (int64_t word = 0; word < mask.dim(1); ++word) {
    uint32_t bits = 0xFFFFFFFFU;
    for (const int id : filters.forbidden) {
      if (id / 32 == word) bits &= ~(1U << (id % 32));
    }
    for (int64_t r = 0; r < rows_; ++r) mask.at(r, word) = static_cast<int32_t>(bits);
  }
  args_.out = Constant(DType::kI32, 0);
  args_.logits = Upload(logits, 3);
  args_.temperature = Constant(DType::kF32, filters.temperature);
  args_.top_k = Constant(DType::kI32, filters.top_k);
  args_.top_p = Constant(DType::kF32, filters.top_p);
  args_.min_p = Constant(DType::kF32, filters.min_p);
  args_.seed = Constant(DType::kU64, static_cast<double>(seed));
  args_.counter = Upload(counter);
  if (!filters.forbidden.empty()) args_.bitmask = Upload(mask);
  if (filters.has_rare()) AddRareFilters(filters);
}

void SampleBatch::AddRareFilters(const Filters& filters) {
  HostTensor slots = Zeros(DType::kI32, {rows_});
  std::iota(slots.values.begin(), slots.values.end(), 0.0);
  args_.slots = Upload(slots);
  args_.last_tokens = Constant(DType::kI32, 0);
  args_.rare = {.top_n_sigma = Constant(DType::kF32, filters.top_n_sigma),
                .typical_p = Constant(DType::kF32, filters.typical_p),
                .xtc_probability = Constant(DType::kF32, filters.xtc_probability),
                .xtc_threshold = Constant(DType::kF32, filters.xtc_threshold),
                .mirostat_tau = Constant(DType::kF32, filters.mirostat_tau),
                .mirostat_eta = Constant(DType::kF32, filters.mirostat_eta),
                .mirostat_mu = Constant(DType::kF32, filters.mirostat_mu),
                .mu_out = Constant(DType::kF32, 0)};
}

const TensorView& SampleBatch::Upload(const HostTensor& tensor, int64_t row_padding) {
  EXPECT_LT(tensors_.size(), tensors_.capacity());
  tensors_.push_back(device_.Upload(tensor, row_padding));
  return tensors_.back().view();
}

const TensorView& SampleBatch::Constant(DType dtype, double value) {
  return Upload(Tensor(dtype, {rows_}, std::vector<double>(static_cast<size_t>(rows_), value)));
}

std::vector<int64_t> SampleBatch::Draw() {
  device_.backend().Sample(device_.stream(), args_);
  const HostTensor out = device_.Download(tensors_[0]);
  return {out.values.begin(), out.values.end()};
}

std::vector<double> SampleBatch::Mu() {
  const std::vector<double> table = device_.Download(args_.rare.mirostat_mu).values;
  EXPECT_EQ(device_.Download(args_.rare.mu_out).values, table);
  return table;
}

HostTensor Repeat(const std::vector<double>& row, int64_t rows) {
  HostTensor tensor = Zeros(DType::kF32, {rows, static_cast<int64_t>(row.size())});
  for (int64_t r = 0; r < rows; ++r) {
    std::ranges::copy(row, tensor.values.begin() + r * std::ssize(row));
  }
  return tensor;
}

std::vector<double> RandomLogits(size_t vocab, double deviation, uint64_t seed) {
  std::mt19937_64 random(seed);
  return RandomTensor(random, DType::kF32, {static_cast<int64_t>(vocab)}, deviation).values;
}

std::vector<int64_t> CountDraws(Device& device, const std::vector<double>& logits,
                                const Filters& filters, int64_t draws) {
  constexpr int64_t kBatch = 4000;
  std::vector<int64_t> counts(logits.size());
  const HostTensor rows = Repeat(logits, kBatch);
  for (int64_t first = 0; first < draws; first += kBatch) {
    for (const int64_t id : SampleBatch(device, rows, filters, 1234, first).Draw()) {
      ++counts[static_cast<size_t>(id)];
    }
  }
  return counts;
}

}  // namespace gale::test
