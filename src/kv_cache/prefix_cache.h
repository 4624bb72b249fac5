// Which blocks hold the KV of which token prefix. Layer L2 of the control column, used by
// KvCacheManager only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gale/status.h"
#include "request/sequence.h"

namespace gale {

/// Where blocks lie. What the device gives up may live on in host memory.
enum class KvTier : uint8_t { kDevice, kHost };
inline constexpr int kNumKvTiers = 2;

/// A prefix of a whole number of units, as a node of a trie. Its identity is its parent and the
/// tokens of its last unit, so two prefixes share a node only if they are equal to the last token.
struct PrefixNode {
  PrefixNode* parent = nullptr;  ///< null: the empty prefix of one salt
  uint64_t hash = 0;             ///< of parent->hash and `tokens`, or of `salt`
  int num_units = 0;
  std::vector<TokenId> tokens;  ///< of the last unit
  std::string salt;             ///< the empty prefix only
  int num_children = 0;
  int num_pins = 0;             ///< sequences that stand here
  std::vector<BlockId> blocks;  ///< [tier][group]: the block (or state) that ends here, or
                                ///< kNullBlock; both tiers may have one

  BlockId Block(int group, KvTier tier = KvTier::kDevice) const {
    return blocks[blocks.size() / kNumKvTiers * static_cast<size_t>(tier) +
                  static_cast<size_t>(group)];
  }
};

/// XXH3_64bits_withSeed or, in tests, something that collides.
using PrefixHash = uint64_t (*)(const void* data, size_t bytes, uint64_t seed);
uint64_t Xxh3(const void* data, size_t bytes, uint64_t seed);

/// A trie of prefixes over chained hashes. A node lives while it has a block, a child or a pin.
/// The seed keeps clients from aiming at collisions; a collision costs time, never correctness,
/// because parent and tokens are compared.
class PrefixCache {
 public:
  PrefixCache(int num_groups, std::array<int, kNumKvTiers> num_blocks, uint64_t seed,
              PrefixHash hash = Xxh3);

  /// The empty prefix under `salt`; null when nothing is known under it.
  PrefixNode* FindRoot(std::string_view salt) const;
  /// `parent` extended by one unit of tokens, or null.
  PrefixNode* FindChild(const PrefixNode& parent, std::span<const TokenId> unit) const;
  /// The same, created (pinned by nobody) when missing.
  PrefixNode& Root(std::string_view salt);
  PrefixNode& Child(PrefixNode& parent, std::span<const TokenId> unit);

  void Pin(PrefixNode& node) { ++node.num_pins; }
  void Unpin(PrefixNode& node);

  /// Block `id` of the tier now holds what `node` stands for; CHECKs that the node had none there
  /// in this group.
  void SetBlock(PrefixNode& node, int group, BlockId id, KvTier tier = KvTier::kDevice);
  /// The content of block `id` is given up.
  void Forget(BlockId id, KvTier tier = KvTier::kDevice);

  /// What a block holds: the group's part of a prefix.
  struct Content {
    PrefixNode* node = nullptr;  ///< null: of none
    int group = 0;
  };
  const Content& ContentOf(BlockId id, KvTier tier = KvTier::kDevice) const {
    return contents_[static_cast<size_t>(tier)][static_cast<size_t>(id)];
  }
  size_t num_nodes() const { return nodes_.size(); }
  /// Parents, children and blocks agree with each other.
  Status CheckIntegrity() const;

 private:
  BlockId& BlockOf(PrefixNode& node, int group, KvTier tier) const {
    return node.blocks[static_cast<size_t>(static_cast<int>(tier) * num_groups_ + group)];
  }
  PrefixNode* Find(uint64_t hash, const PrefixNode* parent, std::span<const TokenId> tokens,
                   std::string_view salt) const;
  PrefixNode& Insert(PrefixNode node);
  void DeleteIfDead(PrefixNode* node);
  Status CheckBlocks(KvTier tier) const;

  int num_groups_;
  uint64_t seed_;
  PrefixHash hash_;
  std::unordered_multimap<uint64_t, std::unique_ptr<PrefixNode>> nodes_;  ///< by hash
  std::array<std::vector<Content>, kNumKvTiers> contents_;                ///< [tier][block]
};

}  // namespace gale
