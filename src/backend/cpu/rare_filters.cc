#include "backend/cpu/rare_filters.h"

#include <algorithm>
#include <cmath>

#include "backend/logits_edit.h"

namespace gale::cpu {
namespace {

using Candidates = std::vector<Candidate>;

double Mass(std::span<const Candidate> candidates) {
  double mass = 0;
  for (const Candidate& c : candidates) mass += c.weight;
  return mass;
}

/// Moves the shortest run of candidates, in the order of `before`, whose mass reaches `share` of
/// all to the front, and returns its length: at least 1. Halves the range in question until it is
/// short enough to sort: expected O(n).
template <class Before>
size_t ShortestRun(Candidates& candidates, double share, Before before) {
  constexpr ptrdiff_t kSorted = 64;
  const double wanted = share * Mass(candidates);
  auto begin = candidates.begin();
  auto end = candidates.end();
  double mass = 0;  // before `begin`
  while (end - begin > kSorted) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, before);
    const double half = Mass({begin, middle});
    if (mass + half >= wanted) {
      end = middle;
    } else {
      mass += half;
      begin = middle;
    }
  }
  std::sort(begin, end, before);
  for (; begin != end; ++begin) {
    mass += begin->weight;
    if (mass >= wanted) return static_cast<size_t>(begin - candidates.begin()) + 1;
  }
  return static_cast<size_t>(end - candidates.begin());
}

class Filters {
 public:
  Filters(const CpuKernels& kernels, std::span<const float> logits, const RowParams& params,
          RareParams& rare, float* weights)
      : logits_(logits), params_(params), rare_(rare) {
    max_ = kernels.max(logits.data(), std::ssize(logits));
    // A denormal temperature would make it infinite, and 0 * inf is not a number.
    inverse_temperature_ = std::min(1.0F / params.temperature, 1e30F);
    Weights(kernels, logits, max_, inverse_temperature_, weights);
    if (params.top_k > 0 && params.top_k < std::ssize(logits)) {
      left_ = TopCandidates(kernels, logits, params.top_k);
    } else {
      for (size_t i = 0; i < logits.size(); ++i) {
        left_.push_back({logits[i], static_cast<int32_t>(i), 0});
      }
    }
    for (Candidate& c : left_) c.weight = weights[c.id];
    std::erase_if(left_, [](const Candidate& c) { return !(c.weight > 0); });
  }

  int32_t Draw() {
    // Cuts by likelihood alone: which comes first makes no difference.
    if (rare_.top_n_sigma > 0) KeepNearMaximum();
    if (rare_.typical_p < 1) KeepTypical();
    if (params_.top_p < 1) left_.resize(ShortestRun(left_, params_.top_p, Likelier));
    if (params_.min_p > 0) KeepAtLeast(params_.min_p * Best().weight);
    if (rare_.xtc_uniform < rare_.xtc_probability) ExcludeTopChoices();
    const double total = Mass(left_);
    if (rare_.mirostat_tau > 0) {
      KeepAtLeast(std::min(total * std::exp2(-rare_.mirostat_mu), Best().weight));
    }
    std::ranges::sort(left_, {}, &Candidate::id);
    const Candidate& drawn = left_[InverseCdf(left_.size(), params_.uniform,
                                              [this](size_t i) { return left_[i].weight; })];
    if (rare_.mirostat_tau > 0) {
      const double surprise = std::log2(total / drawn.weight);
      rare_.mirostat_mu -= static_cast<float>(rare_.mirostat_eta * (surprise - rare_.mirostat_tau));
    }
    return drawn.id;
  }

 private:
  const Candidate& Best() const { return *std::ranges::min_element(left_, Likelier); }

  void KeepAtLeast(double weight) {
    std::erase_if(left_, [=](const Candidate& c) { return c.weight < weight; });
  }

  void KeepNearMaximum() {
    double count = 0;
    double sum = 0;
    for (const float x : logits_) {
      if (!(x > kBannedLogit)) continue;
      ++count;
      sum += x;
    }
    double squares = 0;
    const double mean = sum / count;
    for (const float x : logits_) {
      if (x > kBannedLogit) squares += (x - mean) * (x - mean);
    }
    const auto least = static_cast<float>(max_ - rare_.top_n_sigma * std::sqrt(squares / count));
    std::erase_if(left_, [=](const Candidate& c) { return c.logit < least; });
  }

  /// With y = (logit - max) / temperature, a token's surprise is log(sum of e^y) - y and the
  /// entropy log(sum of e^y) - mean of y: what tells them apart is how far y is from its mean.
  void KeepTypical() {
    const auto scaled = [this](const Candidate& c) {
      return (c.logit - max_) * inverse_temperature_;
    };
    double sum = 0;
    for (const Candidate& c : left_) sum += c.weight * scaled(c);
    const auto mean = static_cast<float>(sum / Mass(left_));
    const auto distance = [&](const Candidate& c) { return std::abs(scaled(c) - mean); };
    const size_t n =
        ShortestRun(left_, rare_.typical_p, [&](const Candidate& a, const Candidate& b) {
          const float to_a = distance(a);
          const float to_b = distance(b);
          return to_a != to_b ? to_a < to_b : a.id < b.id;
        });
    const float last = distance(left_[n - 1]);
    std::erase_if(left_, [&](const Candidate& c) { return distance(c) > last; });
  }

  void ExcludeTopChoices() {
    const double least = rare_.xtc_threshold * Mass(left_);
    const Candidate* last = nullptr;
    int64_t count = 0;
    for (const Candidate& c : left_) {
      if (c.weight < least) continue;
      ++count;
      if (last == nullptr || Likelier(*last, c)) last = &c;
    }
    if (count < 2) return;
    std::erase_if(left_, [kept = *last](const Candidate& c) { return Likelier(c, kept); });
  }

  std::span<const float> logits_;
  const RowParams& params_;
  RareParams& rare_;
  float max_ = 0;
  float inverse_temperature_ = 1;
  Candidates left_;
};

}  // namespace

int32_t DrawThroughRareFilters(const CpuKernels& kernels, std::span<const float> logits,
                               const RowParams& params, RareParams& rare, float* weights) {
  return Filters(kernels, logits, params, rare, weights).Draw();
}

}  // namespace gale::cpu
