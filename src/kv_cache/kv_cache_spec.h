// The shape of a model's KV cache as the control column sees it: groups of layers, blocks, bytes.
#pragma once

#include <cstddef>
#include <vector>

#include "base/kv_kind.h"
#include "request/sequence.h"

namespace gale {

/// Layers that remember the past alike. All groups draw equal blocks from one pool.
struct KvGroup {
  KvKind kind = KvKind::kFull;
  int num_layers = 0;
  int block_tokens = 16;       ///< tokens that one block of this group holds
  size_t bytes_per_block = 0;  ///< used of a block; the pool's block is the largest of these
  int window = 0;              ///< kSlidingWindow: positions seen, the current one included
  size_t state_bytes = 0;      ///< kRecurrent: one state, held in one block
};

/// Blocks that a sequence of `num_tokens` tokens holds at once, at most, when no step has more than
/// `max_step_tokens` of them.
int BlocksToHold(const KvGroup& group, int num_tokens, int max_step_tokens);

/// Empty for an encoder. A draft model's groups are appended to the target's.
struct KvCacheSpec {
  std::vector<KvGroup> groups;
};

/// A move of one whole block: copy-on-write, or between device and host.
struct BlockCopy {
  int32_t group = 0;
  BlockId src = 0;
  BlockId dst = 0;
};

}  // namespace gale
