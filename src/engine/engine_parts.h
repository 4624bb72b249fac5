// What an engine is made of once everything is loaded. Layer L5; LlmEngine::Create loads and starts
// them, tests put in parts of their own.
#pragma once

#include <functional>
#include <memory>

#include "gale/llm_engine.h"
#include "kv_cache/kv_cache_spec.h"
#include "runner/executor.h"
#include "runner/speculative/draft_proposer.h"

namespace gale {

struct EngineParts {
  EngineConfig config;  ///< resolved
  ModelInfo info;
  std::string device;                           ///< as LlmEngine::device
  std::unique_ptr<Tokenizer> tokenizer;         ///< may be null
  std::unique_ptr<ChatTemplate> chat_template;  ///< may be null
  std::unique_ptr<Executor> executor;
  KvCacheSpec kv;
  int num_blocks = 0;
  int num_host_blocks = 0;      ///< as in KvCacheConfig
  double host_bytes_per_s = 0;  ///< as in SchedulerConfig
  uint64_t mapped_bytes = 0;    ///< as in EngineStats
  uint64_t private_bytes = 0;
};

/// Puts something around what guesses tokens: for benchmarks.
using WrapProposer =
    std::function<std::unique_ptr<DraftProposer>(std::unique_ptr<DraftProposer> proposer)>;

/// Loads what `config` names and resolves its zeros and "auto"s.
Result<EngineParts> LoadEngineParts(const EngineConfig& config, const LoadProgress& progress,
                                    const MemoryObserver& on_plan = {},
                                    const WrapProposer& wrap = {});

/// Starts the engine's threads.
std::unique_ptr<LlmEngine> StartEngine(EngineParts parts);

}  // namespace gale
