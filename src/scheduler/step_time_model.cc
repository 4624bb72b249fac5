#include "scheduler/step_time_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace gale {
namespace {

constexpr double kFade = 0.98;   // of what was observed, with each step of its kind
constexpr int kEnoughSteps = 8;  // of each kind
constexpr double kOutlier = 3;   // a step that was disturbed counts as so many times the rest
constexpr double kRidge = 1e-6;  // keeps terms apart that have grown together so far
constexpr double kLeastSeconds = 1e-6;  // of a step: times have to be divided by

/// Solves the symmetric positive system over the terms in use; those that are not get 0.
template <size_t N>
std::array<double, N> Solve(std::array<std::array<double, N>, N> a, std::array<double, N> b,
                            const std::array<bool, N>& used) {
  for (size_t k = 0; k < N; ++k) {
    if (!used[k] || a[k][k] <= 0) continue;
    for (size_t i = k + 1; i < N; ++i) {
      if (!used[i]) continue;
      const double factor = a[i][k] / a[k][k];
      for (size_t j = k; j < N; ++j) a[i][j] -= factor * a[k][j];
      b[i] -= factor * b[k];
    }
  }
  std::array<double, N> x = {};
  for (size_t k = N; k-- > 0;) {
    if (!used[k] || a[k][k] <= 0) continue;
    double rest = b[k];
    for (size_t j = k + 1; j < N; ++j) rest -= a[k][j] * x[j];
    x[k] = rest / a[k][k];
  }
  return x;
}

}  // namespace

void StepLoad::AddDecode(double tokens, double position) {
  num_tokens += tokens;
  read_positions += position;
}

void StepLoad::AddChunk(double tokens, double begin) {
  num_tokens += tokens;
  chunk_pairs += tokens * (begin + tokens / 2);
}

StepLoad StepLoad::Of(const SchedulerOutput& plan) {
  StepLoad load;
  for (const ScheduledSeq& seq : plan.seqs) {
    if (seq.num_tokens - seq.draft.num_tokens == 1) {
      load.AddDecode(seq.num_tokens, seq.begin);
    } else {
      load.AddChunk(seq.num_tokens, seq.begin);
    }
  }
  return load;
}

/// Scaled to the same order of magnitude.
StepTimeModel::Terms StepTimeModel::TermsOf(const StepLoad& load) {
  return {1, load.num_tokens / 1e2, load.read_positions / 1e4, load.chunk_pairs / 1e5};
}

bool StepTimeModel::is_ready() const {
  return sums_[0].num_steps >= kEnoughSteps && sums_[1].num_steps >= kEnoughSteps;
}

void StepTimeModel::Observe(const StepLoad& load, double seconds) {
  seconds = std::max(seconds, kLeastSeconds);
  if (is_ready()) {
    seconds = std::min(seconds, kOutlier * std::max(Predict(load), kLeastSeconds));
  }
  Sums& sums = sums_[load.chunk_pairs > 0 ? 1 : 0];
  const Terms terms = TermsOf(load);
  const double weight = 1 / (seconds * seconds);
  for (size_t i = 0; i < kTerms; ++i) {
    for (size_t j = 0; j < kTerms; ++j) {
      sums.squares[i][j] = kFade * sums.squares[i][j] + weight * terms[i] * terms[j];
    }
    sums.products[i] = kFade * sums.products[i] + weight * terms[i] * seconds;
  }
  sums.num_steps = std::min(sums.num_steps + 1, kEnoughSteps);
  if (is_ready()) Fit();
}

void StepTimeModel::Fit() {
  Sums all = sums_[0];
  for (size_t i = 0; i < kTerms; ++i) {
    for (size_t j = 0; j < kTerms; ++j) all.squares[i][j] += sums_[1].squares[i][j];
    all.products[i] += sums_[1].products[i];
    all.squares[i][i] *= 1 + kRidge;
  }
  std::array<bool, kTerms> used;
  used.fill(true);
  while (true) {
    coefficients_ = Solve(all.squares, all.products, used);
    const auto least = std::ranges::min_element(coefficients_);
    if (*least >= 0) return;
    used[static_cast<size_t>(least - coefficients_.begin())] = false;  // nothing saves time
  }
}

double StepTimeModel::Predict(const StepLoad& load) const {
  const Terms terms = TermsOf(load);
  double seconds = 0;
  for (size_t i = 0; i < kTerms; ++i) seconds += coefficients_[i] * terms[i];
  return seconds;
}

double StepTimeModel::SecondsPerToken() const {
  return coefficients_[1] * TermsOf({.num_tokens = 1})[1];
}

int StepTimeModel::ChunkTokens(const StepLoad& decodes, double begin, double bound_s) const {
  const double room_s = bound_s - Predict(decodes);
  if (room_s <= 0) return 0;
  // pair / 2 * n^2 + linear * n = room
  const double pair = coefficients_[3] * TermsOf({.chunk_pairs = 1})[3];
  const double linear = SecondsPerToken() + pair * begin;
  const double root = std::sqrt(linear * linear + 2 * pair * room_s);
  const double tokens = 2 * room_s / (linear + root);
  constexpr int kMost = std::numeric_limits<int>::max() / 2;
  return tokens < kMost ? static_cast<int>(tokens) : kMost;
}

}  // namespace gale
