#include "kv_cache/prefix_cache.h"

#include <algorithm>
#include <utility>

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include "base/check.h"

namespace gale {

uint64_t Xxh3(const void* data, size_t bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(data, bytes, seed);
}

PrefixCache::PrefixCache(int num_groups, int num_blocks, uint64_t seed, PrefixHash hash)
    : num_groups_(num_groups), seed_(seed), hash_(hash), owners_(num_blocks) {}

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
  node.blocks.assign(num_groups_, kNullBlock);
  const uint64_t hash = node.hash;
  return *nodes_.emplace(hash, std::make_unique<PrefixNode>(std::move(node)))->second;
}

void PrefixCache::Unpin(PrefixNode& node) {
  GALE_CHECK_GT(node.num_pins, 0);
  --node.num_pins;
  DeleteIfDead(&node);
}

void PrefixCache::SetBlock(PrefixNode& node, int group, BlockId id) {
  GALE_CHECK_EQ(node.blocks[group], kNullBlock);
  GALE_CHECK(owners_[id].node == nullptr);
  node.blocks[group] = id;
  owners_[id] = {&node, group};
}

void PrefixCache::Forget(BlockId id) {
  const Owner owner = std::exchange(owners_[id], {});
  GALE_CHECK(owner.node != nullptr);
  owner.node->blocks[owner.group] = kNullBlock;
  DeleteIfDead(owner.node);
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

Status PrefixCache::CheckIntegrity() const {
  std::unordered_map<const PrefixNode*, int> children;
  size_t num_blocks = 0;
  for (const auto& [hash, node] : nodes_) {
    if (node->parent != nullptr) ++children[node->parent];
    for (int group = 0; group < num_groups_; ++group) {
      const BlockId id = node->blocks[group];
      if (id == kNullBlock) continue;
      ++num_blocks;
      if (owners_[id].node != node.get() || owners_[id].group != group) {
        return MakeError(ErrorCode::kInternal, fmt::format("block {} has two prefixes", id));
      }
    }
  }
  for (const auto& [hash, node] : nodes_) {
    if (node->num_children != children[node.get()]) {
      return MakeError(ErrorCode::kInternal,
                       fmt::format("prefix of {} units: {} children counted, {} there",
                                   node->num_units, node->num_children, children[node.get()]));
    }
  }
  const auto owned =
      std::ranges::count_if(owners_, [](const Owner& o) { return o.node != nullptr; });
  if (static_cast<size_t>(owned) != num_blocks) {
    return MakeError(ErrorCode::kInternal,
                     fmt::format("{} blocks have a prefix, prefixes have {}", owned, num_blocks));
  }
  return {};
}

}  // namespace gale
