// How long a step will take, learned from the steps that were. Layer L3; the Scheduler sizes prompt
// chunks by it, and weighs computing a block again against fetching it from the host.
#pragma once

#include <array>

#include "scheduler/scheduler_output.h"

namespace gale {

/// What a step's time depends on.
struct StepLoad {
  double num_tokens = 0;
  double read_positions = 0;  ///< of the KV cache, by sequences with one token
  double chunk_pairs = 0;     ///< of a query and a position before it, in prompt chunks

  void AddDecode(double num_tokens, double position);
  void AddChunk(double num_tokens, double begin);
  static StepLoad Of(const SchedulerOutput& plan);
};

/// seconds = c0 + c1 * num_tokens + c2 * read_positions + c3 * chunk_pairs, all c >= 0: weighted
/// least squares of the relative error over the last steps, about fifty with prompt chunks and as
/// many without: whichever kind is rare is not forgotten for the other. Cost: under a microsecond
/// per step.
class StepTimeModel {
 public:
  void Observe(const StepLoad& load, double seconds);

  /// Whether steps of both kinds have been seen.
  bool is_ready() const;
  double Predict(const StepLoad& load) const;
  /// The largest chunk, from position `begin` on, that keeps a step of `decodes` and it within
  /// `bound_s`; 0 when none does.
  int ChunkTokens(const StepLoad& decodes, double begin, double bound_s) const;
  /// What one more prompt token costs, its attention left out.
  double SecondsPerToken() const;

 private:
  static constexpr int kTerms = 4;
  using Terms = std::array<double, kTerms>;
  /// Of the observations: their squares and their products with the time, older ones faded.
  struct Sums {
    std::array<Terms, kTerms> squares = {};
    Terms products = {};
    int num_steps = 0;
  };

  static Terms TermsOf(const StepLoad& load);
  void Fit();

  std::array<Sums, 2> sums_;  ///< of steps without prompt chunks, and with
  Terms coefficients_ = {};
};

}  // namespace gale
