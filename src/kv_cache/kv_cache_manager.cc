#include "kv_cache/kv_cache_manager.h"

#include <algorithm>
#include <limits>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/status_macros.h"

namespace gale {
namespace {

int CeilDiv(int a, int b) { return (a + b - 1) / b; }

int SmallestBlock(const KvCacheSpec& spec) {
  int smallest = std::numeric_limits<int>::max();
  for (const KvGroup& group : spec.groups) {
    GALE_CHECK_GT(group.block_tokens, 0);
    smallest = std::min(smallest, group.block_tokens);
  }
  return smallest;
}

uint64_t RandomSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

KvCacheManager::KvCacheManager(const KvCacheConfig& config)
    : groups_(config.spec.groups),
      max_step_tokens_(config.max_step_tokens),
      enable_prefix_cache_(config.enable_prefix_cache),
      unit_tokens_(SmallestBlock(config.spec)),
      prefix_cache_({.num_groups = num_groups(),
                     .unit_tokens = unit_tokens_,
                     .num_blocks = {config.num_blocks, std::max(config.num_host_blocks, 1)}},
                    RandomSeed(), config.prefix_hash),
      pool_(config.num_blocks, [this](BlockId id) { Evict(id); }),
      host_pool_(std::max(config.num_host_blocks, 1),
                 [this](BlockId id) { prefix_cache_.Forget(id, KvTier::kHost); }) {
  GALE_CHECK(!groups_.empty());
  for (const KvGroup& group : groups_) has_recurrent_ |= group.kind == KvKind::kRecurrent;
  for (const KvGroup& group : groups_) GALE_CHECK_EQ(group.block_tokens % unit_tokens_, 0);
}

int KvCacheManager::BlocksFor(int group, int num_tokens) const {
  if (groups_[group].kind == KvKind::kRecurrent) return 1;
  return CeilDiv(num_tokens, groups_[group].block_tokens);
}

/// The first block that a query at `position` or later reads.
int KvCacheManager::FirstNeeded(int group, int position) const {
  const KvGroup& g = groups_[group];
  if (g.kind != KvKind::kSlidingWindow) return 0;
  return std::max(0, position - g.window + 1) / g.block_tokens;
}

int KvCacheManager::BlocksToHold(int num_tokens) const {
  int blocks = 0;
  for (int g = 0; g < num_groups(); ++g) {
    blocks += gale::BlocksToHold(groups_[g], num_tokens, max_step_tokens_);
    // A cached state is held while it is copied.
    if (groups_[g].kind == KvKind::kRecurrent && enable_prefix_cache_) ++blocks;
  }
  return blocks;
}

PrefixMatch KvCacheManager::MatchPrefix(const Sequence& seq, int max_tokens) const {
  PrefixMatch best;
  if (!enable_prefix_cache_) return best;
  PrefixNode* node = prefix_cache_.FindRoot(seq.request->cache_salt);
  std::vector<int> run(groups_.size(), 0);  // cached blocks in a row that end at `node`
  const std::span<const TokenId> tokens(seq.tokens);
  while (node != nullptr && (node->num_units + 1) * unit_tokens_ <= max_tokens) {
    node = prefix_cache_.FindChild(*node,
                                   tokens.subspan(node->num_units * unit_tokens_, unit_tokens_));
    if (node == nullptr) break;
    const int length = node->num_units * unit_tokens_;
    bool valid = true;
    for (int g = 0; g < num_groups(); ++g) {
      const bool cached = IsCached(*node, g);
      if (groups_[g].kind == KvKind::kRecurrent) {
        valid &= cached;
      } else if (length % groups_[g].block_tokens != 0) {
        valid = false;
      } else {
        run[g] = cached ? run[g] + 1 : 0;
        valid &= run[g] >= BlocksFor(g, length) - FirstNeeded(g, length);
      }
    }
    if (valid) best = {length, node};
  }
  return best;
}

bool KvCacheManager::IsCached(const PrefixNode& node, int group) const {
  return node.Block(group) != kNullBlock ||
         (host_pays_ && node.Block(group, KvTier::kHost) != kNullBlock);
}

/// Calls visit(node, group, block index) for each cached block that continuing from `match` reads.
template <class Visit>
void KvCacheManager::ForEachMatched(const PrefixMatch& match, Visit visit) const {
  for (PrefixNode* node = match.node; node != nullptr && node->num_units > 0; node = node->parent) {
    const int end = node->num_units * unit_tokens_;
    for (int g = 0; g < num_groups(); ++g) {
      if (groups_[g].kind == KvKind::kRecurrent) {
        if (node == match.node) visit(*node, g, 0);
      } else if (end % groups_[g].block_tokens == 0) {
        const int index = end / groups_[g].block_tokens - 1;
        if (index >= FirstNeeded(g, match.num_tokens)) visit(*node, g, index);
      }
    }
  }
}

int KvCacheManager::BlocksNeeded(const Sequence& seq, const PrefixMatch& match, int num_new) const {
  const bool resident = !seq.blocks.empty();
  const int end = (resident ? seq.num_launched() : match.num_tokens) + num_new;
  int needed = 0;
  for (int g = 0; g < num_groups(); ++g) {
    int present = 0;
    if (resident) {
      present = static_cast<int>(seq.blocks[g].size());
    } else if (groups_[g].kind != KvKind::kRecurrent) {
      present = BlocksFor(g, match.num_tokens);
    }
    needed += std::max(0, BlocksFor(g, end) - present);
  }
  if (!resident) {
    ForEachMatched(match, [&](const PrefixNode& node, int g, int) {
      const BlockId id = node.Block(g);
      // A state comes from the host into the sequence's own block.
      const bool comes_back = id == kNullBlock && groups_[g].kind != KvKind::kRecurrent;
      needed += comes_back || (id != kNullBlock && pool_.is_idle(id)) ? 1 : 0;
    });
  }
  return needed;
}

bool KvCacheManager::AllocateSlots(Sequence& seq, const PrefixMatch& match, int num_new) {
  if (BlocksNeeded(seq, match, num_new) > pool_.num_free()) return false;
  if (seq.blocks.empty()) Adopt(seq, match);
  const int end = seq.num_launched() + num_new;
  for (int g = 0; g < num_groups(); ++g) {
    const size_t size = BlocksFor(g, end);
    while (seq.blocks[g].size() < size) seq.blocks[g].push_back(pool_.Take());
  }
  if (has_recurrent_ && enable_prefix_cache_) KeepStates(seq);
  return true;
}

void KvCacheManager::Adopt(Sequence& seq, const PrefixMatch& match) {
  holders_.insert(&seq);
  seq.blocks.resize(groups_.size());
  for (int g = 0; g < num_groups(); ++g) {
    if (groups_[g].kind == KvKind::kRecurrent) continue;
    seq.blocks[g].assign(BlocksFor(g, match.num_tokens), kNullBlock);
  }
  // References first: taking a block could evict what was matched.
  ForEachMatched(match, [&](const PrefixNode& node, int g, int) {
    const BlockId id = node.Block(g);
    if (id != kNullBlock) {
      pool_.AddRef(id);
    } else {
      host_pool_.AddRef(node.Block(g, KvTier::kHost));
    }
  });
  ForEachMatched(match, [&](PrefixNode& node, int g, int index) {
    if (groups_[g].kind == KvKind::kRecurrent) {
      seq.blocks[g].push_back(CopyState(node, g, seq.last_step));
    } else {
      const BlockId id = node.Block(g);
      seq.blocks[g][index] = id != kNullBlock ? id : Restore(node, g, seq.last_step);
    }
  });
  if (match.node != nullptr) MoveTo(seq, match.node);
  seq.num_computed = match.num_tokens;
}

/// Brings a matched block back from the host, where it stays too: when the device evicts it again,
/// it need not be moved.
BlockId KvCacheManager::Restore(PrefixNode& node, int group, uint64_t last_step) {
  const BlockId host = node.Block(group, KvTier::kHost);
  const BlockId id = pool_.Take();
  moves_.swap_in.push_back({group, host, id});
  CacheBlock(node, group, id);
  host_pool_.Release(host, last_step);  // no swap_out of this step may overwrite it
  return id;
}

/// A copy of a matched state for a sequence, which will change it.
BlockId KvCacheManager::CopyState(const PrefixNode& node, int group, uint64_t last_step) {
  const BlockId own = pool_.Take();
  if (const BlockId id = node.Block(group); id != kNullBlock) {
    moves_.copies.push_back({group, id, own});
    pool_.Release(id, last_step);
  } else {
    const BlockId host = node.Block(group, KvTier::kHost);
    moves_.swap_in.push_back({group, host, own});
    host_pool_.Release(host, last_step);
  }
  return own;
}

/// The device needs this idle block for something else.
void KvCacheManager::Evict(BlockId id) {
  const auto [node, group] = prefix_cache_.ContentOf(id);
  if (host_pays_ && node->Block(group, KvTier::kHost) == kNullBlock && host_pool_.num_free() > 0) {
    const BlockId host = host_pool_.Take();
    prefix_cache_.SetBlock(*node, group, host, KvTier::kHost);
    host_pool_.MarkCached(host);
    moves_.swap_out.push_back({group, id, host});
    host_pool_.Release(host, 0);
  }
  prefix_cache_.Forget(id);
}

void KvCacheManager::ForgetPrefixes() {
  moves_ = {};
  for (BlockId id = 1; id <= pool_.num_total(); ++id) {
    if (!pool_.is_cached(id)) continue;
    prefix_cache_.Forget(id);
    pool_.Uncache(id);
  }
  for (BlockId id = 1; id <= host_pool_.num_total(); ++id) {
    if (!host_pool_.is_cached(id)) continue;
    prefix_cache_.Forget(id, KvTier::kHost);
    host_pool_.Uncache(id);
  }
}

/// At the start of a prompt chunk on a unit's border: copies the states, if there is room for it.
void KvCacheManager::KeepStates(Sequence& seq) {
  const int begin = seq.num_launched();
  if (begin == 0 || begin % unit_tokens_ != 0 || begin >= seq.num_prompt) return;
  const bool at_prefix = seq.prefix != nullptr && seq.prefix->num_units * unit_tokens_ == begin;
  for (int g = 0; g < num_groups(); ++g) {
    if (groups_[g].kind != KvKind::kRecurrent || pool_.num_free() == 0) continue;
    if (at_prefix && seq.prefix->Block(g) != kNullBlock) continue;
    const BlockId kept = pool_.Take();
    moves_.copies.push_back({g, seq.blocks[g].front(), kept});
    seq.kept_states.push_back({g, begin, kept});
  }
}

int KvCacheManager::ChunkEnd(const Sequence& seq, int begin, int end) const {
  if (!has_recurrent_ || !enable_prefix_cache_ || begin >= seq.num_prompt) return end;
  const int border = std::min(end, seq.num_prompt - 1) / unit_tokens_ * unit_tokens_;
  return border > begin ? border : end;
}

void KvCacheManager::MoveTo(Sequence& seq, PrefixNode* node) {
  if (node != nullptr) prefix_cache_.Pin(*node);
  if (seq.prefix != nullptr) prefix_cache_.Unpin(*seq.prefix);
  seq.prefix = node;
  seq.num_prefix = node == nullptr ? 0 : node->num_units * unit_tokens_;
}

void KvCacheManager::CacheBlock(PrefixNode& node, int group, BlockId id) {
  if (node.Block(group) != kNullBlock) return;  // somebody computed the same earlier
  prefix_cache_.SetBlock(node, group, id);
  pool_.MarkCached(id);
}

void KvCacheManager::Commit(Sequence& seq, int num_computed) {
  GALE_CHECK_LE(num_computed, static_cast<int>(seq.tokens.size()));
  seq.num_computed = num_computed;
  if (enable_prefix_cache_) ExtendPrefix(seq);
  for (int g = 0; g < num_groups(); ++g) {
    BlockList& table = seq.blocks[g];
    // Steps in flight query num_computed and later positions only: none of them reads these blocks.
    for (int i = FirstNeeded(g, num_computed) - 1; i >= 0 && table[i] != kNullBlock; --i) {
      pool_.Release(std::exchange(table[i], kNullBlock), 0);
    }
  }
}

void KvCacheManager::ExtendPrefix(Sequence& seq) {
  if (seq.prefix == nullptr) MoveTo(seq, &prefix_cache_.Root(seq.request->cache_salt));
  const std::span<const TokenId> tokens(seq.tokens);
  while (seq.num_prefix + unit_tokens_ <= seq.num_computed) {
    const int begin = seq.num_prefix;
    MoveTo(seq, &prefix_cache_.Child(*seq.prefix, tokens.subspan(begin, unit_tokens_)));
    const int end = begin + unit_tokens_;
    for (int g = 0; g < num_groups(); ++g) {
      if (groups_[g].kind == KvKind::kRecurrent || end % groups_[g].block_tokens != 0) continue;
      const BlockId id = seq.blocks[g][end / groups_[g].block_tokens - 1];
      if (id != kNullBlock) CacheBlock(*seq.prefix, g, id);
    }
  }
  // A state was copied at the start of the step that computed the tokens after it.
  std::erase_if(seq.kept_states, [&](const KeptState& kept) {
    if (kept.num_tokens >= seq.num_computed) return false;
    PrefixNode* node = seq.prefix;
    while (node->num_units * unit_tokens_ > kept.num_tokens) node = node->parent;
    CacheBlock(*node, kept.group, kept.block);
    pool_.Release(kept.block, 0);
    return true;
  });
}

bool KvCacheManager::Fork(const Sequence& parent, Sequence& child) {
  GALE_CHECK_EQ(parent.num_in_flight, 0);
  GALE_CHECK(child.blocks.empty());
  const int length = parent.num_computed;
  const auto is_copied = [&](int g) {
    return groups_[g].kind == KvKind::kRecurrent || length % groups_[g].block_tokens != 0;
  };
  int needed = 0;
  for (int g = 0; g < num_groups(); ++g) needed += is_copied(g) ? 1 : 0;
  if (needed > pool_.num_free()) return false;

  holders_.insert(&child);
  child.blocks.resize(groups_.size());
  for (int g = 0; g < num_groups(); ++g) {
    const BlockList& from = parent.blocks[g];
    const int used = BlocksFor(g, length);
    const int shared = used - (is_copied(g) ? 1 : 0);
    child.blocks[g].assign(from.begin(), from.begin() + shared);
    for (const BlockId id : child.blocks[g]) {
      if (id != kNullBlock) pool_.AddRef(id);
    }
    if (is_copied(g)) {
      child.blocks[g].push_back(pool_.Take());
      moves_.copies.push_back({g, from[used - 1], child.blocks[g].back()});
    }
  }
  child.num_computed = length;
  MoveTo(child, parent.prefix);
  return true;
}

void KvCacheManager::Free(Sequence& seq) {
  for (const KeptState& kept : seq.kept_states) pool_.Release(kept.block, seq.last_step);
  seq.kept_states.clear();
  size_t longest = 0;
  for (const BlockList& table : seq.blocks) longest = std::max(longest, table.size());
  // From the end of the tables, so that a prefix loses its last blocks first.
  for (size_t i = longest; i-- > 0;) {
    for (const BlockList& table : seq.blocks) {
      if (i < table.size() && table[i] != kNullBlock) pool_.Release(table[i], seq.last_step);
    }
  }
  seq.blocks.clear();
  MoveTo(seq, nullptr);
  seq.num_computed = 0;
  holders_.erase(&seq);
}

void KvCacheManager::Retire(uint64_t step) {
  pool_.Retire(step);
  host_pool_.Retire(step);
}

BlockMoves KvCacheManager::TakeMoves() { return std::exchange(moves_, {}); }

Status KvCacheManager::CheckIntegrity() const {
  std::vector<int> refs(pool_.num_total() + 1, 0);
  const std::vector<int> host_refs(host_pool_.num_total() + 1, 0);
  for (const Sequence* seq : holders_) {
    std::unordered_set<BlockId> own;
    const auto count = [&](BlockId id) {
      if (id != kNullBlock) ++refs[id];
      return id == kNullBlock || own.insert(id).second;
    };
    bool once = true;
    for (const BlockList& table : seq->blocks) {
      for (const BlockId id : table) once &= count(id);
    }
    for (const KeptState& kept : seq->kept_states) once &= count(kept.block);
    if (!once) {
      return MakeError(ErrorCode::kInternal,
                       fmt::format("sequence {} holds a block twice", seq->id));
    }
  }
  GALE_RETURN_IF_ERROR(pool_.CheckIntegrity(refs));
  GALE_RETURN_IF_ERROR(host_pool_.CheckIntegrity(host_refs));
  GALE_RETURN_IF_ERROR(CheckPrefixBlocks(KvTier::kDevice));
  GALE_RETURN_IF_ERROR(CheckPrefixBlocks(KvTier::kHost));
  return prefix_cache_.CheckIntegrity();
}

Status KvCacheManager::CheckPrefixBlocks(KvTier tier) const {
  const BlockPool& pool = tier == KvTier::kDevice ? pool_ : host_pool_;
  for (BlockId id = 1; id <= pool.num_total(); ++id) {
    if (pool.is_cached(id) != (prefix_cache_.ContentOf(id, tier).node != nullptr)) {
      return MakeError(
          ErrorCode::kInternal,
          fmt::format("block {}: pool and prefix cache disagree whether it is cached", id));
    }
  }
  return {};
}

}  // namespace gale
