// Merges the symbols of one word: what byte-pair encoding spends its time on.
#pragma once

#include <cstddef>
#include <span>

#include "text/merge_table.h"

namespace gale::text {

/// Merges neighbours in place, lowest rank first, leftmost first among equals, and returns how many
/// symbols are left at the front. Cost: quadratic with a tiny factor for a few dozen symbols,
/// beyond that O(n log n) at worst and linear for runs of one symbol.
size_t MergeSymbols(const MergeTable& merges, std::span<TokenId> symbols);

}  // namespace gale::text
