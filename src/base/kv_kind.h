// How a group of layers remembers the past; the one word that both columns share about KV caches.
#pragma once

#include <cstdint>

namespace gale {

enum class KvKind : uint8_t {
  kFull,           ///< keys and values of every position
  kSlidingWindow,  ///< only the last `window` positions
  kChunked,        ///< positions of the current chunk
  kLatent,         ///< one compressed vector a position (MLA)
  kRecurrent,      ///< a state of fixed size, none per position
};

}  // namespace gale
