#include "kv_cache/kv_cache_spec.h"

#include <algorithm>

namespace gale {
namespace {

int CeilDiv(int a, int b) { return (a + b - 1) / b; }

}  // namespace

int BlocksToHold(const KvGroup& group, int num_tokens, int max_step_tokens) {
  if (group.kind == KvKind::kRecurrent) return 1;
  const int all = CeilDiv(num_tokens, group.block_tokens);
  if (group.kind != KvKind::kSlidingWindow) return all;
  // Two steps may be in flight before a block out of the window is known to be.
  return std::min(all, CeilDiv(group.window + 2 * max_step_tokens, group.block_tokens) + 1);
}

}  // namespace gale
