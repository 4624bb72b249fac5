// Finds strings of a set at the front of a text, byte by byte.
#pragma once

#include <bitset>
#include <cstdint>
#include <string_view>
#include <vector>

namespace gale::text {

/// Immutable once filled. Edges lie in one open-addressing table: no pointers to chase, and the
/// memory is 16 bytes for each slot, at most half of which are filled.
class TokenTrie {
 public:
  /// `content` must not be empty; of equal strings the first one counts.
  void Insert(std::string_view content, int index);

  struct Match {
    int index;  ///< what Insert was given; -1 when nothing matches
    size_t size;
  };
  Match LongestAt(std::string_view text) const;

  /// Calls visit(Match) for each string of the set that `text` begins with, shortest first.
  template <class Visit>
  void ForEachPrefix(std::string_view text, Visit&& visit) const {
    int node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      node = Child(node, text[i]);
      if (node < 0) return;
      const int index = index_of_node_[static_cast<size_t>(node)];
      if (index >= 0) visit(Match{index, i + 1});
    }
  }

  /// The next position from `pos` on where a string of the set could begin.
  size_t NextCandidate(std::string_view text, size_t pos) const;

 private:
  struct Edge {
    uint64_t key = kNoKey;  ///< node << 8 | byte
    int child = -1;
  };
  static constexpr uint64_t kNoKey = ~uint64_t{0};

  static uint64_t Key(int node, char byte) {
    return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
  }
  size_t Locate(uint64_t key) const {
    // Fibonacci hashing: keys are consecutive numbers, which the multiplication spreads.
    const size_t mask = edges_.size() - 1;
    size_t slot = key * 0x9E3779B97F4A7C15 >> 20 & mask;
    while (edges_[slot].key != key && edges_[slot].key != kNoKey) slot = (slot + 1) & mask;
    return slot;
  }
  /// The node behind the edge, or -1.
  int Child(int node, char byte) const {
    return edges_.empty() ? -1 : edges_[Locate(Key(node, byte))].child;
  }
  void Grow();

  std::vector<Edge> edges_;
  std::vector<int> index_of_node_{-1};
  std::bitset<256> first_bytes_;
};

}  // namespace gale::text
