#include "text/char_class.h"

#include <algorithm>
#include <cstring>

#include <utf8proc.h>

#include "text/utf8.h"

namespace gale::text {
namespace {

CharClass Classify(char32_t c) {
  if (IsWhiteSpace(c)) return CharClass::kSpace;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) {
    return CharClass::kLetter;
  }
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) {
    return CharClass::kNumber;
  }
  return CharClass::kOther;
}

}  // namespace

const CharClassTable& CharClassTable::Get() {
  static const CharClassTable table;
  return table;
}

CharClassTable::CharClassTable() : block_of_(kEnd / kBlock) {
  std::array<CharClass, kBlock> block;
  for (char32_t first = 0; first < kEnd; first += kBlock) {
    for (char32_t i = 0; i < kBlock; ++i) block[i] = Classify(first + i);
    const auto is_at = [&](size_t at) {
      return std::memcmp(block.data(), &classes_[at * kBlock], kBlock) == 0;
    };
    const size_t num_blocks = classes_.size() / kBlock;
    // Neighbours are alike more often than not.
    size_t at = first == 0 ? 0 : block_of_[first / kBlock - 1];
    if (first == 0 || !is_at(at)) at = 0;
    while (at < num_blocks && !is_at(at)) ++at;
    if (at == num_blocks) classes_.insert(classes_.end(), block.begin(), block.end());
    block_of_[first / kBlock] = static_cast<uint16_t>(at);
  }
  std::copy_n(&classes_[block_of_[0] * kBlock], ascii_.size(), ascii_.begin());
}

}  // namespace gale::text
