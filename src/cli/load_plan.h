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
  /// Which content each block of the prompt has: equal ids, equal tokens. Empty: all its own.
  std::vector<int64_t> block_ids = {};
};
constexpr int kTraceBlockTokens = 512;  ///< of Mooncake's traces

/// `count` equal requests; at `rate` per second with exponential gaps (a Poisson process), or all
/// at once for rate 0.
std::vector<PlannedRequest> PlanPoisson(int count, double rate, int prompt_tokens,
                                        int output_tokens, uint64_t seed);

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

/// The bodies to send.
std::vector<LoadRequest> MakeRequests(const std::vector<PlannedRequest>& plan,
                                      const PromptStyle& style);

}  // namespace gale::cli
