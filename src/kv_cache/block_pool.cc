#include "kv_cache/block_pool.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"

namespace gale {

BlockPool::BlockPool(int num_blocks, std::function<void(BlockId)> on_evict)
    : on_evict_(std::move(on_evict)), blocks_(num_blocks) {
  GALE_CHECK_GE(num_blocks, 1);
  for (BlockId id = num_blocks - 1; id > kNullBlock; --id) free_.push_back(id);
}

BlockId BlockPool::Take() {
  BlockId id = kNullBlock;
  if (!free_.empty()) {
    id = free_.back();
    free_.pop_back();
  } else {
    id = blocks_[kNullBlock].next;
    GALE_CHECK_NE(id, kNullBlock);
    on_evict_(id);
    UnlinkIdle(id);
  }
  blocks_[id] = Block{.num_refs = 1, .place = Place::kHeld};
  return id;
}

void BlockPool::AddRef(BlockId id) {
  Block& block = blocks_[id];
  GALE_CHECK(id != kNullBlock && block.place != Place::kFree);
  if (block.place == Place::kIdle) UnlinkIdle(id);
  if (block.place == Place::kRetiring) --num_retiring_;
  block.place = Place::kHeld;
  ++block.num_refs;
}

void BlockPool::Release(BlockId id, uint64_t last_step) {
  Block& block = blocks_[id];
  GALE_CHECK(id != kNullBlock && block.num_refs > 0);
  block.last_step = std::max(block.last_step, last_step);
  if (--block.num_refs > 0) return;
  // A block queues behind those released before it even if its own steps are over: this keeps the
  // order of eviction, and the queue is empty again a step later.
  if (!retiring_.empty()) block.last_step = std::max(block.last_step, retiring_.back().step);
  if (block.last_step <= retired_step_) {
    Settle(id);
  } else {
    block.place = Place::kRetiring;
    ++num_retiring_;
    retiring_.push_back({block.last_step, id});
  }
}

void BlockPool::MarkCached(BlockId id) {
  GALE_CHECK(id != kNullBlock && blocks_[id].place == Place::kHeld);
  blocks_[id].cached = true;
}

void BlockPool::Uncache(BlockId id) {
  Block& block = blocks_[id];
  block.cached = false;
  if (block.place != Place::kIdle) return;
  UnlinkIdle(id);
  block.place = Place::kFree;
  free_.push_back(id);
}

void BlockPool::Retire(uint64_t step) {
  retired_step_ = std::max(retired_step_, step);
  while (!retiring_.empty() && retiring_.front().step <= retired_step_) {
    const auto [last_step, id] = retiring_.front();
    retiring_.pop_front();
    // Held again since, and perhaps released with a later step: then that entry counts.
    if (blocks_[id].place != Place::kRetiring || blocks_[id].last_step != last_step) continue;
    --num_retiring_;
    Settle(id);
  }
}

void BlockPool::Settle(BlockId id) {
  Block& block = blocks_[id];
  if (!block.cached) {
    block.place = Place::kFree;
    free_.push_back(id);
    return;
  }
  block.place = Place::kIdle;
  Block& head = blocks_[kNullBlock];
  block.prev = head.prev;
  block.next = kNullBlock;
  blocks_[head.prev].next = id;
  head.prev = id;
  ++num_idle_;
}

void BlockPool::UnlinkIdle(BlockId id) {
  Block& block = blocks_[id];
  blocks_[block.prev].next = block.next;
  blocks_[block.next].prev = block.prev;
  --num_idle_;
}

Status BlockPool::CheckIntegrity(std::span<const int> refs) const {
  GALE_CHECK_EQ(refs.size(), blocks_.size());
  std::vector<int> places(blocks_.size(), 0);
  for (const BlockId id : free_) ++places[id];
  int num_idle = 0;
  for (BlockId id = blocks_[kNullBlock].next; id != kNullBlock; id = blocks_[id].next) {
    ++places[id];
    ++num_idle;
  }
  int num_retiring = 0;
  int num_held = 0;
  for (BlockId id = 1; id <= num_total(); ++id) {
    const Block& block = blocks_[id];
    const bool listed = block.place == Place::kFree || block.place == Place::kIdle;
    num_retiring += block.place == Place::kRetiring ? 1 : 0;
    num_held += block.place == Place::kHeld ? 1 : 0;
    if (block.num_refs != refs[id]) {
      return MakeError(ErrorCode::kInternal, fmt::format("block {}: {} references counted, {} held",
                                                         id, block.num_refs, refs[id]));
    }
    if ((block.num_refs > 0) != (block.place == Place::kHeld) || places[id] != (listed ? 1 : 0)) {
      return MakeError(ErrorCode::kInternal,
                       fmt::format("block {}: {} references, place {}, listed {} times", id,
                                   block.num_refs, static_cast<int>(block.place), places[id]));
    }
  }
  const int num_free = static_cast<int>(free_.size());
  if (num_idle != num_idle_ || num_retiring != num_retiring_ ||
      num_free + num_idle + num_retiring + num_held != num_total()) {
    return MakeError(ErrorCode::kInternal,
                     fmt::format("{} free + {} idle + {} retiring + {} held of {} blocks; counters "
                                 "say {} idle, {} retiring",
                                 num_free, num_idle, num_retiring, num_held, num_total(), num_idle_,
                                 num_retiring_));
  }
  return {};
}

}  // namespace gale
