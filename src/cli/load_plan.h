// What `gale bench serve` sends, and when: random prompts at a rate, or a recorded trace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/load_client.h"

namespace gale::cli {

/// One request's shape.
struct PlannedRequest {
  double start_s = 0;
  int prompt_tokens = 0;
  int output_tokens = 0;
  int shared_tokens = 0;  ///< of the prompt, its first ones: equal in all requests
  /// Which content each block of the prompt has: equal ids, equal tokens. Empty: all its own.
  std::vector<int64_t> block_ids = {};
};
constexpr int kTraceBlockTokens = 512;  ///< of Mooncake's traces

struct RandomLoad {
  int count = 0;
  double rate = 0;  ///< per second, with exponential gaps (a Poisson process); 0: all at once
  int prompt_tokens = 0;
  int output_tokens = 0;
  double spread = 0;  ///< lengths are drawn evenly from 1 - spread to 1 + spread of those, at least
                      ///< 1
  uint64_t seed = 0;
};
std::vector<PlannedRequest> PlanRandom(const RandomLoad& load);

/// The first `limit` requests of a trace: the CSV of Azure's (TIMESTAMP, ContextTokens,
/// GeneratedTokens) or the JSON lines of Mooncake's (timestamp in ms, input_length, output_length,
/// hash_ids), by its name's end. `speed` 2 replays it in half the time.
/// Errors: kNotFound, kDataCorrupt naming the line.
Result<std::vector<PlannedRequest>> ReadTrace(const std::string& path, size_t limit, double speed);

struct PromptStyle {
  std::string model;
  bool chat = false;          ///< messages of random words; else token ids
  int vocabulary = 1000;      ///< of random ids, which every model has
  int max_prompt_tokens = 0;  ///< longer ones are cut; 0 = none
  int max_output_tokens = 0;
  uint64_t seed = 0;
};

/// What the plan's request `number` asks with: its own tokens but for those of shared blocks, and
/// how many tokens for; both cut to the style's bounds.
std::vector<int> PromptTokens(const PlannedRequest& request, size_t number,
                              const PromptStyle& style);
int OutputTokens(const PlannedRequest& request, const PromptStyle& style);

/// The bodies to send.
std::vector<LoadRequest> MakeRequests(const std::vector<PlannedRequest>& plan,
                                      const PromptStyle& style);

}  // namespace gale::cli
