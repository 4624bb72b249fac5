// How fast this machine's threads read memory: the limit that decoding is measured against.
#pragma once

#include <cstddef>

namespace gale::cli {

/// Bytes per second at which `threads` threads together read a buffer of `bytes`, in the fastest of
/// several rounds: a limit is what the machine can do when nobody disturbs it. A buffer that fits a
/// cache gives that cache's speed, as weights of that size would see it.
double MeasureReadBandwidth(size_t bytes, int threads);

}  // namespace gale::cli
