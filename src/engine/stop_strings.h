// Stop strings over a stream of text. Layer L5; one per sample, on the output thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace gale {

/// Releases text as far as no stop string can be forming at its end. Where the text is cut into
/// pieces makes no difference to what is released in all: the stop string that is complete first
/// ends the text, and of several complete at once the longest.
class StopStrings {
 public:
  /// `stops` outlives the object; none of them is empty.
  StopStrings(std::span<const std::string> stops, bool include_stop)
      : stops_(stops), include_stop_(include_stop) {}

  /// Takes more text; what may be shown now. Nothing after matched(). Unless `may_end`, no stop
  /// string ends in `text`, but one may begin there.
  std::string Push(std::string_view text, bool may_end = true);
  /// The text has ended: what was held back.
  std::string Flush();
  bool matched() const { return matched_; }

 private:
  size_t HeldBack() const;

  std::span<const std::string> stops_;
  bool include_stop_;
  bool matched_ = false;
  std::string pending_;  ///< a suffix of the text that is a proper prefix of a stop string
  size_t barred_ = 0;    ///< bytes of it in which none ends
};

}  // namespace gale
