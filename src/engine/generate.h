// LlmEngine::Generate over AddRequest: whole outputs from streams of deltas. Layer L5.
#pragma once

#include <vector>

#include "gale/llm_engine.h"

namespace gale {

/// Adds `requests` in order, as fast as the engine's queue takes them, and waits for all. What
/// AddRequest refuses becomes an output with kError. Not to be called on the output thread.
std::vector<RequestOutput> GenerateAll(LlmEngine& engine, std::vector<RequestParams> requests);

/// Appends the news of `delta` to `whole`.
void MergeOutput(const RequestOutput& delta, RequestOutput& whole);

}  // namespace gale
