// Which blocks hold the KV of which token prefix. Layer L2 of the control column, used by
// KvCacheManager only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
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
  PrefixNode* parent = nullptr;       ///< null: the empty prefix of one salt
  PrefixNode* next = nullptr;         ///< of the nodes that the same slot of the table has
  const std::string* salt = nullptr;  ///< the empty prefix only
  uint64_t hash = 0;                  ///< of parent->hash and `tokens`, or of the salt
  int num_units = 0;
  int num_children = 0;
  int num_pins = 0;           ///< sequences that stand here
  std::span<TokenId> tokens;  ///< of the last unit
  std::span<BlockId> blocks;  ///< [tier][group]: the block (or state) that ends here, or
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
/// because parent and tokens are compared. Nodes and what they hold are kept in arenas and used
/// again: a step with sixteen new ones takes a few microseconds.
class PrefixCache {
 public:
  struct Sizes {
    int num_groups = 1;
    int unit_tokens = 16;
    std::array<int, kNumKvTiers> num_blocks = {1, 1};  ///< the null blocks included
  };
  PrefixCache(const Sizes& sizes, uint64_t seed, PrefixHash hash = Xxh3);

  /// The empty prefix under `salt`; null when nothing is known under it.
  PrefixNode* FindRoot(const std::string& salt) const;
  /// `parent` extended by one unit of tokens, or null.
  PrefixNode* FindChild(const PrefixNode& parent, std::span<const TokenId> unit) const;
  /// The same, created (pinned by nobody) when missing.
  PrefixNode& Root(const std::string& salt);
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
  size_t num_nodes() const { return num_nodes_; }
  /// Parents, children and blocks agree with each other.
  Status CheckIntegrity() const;

 private:
  BlockId& BlockOf(PrefixNode& node, int group, KvTier tier) const {
    return node.blocks[static_cast<size_t>(static_cast<int>(tier) * sizes_.num_groups + group)];
  }
  uint64_t HashUnit(const PrefixNode& parent, std::span<const TokenId> unit) const {
    return hash_(unit.data(), unit.size_bytes(), parent.hash);
  }
  PrefixNode*& Slot(uint64_t hash) { return table_[hash & (table_.size() - 1)]; }
  PrefixNode* Find(uint64_t hash, const PrefixNode& parent, std::span<const TokenId> unit) const;
  PrefixNode& NewNode(PrefixNode* parent, uint64_t hash, int num_units);
  void AddArena();
  void DeleteIfDead(PrefixNode* node);
  Status CheckBlocks(KvTier tier, const std::vector<const PrefixNode*>& nodes) const;

  /// Nodes, and the tokens and blocks of each.
  struct Arena {
    std::unique_ptr<PrefixNode[]> nodes;
    std::unique_ptr<int32_t[]> cells;
  };

  Sizes sizes_;
  uint64_t seed_;
  PrefixHash hash_;
  std::vector<PrefixNode*> table_;  ///< by the low bits of the hash, a power of two of them
  std::unordered_map<std::string, PrefixNode*> roots_;  ///< by salt
  std::vector<Arena> arenas_;
  std::vector<PrefixNode*> free_;
  size_t num_nodes_ = 0;
  std::array<std::vector<Content>, kNumKvTiers> contents_;  ///< [tier][block]
};

}  // namespace gale
