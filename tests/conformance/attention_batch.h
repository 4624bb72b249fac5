// A paged attention problem: sequences with some context already cached, and what the back end
// makes of it. Shared by the attention cases and the invariance cases.
#pragma once

#include <vector>

#include "conformance/test_device.h"

namespace gale::test {

struct SequenceShape {
  int context = 0;  ///< positions written in earlier steps
  int queries = 1;  ///< new positions of the last step
  /// Sizes of the steps that write the context; the whole of it in one by default.
  std::vector<int> chunks;
};

struct AttentionProblem {
  AttentionSpec spec;
  int block_tokens = 16;
  std::vector<SequenceShape> sequences;
  int extra_block_bytes = 0;  ///< rows of the pool wider than the group needs
  bool fused_write = false;   ///< through QkvRopeWrite, with rotary angles of zero
  int graph_padding = 0;      ///< the last step has fixed launches and so many sequences of nothing
  bool sinks = false;
};

/// Inputs of all positions of every sequence: q, k, v [positions, heads, head_dim].
struct AttentionInputs {
  std::vector<HostTensor> q, k, v;  ///< [sequence]; of a latent cache, v is the last part of k
  HostTensor sinks = {};            ///< [q_heads], where the problem has them
};

/// As a cache of this format gives them back, [positions, heads, head_dim]: by the rules of
/// backend/kv_format.h, in f32 as devices have it.
HostTensor AsCached(KvFormat format, const HostTensor& rows);

/// The last `count` elements of the last dimension.
HostTensor LastElements(const HostTensor& tensor, int count);

AttentionInputs RandomInputs(const AttentionProblem& problem, uint64_t seed);

/// Runs all steps through WriteKv, Plan and Run; returns the outputs of every sequence's last step,
/// [queries, q_heads, value_dim] each. Blocks are dealt in a scrambled order and begin as NaNs;
/// those wholly out of a step's windows are not in its tables.
std::vector<HostTensor> RunAttention(Device& device, const AttentionProblem& problem,
                                     const AttentionInputs& inputs);

}  // namespace gale::test
