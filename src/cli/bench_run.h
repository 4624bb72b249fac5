// One benchmark case: an engine that runs the same work several times, and the device's limits
// measured between the runs.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "gale/device_speed.h"
#include "gale/llm_engine.h"

namespace gale::cli {

/// What one case runs: `prompts` requests handed over at once.
struct BenchCase {
  int prompts = 1;
  int prompt_tokens = 128;
  int output_tokens = 128;
  int top_k = 0;  ///< draws among the likeliest k at temperature 1; 0 = greedy
};

struct BenchRepeats {
  int warmup = 1;
  int repeats = 5;
};

/// One repeat: from the first request to the last reply's end.
struct Repeat {
  double total_s = 0;
  double first_token_s = 0;  ///< mean over the prompts
  double step_s = 0;         ///< from token to token after the first; median over the prompts
  double busy_s = 0;         ///< what a step took on an accelerator, mean over all steps
  double gap_s = 0;          ///< an accelerator had nothing to do for so long between two steps
  double fused_share = 0;    ///< of the steps, run by a fused decoder
  double graph_share = 0;    ///< of the steps, run as captured graphs
};

struct CaseResult {
  BenchCase what;
  double step_bytes = 0;  ///< what one decode step of all prompts must read
  std::vector<Repeat> repeats;
  std::vector<DeviceSpeed> limits;  ///< one for each repeat
};

/// Bytes of the weights that a step of so many tokens reads: every one but the rows of an untied
/// embedding table and the experts that no token goes through.
double StepWeightBytes(const LlmEngine& engine, double tokens);
/// Of memory to measure the read speed with: as much as a step reads, since a small model sees the
/// CPU's caches; on a GPU so much that its cache does not count.
size_t ProbeBytes(const LlmEngine& engine, double step_bytes);

/// Runs `what` on an engine that is otherwise idle.
Result<CaseResult> RunCase(LlmEngine& engine, const BenchCase& what, const BenchRepeats& times,
                           std::mt19937_64& random);

/// One figure of several measurements.
struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
};
Spread SpreadOf(std::vector<double> values);

/// The spread of value(x) over `all`.
template <class T, class Function>
Spread SpreadOver(const std::vector<T>& all, Function&& value) {
  std::vector<double> values;
  for (const T& x : all) values.push_back(value(x));
  return SpreadOf(std::move(values));
}

}  // namespace gale::cli
