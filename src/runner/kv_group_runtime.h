// A group of layers that remember the past alike, on one device: its attention and its view of the
// block pool. Layer L4; made by Worker for the target, by a DraftProposer for a draft model.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "backend/attention_backend.h"

namespace gale {

struct KvGroupRuntime {
  std::unique_ptr<AttentionBackend> attention;
  int block_tokens = 0;
  size_t bytes_per_block = 0;
  AttentionSpec spec;
  KvCacheView cache;  ///< once the pool is bound
};

}  // namespace gale
