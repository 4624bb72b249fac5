// Who holds which block of KV memory: ids and reference counts, never the memory itself.
// Layer L2 of the control column, used by KvCacheManager only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "gale/status.h"
#include "request/sequence.h"

namespace gale {

/// Every block but kNullBlock is in exactly one place:
///   held      referenced by at least one sequence
///   retiring  referenced by none, but a step that is still running may touch it
///   idle      referenced by none, content kept for prefix hits; evicted oldest first
///   free      no content worth keeping
/// Blocks that were released earlier are evicted earlier. Whoever uses a block of a prefix also
/// uses the blocks before it, so releasing a table from its end makes that order leaf first. Cost:
/// O(1) per operation.
class BlockPool {
 public:
  /// `on_evict` is told of an idle block whose content is about to be given up.
  BlockPool(int num_blocks, std::function<void(BlockId)> on_evict);

  int num_total() const { return static_cast<int>(blocks_.size()) - 1; }
  /// Can be taken now: free and idle blocks.
  int num_free() const { return static_cast<int>(free_.size()) + num_idle_; }
  /// Become free or idle once the steps that run now have retired.
  int num_retiring() const { return num_retiring_; }
  bool is_idle(BlockId id) const { return blocks_[id].place == Place::kIdle; }
  bool is_cached(BlockId id) const { return blocks_[id].cached; }
  int num_refs(BlockId id) const { return blocks_[id].num_refs; }

  /// A block with one reference. CHECKs num_free() > 0.
  BlockId Take();
  void AddRef(BlockId id);
  /// Drops one reference; the last holder's steps up to `last_step` may still touch the block.
  void Release(BlockId id, uint64_t last_step);
  /// The content of this held block is worth keeping when nobody holds it.
  void MarkCached(BlockId id);
  /// It is not, after all.
  void Uncache(BlockId id);
  /// All steps up to `step` are over.
  void Retire(uint64_t step);

  /// `refs` [num_total + 1]: the references that the holders know of.
  Status CheckIntegrity(std::span<const int> refs) const;

 private:
  enum class Place : uint8_t { kFree, kIdle, kRetiring, kHeld };
  struct Block {
    int num_refs = 0;
    Place place = Place::kFree;
    bool cached = false;
    uint64_t last_step = 0;     ///< of all its holders since it was taken
    BlockId prev = kNullBlock;  ///< neighbours among the idle blocks; kNullBlock is the ring's head
    BlockId next = kNullBlock;
  };
  struct Retiring {
    uint64_t step = 0;
    BlockId id = kNullBlock;
  };

  void Settle(BlockId id);
  void UnlinkIdle(BlockId id);

  std::function<void(BlockId)> on_evict_;
  std::vector<Block> blocks_;
  std::vector<BlockId> free_;      ///< a stack
  std::deque<Retiring> retiring_;  ///< steps ascend; entries of blocks held again are void
  uint64_t retired_step_ = 0;
  int num_idle_ = 0;
  int num_retiring_ = 0;
};

}  // namespace gale
