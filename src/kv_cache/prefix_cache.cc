#include "kv_cache/prefix_cache.h"

#include <algorithm>
#include <bit>
#include <utility>

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/status_macros.h"

namespace gale {

uint64_t Xxh3(const void* data, size_t bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(data, bytes, seed);
}

PrefixCache::PrefixCache(const Sizes& sizes, uint64_t seed, PrefixHash hash)
    : sizes_(sizes), seed_(seed), hash_(hash) {
  size_t most_nodes = 1;
  for (size_t tier = 0; tier < contents_.size(); ++tier) {
    const auto num_blocks = static_cast<size_t>(sizes.num_blocks[tier]);
    contents_[tier].resize(num_blocks);
    most_nodes += num_blocks;
  }
  table_.resize(std::bit_ceil(most_nodes));
}

PrefixNode* PrefixCache::Find(uint64_t hash, const PrefixNode& parent,
                              std::span<const TokenId> unit) const {
  PrefixNode* node = table_[hash & (table_.size() - 1)];
  while (node != nullptr && !(node->hash == hash && node->parent == &parent &&
                              std::ranges::equal(node->tokens, unit))) {
    node = node->next;
  }
  return node;
}

PrefixNode* PrefixCache::FindRoot(const std::string& salt) const {
  const auto found = roots_.find(salt);
  return found == roots_.end() ? nullptr : found->second;
}

PrefixNode* PrefixCache::FindChild(const PrefixNode& parent, std::span<const TokenId> unit) const {
  return Find(HashUnit(parent, unit), parent, unit);
}

PrefixNode& PrefixCache::Root(const std::string& salt) {
  if (PrefixNode* node = FindRoot(salt)) return *node;
  PrefixNode& node = NewNode(nullptr, hash_(salt.data(), salt.size(), seed_), 0);
  node.salt = &roots_.emplace(salt, &node).first->first;
  return node;
}

PrefixNode& PrefixCache::Child(PrefixNode& parent, std::span<const TokenId> unit) {
  GALE_CHECK_EQ(unit.size(), static_cast<size_t>(sizes_.unit_tokens));
  const uint64_t hash = HashUnit(parent, unit);
  if (PrefixNode* node = Find(hash, parent, unit)) return *node;
  PrefixNode& node = NewNode(&parent, hash, parent.num_units + 1);
  std::ranges::copy(unit, node.tokens.begin());
  node.next = std::exchange(Slot(hash), &node);
  ++parent.num_children;
  return node;
}

PrefixNode& PrefixCache::NewNode(PrefixNode* parent, uint64_t hash, int num_units) {
  if (free_.empty()) AddArena();
  PrefixNode& node = *free_.back();
  free_.pop_back();
  ++num_nodes_;
  const PrefixNode cleared{.tokens = node.tokens, .blocks = node.blocks};
  node = cleared;
  node.parent = parent;
  node.hash = hash;
  node.num_units = num_units;
  std::ranges::fill(node.blocks, kNullBlock);
  return node;
}

void PrefixCache::AddArena() {
  constexpr size_t kNodes = 256;
  const auto num_tokens = static_cast<size_t>(sizes_.unit_tokens);
  const size_t num_blocks = static_cast<size_t>(sizes_.num_groups) * kNumKvTiers;
  const size_t num_cells = num_tokens + num_blocks;
  Arena& arena = arenas_.emplace_back(Arena{std::make_unique<PrefixNode[]>(kNodes),
                                            std::make_unique<int32_t[]>(kNodes * num_cells)});
  for (size_t i = kNodes; i-- > 0;) {
    int32_t* cells = arena.cells.get() + i * num_cells;
    arena.nodes[i].tokens = {cells, num_tokens};
    arena.nodes[i].blocks = {cells + num_tokens, num_blocks};
    free_.push_back(&arena.nodes[i]);
  }
}

void PrefixCache::Unpin(PrefixNode& node) {
  GALE_CHECK_GT(node.num_pins, 0);
  --node.num_pins;
  DeleteIfDead(&node);
}

void PrefixCache::SetBlock(PrefixNode& node, int group, BlockId id, KvTier tier) {
  Content& content = contents_[static_cast<size_t>(tier)][static_cast<size_t>(id)];
  GALE_CHECK(content.node == nullptr);
  BlockId& block = BlockOf(node, group, tier);
  GALE_CHECK_EQ(block, kNullBlock);
  block = id;
  content = {&node, group};
}

void PrefixCache::Forget(BlockId id, KvTier tier) {
  const Content content =
      std::exchange(contents_[static_cast<size_t>(tier)][static_cast<size_t>(id)], {});
  GALE_CHECK(content.node != nullptr);
  BlockOf(*content.node, content.group, tier) = kNullBlock;
  DeleteIfDead(content.node);
}

void PrefixCache::DeleteIfDead(PrefixNode* node) {
  while (node != nullptr && node->num_pins == 0 && node->num_children == 0 &&
         std::ranges::all_of(node->blocks, [](BlockId id) { return id == kNullBlock; })) {
    PrefixNode* parent = node->parent;
    if (parent == nullptr) {
      roots_.erase(roots_.find(*node->salt));
    } else {
      PrefixNode** link = &Slot(node->hash);
      while (*link != node) link = &(*link)->next;
      *link = node->next;
      --parent->num_children;
    }
    free_.push_back(node);
    --num_nodes_;
    node = parent;
  }
}

Status PrefixCache::CheckBlocks(KvTier tier, const std::vector<const PrefixNode*>& nodes) const {
  const auto& contents = contents_[static_cast<size_t>(tier)];
  int64_t num_blocks = 0;
  for (const PrefixNode* node : nodes) {
    for (int group = 0; group < sizes_.num_groups; ++group) {
      const BlockId id = node->Block(group, tier);
      if (id == kNullBlock) continue;
      ++num_blocks;
      const Content& content = contents[static_cast<size_t>(id)];
      if (content.node != node || content.group != group) {
        return MakeError(ErrorCode::kInternal, fmt::format("block {} has two prefixes", id));
      }
    }
  }
  const auto num_owned =
      std::ranges::count_if(contents, [](const Content& c) { return c.node != nullptr; });
  if (num_owned != num_blocks) {
    return MakeError(ErrorCode::kInternal, fmt::format("{} blocks have a prefix, prefixes have {}",
                                                       num_owned, num_blocks));
  }
  return {};
}

Status PrefixCache::CheckIntegrity() const {
  std::vector<const PrefixNode*> nodes;
  for (const auto& [salt, node] : roots_) nodes.push_back(node);
  for (const PrefixNode* node : table_) {
    for (; node != nullptr; node = node->next) nodes.push_back(node);
  }
  if (nodes.size() != num_nodes_) {
    return MakeError(ErrorCode::kInternal,
                     fmt::format("{} prefixes counted, {} there", num_nodes_, nodes.size()));
  }
  std::unordered_map<const PrefixNode*, int> children;
  for (const PrefixNode* node : nodes) {
    if (node->parent != nullptr) ++children[node->parent];
  }
  for (const PrefixNode* node : nodes) {
    if (node->num_children != children[node]) {
      return MakeError(ErrorCode::kInternal,
                       fmt::format("prefix of {} units: {} children counted, {} there",
                                   node->num_units, node->num_children, children[node]));
    }
  }
  GALE_RETURN_IF_ERROR(CheckBlocks(KvTier::kDevice, nodes));
  return CheckBlocks(KvTier::kHost, nodes);
}

}  // namespace gale
