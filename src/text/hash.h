// The hash of text/'s tables: XXH3 over bytes. Not for untrusted keys without a bound on their
// number.
#pragma once

#include <cstdint>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace gale::text {

inline uint64_t HashBytes(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

struct StringHash {
  size_t operator()(std::string_view s) const { return HashBytes(s); }
};

}  // namespace gale::text
