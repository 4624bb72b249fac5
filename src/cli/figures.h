// The line of figures behind a run: what was done, how fast, in how much memory.
#pragma once

#include <cstdint>
#include <string>

#include "gale/llm_engine.h"

namespace gale::cli {

/// What the kernel counts for this process now; all zero where /proc is missing.
struct ProcessMemory {
  uint64_t mapped_bytes = 0;   ///< resident pages of mapped files: weights, program, libraries
  uint64_t private_bytes = 0;  ///< resident pages of its own: KV cache, scratch, heap
};
ProcessMemory ReadProcessMemory();

/// Sums over the requests of one command.
struct Figures {
  int prompts = 0;
  int sequences = 0;  ///< samples of all prompts
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t draft_tokens = 0;  ///< guessed ahead
  int64_t accepted_draft_tokens = 0;
  int64_t drafts = 0;
  double draft_saved_s = 0;
  double first_token_s = 0;  ///< from the first request's start to its first token
  double total_s = 0;        ///< from the first request's start to the last one's end

  /// Those of an engine that has done nothing else.
  void TakeDrafts(const EngineStats& stats);
  /// Of one sequence: tokens after the first, over the time after the first; 0 without a second
  /// token. Of several: all tokens over the whole time.
  double TokensPerSecond() const;
  /// "12 prompt tokens, 100 generated tokens, ... memory 21.3 MiB mapped, 40.1 MiB private\n"
  std::string Line() const;
};

std::string FormatBytes(uint64_t bytes);    ///< "21.3 MiB"
std::string FormatSeconds(double seconds);  ///< "12.3 ms", "1.25 s"
std::string FormatCount(uint64_t count);    ///< "10.2 M", "812"

}  // namespace gale::cli
