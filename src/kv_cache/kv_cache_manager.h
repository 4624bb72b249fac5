// Which KV blocks each sequence holds, group by group: allocation, prefix hits, forks; and which
// prefixes that nobody holds live on, on the device or in host memory.
// Layer L2 of the control column; called by the Scheduler, on the engine thread only.
#pragma once

#include <cstdint>
#include <unordered_set>
#include <vector>

#include "gale/status.h"
#include "kv_cache/block_pool.h"
#include "kv_cache/kv_cache_spec.h"
#include "kv_cache/prefix_cache.h"
#include "request/sequence.h"

namespace gale {

struct KvCacheConfig {
  KvCacheSpec spec;
  int num_blocks = 0;         ///< in device memory, the null block included
  int num_host_blocks = 0;    ///< for prefixes that the device gives up, the null block included
  int max_step_tokens = 512;  ///< most positions of one sequence in one step
  bool enable_prefix_cache = true;
  PrefixHash prefix_hash = Xxh3;
};

/// A cached prefix; good until the manager's next call that is not const.
struct PrefixMatch {
  int32_t num_tokens = 0;
  PrefixNode* node = nullptr;  ///< null when num_tokens is 0
};

/// What the step being scheduled must move before it computes; see SchedulerOutput for the order.
struct BlockMoves {
  std::vector<BlockCopy> copies;
  std::vector<BlockCopy> swap_out;
  std::vector<BlockCopy> swap_in;
};

/// A block that can still be written has one holder; only blocks that nobody will write again are
/// shared. So table entries, once given, never change (but for kNullBlock when out of the window).
///
/// Before AllocateSlots and Fork the caller sets last_step of the sequence that gets blocks
/// to the step being scheduled. Every call costs O(blocks and tokens it adds), times groups.
///
/// A prefix whose block the device needs for others moves to a host block, if there is one, and
/// comes back into a device block when it is matched. Preempted sequences use the same way: what
/// they have computed is a prefix, and freeing them is all that is to be done.
class KvCacheManager {
 public:
  /// CHECKs that there are groups and that every block_tokens is a multiple of the smallest.
  explicit KvCacheManager(const KvCacheConfig& config);
  KvCacheManager(const KvCacheManager&) = delete;
  KvCacheManager& operator=(const KvCacheManager&) = delete;

  /// Longest prefix of at most `max_tokens` tokens that is valid in EVERY group; whole blocks.
  PrefixMatch MatchPrefix(const Sequence& seq, int max_tokens) const;

  /// Blocks that AllocateSlots would take from num_free().
  int BlocksNeeded(const Sequence& seq, const PrefixMatch& match, int num_new) const;
  /// Slots for positions [num_launched, num_launched + num_new); a sequence without blocks first
  /// gets those of `match`, which sets num_computed. All or nothing.
  bool AllocateSlots(Sequence& seq, const PrefixMatch& match, int num_new);
  /// Blocks that a sequence of `num_tokens` tokens must be able to hold at once, at most.
  int BlocksToHold(int num_tokens) const;
  /// Where a chunk of prompt positions [begin, end) should end, so that recurrent states can be
  /// kept.
  int ChunkEnd(const Sequence& seq, int begin, int end) const;

  /// Positions [0, num_computed) hold the KV of `tokens`: full blocks enter the prefix cache, those
  /// out of the window are freed. Called from Scheduler::Update only.
  void Commit(Sequence& seq, int num_computed);
  /// `child`, without blocks, continues from [0, parent.num_computed); the last, partly filled
  /// block (and every recurrent state) is copied, the rest shared. The parent has nothing in
  /// flight.
  bool Fork(const Sequence& parent, Sequence& child);
  /// Gives back everything; blocks are reused once seq.last_step has retired.
  void Free(Sequence& seq);

  /// Whether moving a block to the host and back is cheaper than computing it again. If not,
  /// evicted prefixes are lost, and those on the host wait for better days.
  void UseHost(bool pays) { host_pays_ = pays; }
  /// A step has failed: what it should have moved is not where it should be. Nobody holds blocks.
  void ForgetPrefixes();

  /// All steps up to `step` are over.
  void Retire(uint64_t step);
  BlockMoves TakeMoves();

  int num_total() const { return pool_.num_total(); }
  int num_free() const { return pool_.num_free(); }
  int num_retiring() const { return pool_.num_retiring(); }
  int num_host_total() const { return host_pool_.num_total(); }
  int num_host_free() const { return host_pool_.num_free() + host_pool_.num_retiring(); }
  size_t num_prefixes() const { return prefix_cache_.num_nodes(); }
  /// free + idle + retiring + held == total, references equal what sequences hold, no block twice.
  Status CheckIntegrity() const;

 private:
  int num_groups() const { return static_cast<int>(groups_.size()); }
  int BlocksFor(int group, int num_tokens) const;
  int FirstNeeded(int group, int position) const;
  bool IsCached(const PrefixNode& node, int group) const;
  template <class Visit>
  void ForEachMatched(const PrefixMatch& match, Visit visit) const;
  void Adopt(Sequence& seq, const PrefixMatch& match);
  BlockId Restore(PrefixNode& node, int group, uint64_t last_step);
  BlockId CopyState(const PrefixNode& node, int group, uint64_t last_step);
  void Evict(BlockId id);
  void KeepStates(Sequence& seq);
  void ExtendPrefix(Sequence& seq);
  void MoveTo(Sequence& seq, PrefixNode* node);
  void CacheBlock(PrefixNode& node, int group, BlockId id);
  Status CheckPrefixBlocks(KvTier tier) const;

  std::vector<KvGroup> groups_;
  int max_step_tokens_;
  bool enable_prefix_cache_;
  bool host_pays_ = true;
  bool has_recurrent_ = false;
  int unit_tokens_;  ///< of one prefix node: the smallest block_tokens
  PrefixCache prefix_cache_;
  BlockPool pool_;
  BlockPool host_pool_;  ///< its blocks are held by nobody, but while one comes back
  BlockMoves moves_;
  std::unordered_set<const Sequence*> holders_;
};

}  // namespace gale
