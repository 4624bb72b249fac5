// Puts a planned load through an engine of this process, and what the engine did in the middle of
// it.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/load_plan.h"
#include "gale/device_speed.h"
#include "gale/llm_engine.h"

namespace gale::cli {

/// What the engine had done at a moment.
struct LoadMoment {
  double at_s = 0;  ///< since the first request
  EngineStats stats;
};

struct OfflineRun {
  double total_s = 0;  ///< from the first request to the last one's end
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  std::vector<LoadMoment> moments;  ///< every few milliseconds, the beginning and the end included
};

/// Adds each request at its time. `style`: model and chat do not matter; draws among the `top_k`
/// likeliest at temperature 1, 0 = greedy. Errors: those of a request that fails.
Result<OfflineRun> RunOffline(LlmEngine& engine, const std::vector<PlannedRequest>& plan,
                              const PromptStyle& style, int top_k);

/// The part of a run in which it generates its tokens from the first tenth of them to the last:
/// neither filling nor emptying the batch counts.
struct SteadyWindow {
  double seconds = 0;
  double output_tokens = 0;
  double prompt_tokens = 0;  ///< computed
  double steps = 0;
  double busy_s = 0;  ///< of an accelerator
  double batch = 0;   ///< running sequences, mean over the steps
  int max_batch = 0;
  double kv_use = 0;  ///< share of the KV cache that they hold, mean over the steps
  double max_kv_use = 0;
};
SteadyWindow FindSteadyWindow(const std::vector<LoadMoment>& moments);

/// What the window's work takes at the device's limits, one after the other: each step reads the
/// weights and the keys and values of what runs, each token is multiplied with the weights that it
/// meets. Attention's products are not counted.
struct SerialRoofline {
  double weights_s = 0;
  double kv_s = 0;
  double products_s = 0;

  double seconds() const { return weights_s + kv_s + products_s; }
};
SerialRoofline FindSerialRoofline(const LlmEngine& engine, const SteadyWindow& window,
                                  const DeviceSpeed& limits);

}  // namespace gale::cli
