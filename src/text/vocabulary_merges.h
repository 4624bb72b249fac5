// The merges of vocabularies that do not come as tokenizer.json.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "gale/status.h"
#include "text/merge_table.h"
#include "text/vocabulary.h"

namespace gale::text {

/// The merges of SentencePiece and tiktoken: any two neighbours become the token that they spell
/// together, lowest `ranks` first ([id]; MergeTable::kNoRank: nothing becomes this token). Exact
/// where every token that a merge starts from is in the vocabulary, as training makes it.
/// Cost: two look-ups for each character of the vocabulary.
MergeTable MergesByRank(const Vocabulary& vocabulary, std::span<const uint32_t> ranks);

/// The merges of merges.txt: lines of two tokens, the first rank first, behind a "#version" line.
/// Errors: kDataCorrupt naming the line.
Result<MergeTable> ParseMergesText(std::string_view text, const Vocabulary& vocabulary);

}  // namespace gale::text
