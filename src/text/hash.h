// The hash of text/'s tables: XXH3 over bytes. Not for untrusted keys without a bound on their
// number.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace gale::text {

inline uint64_t HashBytes(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

/// For names of files: no two contents share it by accident. Low and high half.
inline std::pair<uint64_t, uint64_t> HashBytes128(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

struct StringHash {
  size_t operator()(std::string_view s) const { return HashBytes(s); }
};

}  // namespace gale::text
