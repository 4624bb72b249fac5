#include "text/vocabulary_merges.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "text/utf8.h"

namespace gale::text {

MergeTable MergesByRank(const Vocabulary& vocabulary, std::span<const uint32_t> ranks) {
  struct Pair {
    TokenId left, right;
    MergeTable::Merge merge;
  };
  std::vector<Pair> pairs;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const uint32_t rank = ranks[static_cast<size_t>(id)];
    const std::string_view token = vocabulary.Token(id);
    if (rank == MergeTable::kNoRank || token.empty()) continue;
    for (size_t cut = Utf8Size(token[0]); cut < token.size(); cut += Utf8Size(token[cut])) {
      const auto left = vocabulary.Find(token.substr(0, cut));
      if (!left) continue;
      const auto right = vocabulary.Find(token.substr(cut));
      if (right) pairs.push_back({*left, *right, {rank, id}});
    }
  }
  MergeTable merges(pairs.size());
  for (const Pair& pair : pairs) merges.Insert(pair.left, pair.right, pair.merge);
  return merges;
}

Result<MergeTable> ParseMergesText(std::string_view text, const Vocabulary& vocabulary) {
  MergeTable merges(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
  uint32_t rank = 0;
  int line_number = 0;
  std::string merged;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    ++line_number;
    if (line.empty() || line == "\r" || (line_number == 1 && line.starts_with("#version")))
      continue;
    const size_t space = line.find(' ');
    const std::string_view left = line.substr(0, space);
    std::string_view right = space == line.npos ? "" : line.substr(space + 1);
    if (right.ends_with('\r')) right.remove_suffix(1);
    merged = left;
    merged += right;
    const auto left_id = vocabulary.Find(left);
    const auto right_id = vocabulary.Find(right);
    const auto merged_id = vocabulary.Find(merged);
    if (!left_id || !right_id || !merged_id) {
      return MakeError(ErrorCode::kDataCorrupt,
                       fmt::format("merges.txt: line {}: expected two tokens that are in the "
                                   "vocabulary, as is what they become; got \"{}\"",
                                   line_number, line.substr(0, 60)));
    }
    merges.Insert(*left_id, *right_id, {rank++, *merged_id});
  }
  return merges;
}

}  // namespace gale::text
