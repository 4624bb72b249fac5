// Draws from rows of logits, and their log-probabilities. A row is one task; nothing here depends
// on other rows. Filters need no sort of the vocabulary: the likeliest tokens are picked in one
// scan.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <span>

#include "backend/cpu/ops.h"
#include "base/rng.h"

namespace gale::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
/// Logits are summed in f32 within a block and in f64 over blocks.
constexpr int64_t kBlock = 1024;

struct Candidate {
  float logit = 0;
  int32_t id = 0;
  double weight = 0;  ///< exp((logit - max) / temperature)
};

bool Likelier(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

struct RowParams {
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  double uniform = 0;
};

/// Lowest id among equal maxima; 0 when nothing compares.
int32_t ArgMax(const CpuKernels& kernels, std::span<const float> logits) {
  const float max = kernels.max(logits.data(), std::ssize(logits));
  const auto found = std::ranges::find(logits, max);
  return found == logits.end() ? 0 : static_cast<int32_t>(found - logits.begin());
}

/// The `n` likeliest tokens, best first; ties go to the lower id. Keeps a pool of up to 4n of them
/// and skips blocks whose maximum is below the n-th best so far.
std::vector<Candidate> TopCandidates(const CpuKernels& kernels, std::span<const float> logits,
                                     int64_t n) {
  const auto keep = static_cast<size_t>(std::min<int64_t>(n, std::ssize(logits)));
  const size_t capacity = std::max<size_t>(4 * keep, 256);
  constexpr int64_t kSkip = 128;
  std::vector<Candidate> pool;
  pool.reserve(capacity);
  float bound = kMinusInfinity;  // to be exceeded: at a tie the lower id is in already
  bool full = false;
  const auto cut = [&] {
    std::ranges::nth_element(pool, pool.begin() + static_cast<ptrdiff_t>(keep) - 1, Likelier);
    pool.resize(keep);
    bound = pool.back().logit;
    full = true;
  };
  for (int64_t begin = 0; begin < std::ssize(logits); begin += kSkip) {
    const int64_t end = std::min(begin + kSkip, std::ssize(logits));
    if (full && !(kernels.max(&logits[static_cast<size_t>(begin)], end - begin) > bound)) continue;
    for (int64_t i = begin; i < end; ++i) {
      float logit = logits[static_cast<size_t>(i)];
      if (full && !(logit > bound)) continue;
      if (std::isnan(logit)) logit = kMinusInfinity;  // has no place in an order
      pool.push_back({logit, static_cast<int32_t>(i), 0});
      if (pool.size() == capacity) cut();
    }
  }
  if (pool.size() > keep) cut();
  std::ranges::sort(pool, Likelier);
  return pool;
}

/// Writes exp((logit - max) / temperature) and returns the sum.
double Weights(const CpuKernels& kernels, std::span<const float> logits, float max,
               float inverse_temperature, float* weights) {
  double sum = 0;
  for (int64_t i = 0; i < std::ssize(logits); i += kBlock) {
    const int64_t n = std::min(kBlock, std::ssize(logits) - i);
    sum +=
        kernels.exp_sum(&logits[static_cast<size_t>(i)], max, inverse_temperature, weights + i, n);
  }
  return sum;
}

/// Inverse CDF over ids in ascending order; the last possible token catches what rounding leaves.
template <class Weight>
size_t InverseCdf(size_t n, double uniform, Weight&& weight) {
  double total = 0;
  for (size_t i = 0; i < n; ++i) total += weight(i);
  const double target = uniform * total;
  double cumulative = 0;
  size_t last = 0;
  for (size_t i = 0; i < n; ++i) {
    const double w = weight(i);
    if (!(w > 0)) continue;
    last = i;
    cumulative += w;
    if (cumulative > target) break;
  }
  return last;
}

class RowSampler {
 public:
  RowSampler(const CpuKernels& kernels, std::span<const float> logits, const RowParams& params,
             float* weights)
      : kernels_(kernels), logits_(logits), params_(params), weights_(weights) {}

  int32_t Draw() {
    max_ = kernels_.max(logits_.data(), std::ssize(logits_));
    if (!(params_.temperature > 0) || !std::isfinite(max_)) return ArgMax(kernels_, logits_);
    // A denormal temperature would make it infinite, and 0 * inf is not a number.
    inverse_temperature_ = std::min(1.0F / params_.temperature, 1e30F);
    if (params_.top_k > 0 && params_.top_k < std::ssize(logits_)) return DrawFrom(TopK());
    const double total = Weights(kernels_, logits_, max_, inverse_temperature_, weights_);
    return params_.top_p < 1 ? DrawFrom(TopP(total)) : DrawFromAll();
  }

 private:
  int32_t DrawFromAll() const {
    return static_cast<int32_t>(InverseCdf(logits_.size(), params_.uniform, [this](size_t i) {
      return weights_[i] >= params_.min_p ? double{weights_[i]} : 0.0;
    }));
  }

  /// min-p on what the other filters left, then the draw. `candidates` come by ascending id.
  int32_t DrawFrom(const std::vector<Candidate>& candidates) const {
    const size_t drawn = InverseCdf(candidates.size(), params_.uniform, [&](size_t i) {
      return candidates[i].weight >= params_.min_p ? candidates[i].weight : 0.0;
    });
    return candidates[drawn].id;
  }

  std::vector<Candidate> TopK() const {
    std::vector<Candidate> candidates = TopCandidates(kernels_, logits_, params_.top_k);
    double total = 0;
    for (Candidate& c : candidates) {
      float weight = 0;
      total += kernels_.exp_sum(&c.logit, max_, inverse_temperature_, &weight, 1);
      c.weight = weight;
    }
    candidates.resize(NucleusSize(candidates, params_.top_p * total));
    std::ranges::sort(candidates, {}, &Candidate::id);
    return candidates;
  }

  /// Top-p over the whole vocabulary without sorting it: the mass is summed by bands of logits, and
  /// only the band in which it crosses top_p is sorted.
  std::vector<Candidate> TopP(double total) const {
    std::vector<double> mass(kBands);
    for (size_t i = 0; i < logits_.size(); ++i) mass[Band(logits_[i])] += weights_[i];
    const double wanted = params_.top_p * total;
    double above = 0;
    size_t band = 0;
    while (band + 1 < kBands && above + mass[band] < wanted) above += mass[band++];

    std::vector<Candidate> edge;
    for (size_t i = 0; i < logits_.size(); ++i) {
      if (Band(logits_[i]) == band && !std::isnan(logits_[i])) {
        edge.push_back({logits_[i], static_cast<int32_t>(i), weights_[i]});
      }
    }
    if (edge.empty()) return Kept({kMinusInfinity, 0, 0});  // rounding: nothing is cut
    std::ranges::sort(edge, Likelier);
    return Kept(edge[NucleusSize(edge, wanted - above) - 1]);
  }

  /// Every token at least as likely as `last`, by ascending id.
  std::vector<Candidate> Kept(const Candidate& last) const {
    std::vector<Candidate> kept;
    for (size_t i = 0; i < logits_.size(); ++i) {
      const Candidate candidate{logits_[i], static_cast<int32_t>(i), weights_[i]};
      if (!Likelier(last, candidate)) kept.push_back(candidate);
    }
    return kept;
  }

  /// Bands of an eighth of a nat below the maximum; the last one holds all the rest, whose weights
  /// are below e^-127.
  size_t Band(float logit) const {
    const float distance = (max_ - logit) * inverse_temperature_ * 8;
    return distance < kBands - 1 ? static_cast<size_t>(distance) : kBands - 1;
  }

  /// Length of the shortest prefix, of at least one token, whose mass reaches `wanted`.
  size_t NucleusSize(std::span<const Candidate> candidates, double wanted) const {
    if (params_.top_p >= 1) return candidates.size();
    double mass = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      mass += candidates[i].weight;
      if (mass >= wanted) return i + 1;
    }
    return candidates.size();
  }

  static constexpr size_t kBands = 1024;

  const CpuKernels& kernels_;
  std::span<const float> logits_;
  RowParams params_;
  float* weights_;
  float max_ = 0;
  float inverse_temperature_ = 1;
};

/// The logits of allowed tokens, minus infinity for the others.
void ApplyBitmask(const TensorView& bitmask, int64_t row, std::span<const float> logits,
                  float* allowed) {
  const auto* words = static_cast<const int32_t*>(RowAt(bitmask, row));
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto word = static_cast<uint32_t>(words[i / 32]);
    allowed[i] = (word >> (i % 32) & 1U) != 0 ? logits[i] : kMinusInfinity;
  }
}

int32_t DrawRow(const CpuKernels& kernels, const SampleArgs& args, int64_t row,
                std::span<const float> logits, float* weights) {
  const auto* counter = static_cast<const uint64_t*>(RowAt(args.counter, row));
  const RowParams params{
      .temperature = args.temperature.As<float>()[row],
      .top_k = args.top_k.As<int32_t>()[row],
      .top_p = args.top_p.As<float>()[row],
      .min_p = args.min_p.As<float>()[row],
      .uniform = UniformDouble(args.seed.As<uint64_t>()[row], counter[0], counter[1])};
  return RowSampler(kernels, logits, params, weights).Draw();
}

std::span<const float> LogitsRow(const TensorView& logits, int64_t row) {
  return {static_cast<const float*>(RowAt(logits, row)), static_cast<size_t>(logits.dim(1))};
}

}  // namespace

void Sample(Context& context, const SampleArgs& args) {
  CheckSampleArgs(args);
  const int64_t vocab = args.logits.dim(1);
  ForRows(context, args.logits.dim(0), vocab, [&](int64_t begin, int64_t end, int thread) {
    float* weights = context.thread_scratch[static_cast<size_t>(thread)].Floats(2 * vocab);
    float* allowed = weights + vocab;
    for (int64_t row = begin; row < end; ++row) {
      std::span<const float> logits = LogitsRow(args.logits, row);
      if (args.bitmask) {
        ApplyBitmask(args.bitmask, row, logits, allowed);
        logits = {allowed, logits.size()};
      }
      const int32_t token = DrawRow(context.kernels, args, row, logits, weights);
      args.out.As<int32_t>()[row] = token;
      if (!args.slots) continue;
      const int32_t slot = args.slots.As<int32_t>()[row];
      if (slot < 0) continue;
      GALE_CHECK_LT(slot, args.last_tokens.dim(0));
      args.last_tokens.As<int32_t>()[slot] = token;
    }
  });
}

void Logprobs(Context& context, const LogprobsArgs& args) {
  CheckLogprobsArgs(args);
  const int64_t rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  const int64_t k = args.top_ids ? args.top_ids.dim(1) : 0;
  const CpuKernels& kernels = context.kernels;
  ForRows(context, rows, vocab, [&](int64_t begin, int64_t end, int thread) {
    float* weights = context.thread_scratch[static_cast<size_t>(thread)].Floats(vocab);
    for (int64_t row = begin; row < end; ++row) {
      const std::span<const float> logits = LogitsRow(args.logits, row);
      const float max = kernels.max(logits.data(), vocab);
      const double log_sum = max + std::log(Weights(kernels, logits, max, 1.0F, weights));
      const int32_t token = args.tokens.As<int32_t>()[row];
      if (token >= 0) {
        GALE_CHECK_LT(token, vocab);
        args.chosen.As<float>()[row] =
            static_cast<float>(logits[static_cast<size_t>(token)] - log_sum);
      }
      if (k == 0) continue;
      const std::vector<Candidate> best = TopCandidates(kernels, logits, k);
      auto* ids = static_cast<int32_t*>(RowAt(args.top_ids, row));
      auto* logprobs = static_cast<float*>(RowAt(args.top_logprobs, row));
      for (size_t i = 0; i < best.size(); ++i) {
        ids[i] = best[i].id;
        logprobs[i] = static_cast<float>(best[i].logit - log_sum);
      }
    }
  });
}

}  // namespace gale::cpu
