// A string that remembers which of its bytes came from the user, through cutting and joining.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gale/tokenizer.h"

namespace gale::jinja {

class MarkedString {
 public:
  MarkedString() = default;
  explicit MarkedString(std::string bytes) : bytes_(std::move(bytes)) {}
  /// All of `bytes` marked.
  static MarkedString User(std::string bytes) {
    MarkedString result(std::move(bytes));
    result.MarkAll();
    return result;
  }

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool is_marked() const { return !marks_.empty(); }
  const std::vector<TextSpan>& marks() const { return marks_; }  ///< sorted, apart from each other

  void MarkAll() {
    marks_.clear();
    if (!bytes_.empty()) marks_.push_back({0, bytes_.size()});
  }

  void Append(std::string_view unmarked) { bytes_ += unmarked; }

  void Append(const MarkedString& other) {
    const size_t offset = bytes_.size();
    bytes_ += other.bytes_;
    for (const TextSpan& mark : other.marks_) AppendMark(mark.begin + offset, mark.end + offset);
  }

  /// Bytes [begin, end).
  MarkedString Slice(size_t begin, size_t end) const {
    MarkedString result(bytes_.substr(begin, end - begin));
    for (const TextSpan& mark : marks_) {
      const size_t from = std::max(mark.begin, begin);
      const size_t to = std::min(mark.end, end);
      if (from < to) result.AppendMark(from - begin, to - begin);
    }
    return result;
  }

 private:
  void AppendMark(size_t begin, size_t end) {
    if (!marks_.empty() && marks_.back().end == begin) {
      marks_.back().end = end;
    } else {
      marks_.push_back({begin, end});
    }
  }

  std::string bytes_;
  std::vector<TextSpan> marks_;
};

}  // namespace gale::jinja
