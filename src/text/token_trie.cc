#include "text/token_trie.h"

#include <algorithm>
#include <utility>

namespace gale::text {

void TokenTrie::Grow() {
  const std::vector<Edge> old =
      std::exchange(edges_, std::vector<Edge>(std::max<size_t>(64, edges_.size() * 2)));
  for (const Edge& edge : old) {
    if (edge.key != kNoKey) edges_[Locate(edge.key)] = edge;
  }
}

void TokenTrie::Insert(std::string_view content, int index) {
  int node = 0;
  for (const char c : content) {
    if (index_of_node_.size() * 2 > edges_.size()) Grow();
    const uint64_t key = Key(node, c);
    Edge& edge = edges_[Locate(key)];
    if (edge.child < 0) {
      edge = {key, static_cast<int>(index_of_node_.size())};
      index_of_node_.push_back(-1);
    }
    node = edge.child;
  }
  int& slot = index_of_node_[static_cast<size_t>(node)];
  if (slot < 0) slot = index;
  first_bytes_.set(static_cast<uint8_t>(content[0]));
}

TokenTrie::Match TokenTrie::LongestAt(std::string_view text) const {
  Match longest{-1, 0};
  ForEachPrefix(text, [&](const Match& match) { longest = match; });
  return longest;
}

size_t TokenTrie::NextCandidate(std::string_view text, size_t pos) const {
  if (edges_.empty()) return text.size();
  while (pos < text.size() && !first_bytes_.test(static_cast<uint8_t>(text[pos]))) ++pos;
  return pos;
}

}  // namespace gale::text
