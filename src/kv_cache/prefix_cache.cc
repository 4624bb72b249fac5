#include "kv_cache/prefix_cache.h"

#include <algorithm>
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

PrefixCache::PrefixCache(int num_groups, std::array<int, kNumKvTiers> num_blocks, uint64_t seed,
                         PrefixHash hash)
    : num_groups_(num_groups), seed_(seed), hash_(hash) {
  for (size_t tier = 0; tier < contents_.size(); ++tier) contents_[tier].resize(num_blocks[tier]);
}

PrefixNode* PrefixCache::Find(uint64_t hash, const PrefixNode* parent,
                              std::span<const TokenId> tokens, std::string_view salt) const {
  const auto [begin, end] = nodes_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    PrefixNode& node = *it->second;
    if (node.parent == parent && node.salt == salt && std::ranges::equal(node.tokens, tokens)) {
      return &node;
    }
  }
  return nullptr;
}

PrefixNode* PrefixCache::FindRoot(std::string_view salt) const {
  return Find(hash_(salt.data(), salt.size(), seed_), nullptr, {}, salt);
}

PrefixNode* PrefixCache::FindChild(const PrefixNode& parent, std::span<const TokenId> unit) const {
  return Find(hash_(unit.data(), unit.size_bytes(), parent.hash), &parent, unit, "");
}

PrefixNode& PrefixCache::Root(std::string_view salt) {
  if (PrefixNode* node = FindRoot(salt)) return *node;
  PrefixNode node;
  node.hash = hash_(salt.data(), salt.size(), seed_);
  node.salt = salt;
  return Insert(std::move(node));
}

PrefixNode& PrefixCache::Child(PrefixNode& parent, std::span<const TokenId> unit) {
  if (PrefixNode* node = FindChild(parent, unit)) return *node;
  ++parent.num_children;
  PrefixNode node;
  node.parent = &parent;
  node.hash = hash_(unit.data(), unit.size_bytes(), parent.hash);
  node.num_units = parent.num_units + 1;
  node.tokens.assign(unit.begin(), unit.end());
  return Insert(std::move(node));
}

PrefixNode& PrefixCache::Insert(PrefixNode node) {
  node.blocks.assign(static_cast<size_t>(num_groups_) * kNumKvTiers, kNullBlock);
  const uint64_t hash = node.hash;
  return *nodes_.emplace(hash, std::make_unique<PrefixNode>(std::move(node)))->second;
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
    const auto [begin, end] = nodes_.equal_range(node->hash);
    nodes_.erase(std::find_if(begin, end, [&](const auto& e) { return e.second.get() == node; }));
    if (parent != nullptr) --parent->num_children;
    node = parent;
  }
}

Status PrefixCache::CheckBlocks(KvTier tier) const {
  const auto& contents = contents_[static_cast<size_t>(tier)];
  int64_t num_blocks = 0;
  for (const auto& [hash, node] : nodes_) {
    for (int group = 0; group < num_groups_; ++group) {
      const BlockId id = node->Block(group, tier);
      if (id == kNullBlock) continue;
      ++num_blocks;
      const Content& content = contents[static_cast<size_t>(id)];
      if (content.node != node.get() || content.group != group) {
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
  std::unordered_map<const PrefixNode*, int> children;
  for (const auto& [hash, node] : nodes_) {
    if (node->parent != nullptr) ++children[node->parent];
  }
  for (const auto& [hash, node] : nodes_) {
    if (node->num_children != children[node.get()]) {
      return MakeError(ErrorCode::kInternal,
                       fmt::format("prefix of {} units: {} children counted, {} there",
                                   node->num_units, node->num_children, children[node.get()]));
    }
  }
  GALE_RETURN_IF_ERROR(CheckBlocks(KvTier::kDevice));
  return CheckBlocks(KvTier::kHost);
}

}  // namespace gale
