#include "text/char_class.h"

#include <algorithm>

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
    // Neighbours are alike more often than not, so the search goes backwards.
    size_t at = classes_.size() / kBlock;
    while (at > 0 && !std::equal(block.begin(), block.end(), &classes_[(at - 1) * kBlock])) --at;
    if (at == 0) {
      classes_.insert(classes_.end(), block.begin(), block.end());
      at = classes_.size() / kBlock;
    }
    block_of_[first / kBlock] = static_cast<uint16_t>(at - 1);
  }
  std::copy_n(&classes_[block_of_[0] * kBlock], ascii_.size(), ascii_.begin());
}

}  // namespace gale::text
