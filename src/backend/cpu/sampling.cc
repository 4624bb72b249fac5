// Draws from rows of logits. A row is one task; nothing here depends on other rows. Filters need no
// sort of the vocabulary: the likeliest tokens are picked in one scan.
#include <algorithm>
#include <cmath>
#include <span>

#include "backend/cpu/ops.h"
#include "backend/cpu/rare_filters.h"
#include "base/rng.h"

namespace gale::cpu {
namespace {

class RowSampler {
 public:
  RowSampler(const CpuKernels& kernels, std::span<const float> logits, const RowParams& params,
             float* weights)
      : kernels_(kernels),
        logits_(logits),
        params_(params),
        weights_(weights),
        max_(kernels.max(logits.data(), std::ssize(logits))) {}

  bool is_greedy() const { return !(params_.temperature > 0) || !std::isfinite(max_); }

  /// Lowest id among equal maxima; 0 when nothing compares.
  int32_t ArgMax() const {
    const auto found = std::ranges::find(logits_, max_);
    return found == logits_.end() ? 0 : static_cast<int32_t>(found - logits_.begin());
  }

  int32_t Draw() {
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

/// Puts what the draw came to where the next step and later draws of the sequence find it.
void Store(const SampleArgs& args, int64_t row, int32_t token) {
  if (!args.slots) return;
  const int32_t slot = args.slots.As<int32_t>()[row];
  if (slot < 0) return;
  GALE_CHECK_LT(slot, args.last_tokens.dim(0));
  args.last_tokens.As<int32_t>()[slot] = token;
  if (args.rare.mu_out) {
    args.rare.mu_out.As<float>()[row] = args.rare.mirostat_mu.As<float>()[slot];
  }
  if (!args.history) return;
  const uint64_t position = static_cast<const uint64_t*>(RowAt(args.counter, row))[0];
  GALE_CHECK_LT(position, static_cast<uint64_t>(args.history.dim(1)));
  static_cast<int32_t*>(RowAt(args.history, slot))[position] = token;
}

int32_t DrawRow(const CpuKernels& kernels, const SampleArgs& args, int64_t row,
                std::span<const float> logits, float* weights) {
  const auto* counter = static_cast<const uint64_t*>(RowAt(args.counter, row));
  const uint64_t seed = args.seed.As<uint64_t>()[row];
  const RowParams params{.temperature = args.temperature.As<float>()[row],
                         .top_k = args.top_k.As<int32_t>()[row],
                         .top_p = args.top_p.As<float>()[row],
                         .min_p = args.min_p.As<float>()[row],
                         .uniform = UniformDouble(seed, counter[0], counter[1])};
  RowSampler sampler(kernels, logits, params, weights);
  if (sampler.is_greedy()) return sampler.ArgMax();
  if (!args.rare.top_n_sigma) return sampler.Draw();

  const int32_t slot = args.slots.As<int32_t>()[row];
  RareParams rare{
      .top_n_sigma = args.rare.top_n_sigma.As<float>()[row],
      .typical_p = args.rare.typical_p.As<float>()[row],
      .xtc_probability = args.rare.xtc_probability.As<float>()[row],
      .xtc_threshold = args.rare.xtc_threshold.As<float>()[row],
      .xtc_uniform = UniformDouble(seed, counter[0], InStream(counter[1], RandomStream::kXtc)),
      .mirostat_tau = args.rare.mirostat_tau.As<float>()[row],
      .mirostat_eta = args.rare.mirostat_eta.As<float>()[row]};
  if (!rare.any()) return sampler.Draw();
  const bool adapts = rare.mirostat_tau > 0;
  if (adapts) rare.mirostat_mu = args.rare.mirostat_mu.As<float>()[slot];
  const int32_t token = DrawThroughRareFilters(kernels, logits, params, rare, weights);
  if (adapts) args.rare.mirostat_mu.As<float>()[slot] = rare.mirostat_mu;
  return token;
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
      int32_t token = DrawRow(context.kernels, args, row, logits, weights);
      if (args.token_ids) token = args.token_ids.As<int32_t>()[token];
      args.out.As<int32_t>()[row] = token;
      Store(args, row, token);
    }
  });
}

}  // namespace gale::cpu
