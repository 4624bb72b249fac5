#include <algorithm>

#include "gale/eval.h"

namespace gale {

std::vector<TextWindow> CutWindows(size_t num_tokens, size_t window, size_t stride) {
  std::vector<TextWindow> windows;
  size_t scored_end = 0;
  for (size_t begin = 0; scored_end < num_tokens; begin += stride) {
    const size_t end = std::min(begin + window, num_tokens);
    windows.push_back({begin, std::max(scored_end, begin + 1), end});
    scored_end = end;
  }
  return windows;
}

}  // namespace gale
