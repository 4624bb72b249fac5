#include "text/word_merger.h"

#include <algorithm>
#include <array>
#include <functional>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

namespace gale::text {
namespace {

// Up to here a scan over all ranks beats any queue.
constexpr size_t kFewSymbols = 48;

size_t MergeFew(const MergeTable& merges, std::span<TokenId> symbols) {
  std::array<uint32_t, kFewSymbols> ranks;  // [i] of symbols i and i + 1
  std::array<TokenId, kFewSymbols> merged;
  const auto look_up = [&](size_t i) {
    const MergeTable::Merge merge = merges.Find(symbols[i], symbols[i + 1]);
    ranks[i] = merge.rank;
    merged[i] = merge.id;
  };
  size_t size = symbols.size();
  for (size_t i = 0; i + 1 < size; ++i) look_up(i);
  while (size > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < size; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == MergeTable::kNoRank) break;
    symbols[best] = merged[best];
    for (size_t i = best + 2; i < size; ++i) {
      symbols[i - 1] = symbols[i];
      ranks[i - 1] = ranks[i];
      merged[i - 1] = merged[i];
    }
    --size;
    if (best > 0) look_up(best - 1);
    if (best + 1 < size) look_up(best);
  }
  return size;
}

/// A word of many symbols as a linked list. The pairs that may merge wait by rank: long words
/// repeat few pairs, so there are far fewer ranks than pairs to keep in order.
class LongWord {
 public:
  LongWord(const MergeTable& merges, std::span<const TokenId> ids) : merges_(merges) {
    const auto size = static_cast<uint32_t>(ids.size());
    symbols_.reserve(size);
    for (uint32_t i = 0; i < size; ++i) {
      symbols_.push_back({ids[i], i == 0 ? kNone : i - 1, i + 1 == size ? kNone : i + 1});
    }
    for (uint32_t i = 0; i + 1 < size; ++i) Consider(i);
  }

  void Merge() {
    while (!ranks_.empty()) {
      const uint32_t rank = ranks_.top();
      ranks_.pop();
      latest_ = nullptr;
      MergeRank(rank, std::move(waiting_.extract(rank).mapped()));
    }
  }

  size_t CopyTo(std::span<TokenId> ids) const {
    size_t size = 0;
    for (uint32_t i = 0; i != kNone; i = symbols_[i].next) ids[size++] = symbols_[i].id;
    return size;
  }

 private:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  static constexpr TokenId kMerged = -1;

  struct Symbol {
    TokenId id;  ///< kMerged once it is part of the symbol before it
    uint32_t previous;
    uint32_t next;
  };

  /// Merges the pairs of `rank` whose left symbols are `lefts`; some of them may have changed since
  /// they were noted.
  void MergeRank(uint32_t rank, std::vector<uint32_t> lefts) {
    if (!std::ranges::is_sorted(lefts)) std::ranges::sort(lefts);
    for (size_t i = 0; i < lefts.size(); ++i) {
      if (!MergeAt(lefts[i], rank)) continue;
      // A vocabulary may rank what a merge makes before the merge; then that goes first.
      if (ranks_.empty() || ranks_.top() > rank) continue;
      for (++i; i < lefts.size(); ++i) Wait(rank, lefts[i]);
    }
  }

  bool MergeAt(uint32_t left_index, uint32_t rank) {
    Symbol& left = symbols_[left_index];
    if (left.id == kMerged || left.next == kNone) return false;
    Symbol& right = symbols_[left.next];
    const MergeTable::Merge merge = merges_.Find(left.id, right.id);
    if (merge.rank != rank) return false;
    left.id = merge.id;
    left.next = right.next;
    right.id = kMerged;
    if (left.next != kNone) symbols_[left.next].previous = left_index;
    if (left.previous != kNone) Consider(left.previous);
    if (left.next != kNone) Consider(left_index);
    return true;
  }

  void Consider(uint32_t left_index) {
    const Symbol& left = symbols_[left_index];
    const uint32_t rank = merges_.Find(left.id, symbols_[left.next].id).rank;
    if (rank != MergeTable::kNoRank) Wait(rank, left_index);
  }

  void Wait(uint32_t rank, uint32_t left_index) {
    if (latest_ == nullptr || latest_->first != rank) {
      const auto [it, is_new] = waiting_.try_emplace(rank);
      if (is_new) ranks_.push(rank);
      latest_ = &*it;
    }
    latest_->second.push_back(left_index);
  }

  const MergeTable& merges_;
  std::vector<Symbol> symbols_;
  std::unordered_map<uint32_t, std::vector<uint32_t>> waiting_;  ///< rank -> left symbols
  decltype(waiting_)::pointer latest_ = nullptr;  ///< where a symbol was last put: often again
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ranks_;  ///< of waiting_
};

}  // namespace

size_t MergeSymbols(const MergeTable& merges, std::span<TokenId> symbols) {
  if (symbols.size() == 1) return 1;
  if (symbols.size() == 2) {
    const MergeTable::Merge merge = merges.Find(symbols[0], symbols[1]);
    if (merge.rank == MergeTable::kNoRank) return 2;
    symbols[0] = merge.id;
    return 1;
  }
  if (symbols.size() <= kFewSymbols) return MergeFew(merges, symbols);
  LongWord word(merges, symbols);
  word.Merge();
  return word.CopyTo(symbols);
}

}  // namespace gale::text
