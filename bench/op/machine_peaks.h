// What the machine itself can do, measured in the same run as the ops that are held against it.
#pragma once

namespace gale::bench {

/// Bytes per second that `threads` threads read from a buffer far larger than the caches, and
/// floating-point operations per second (a multiply-add counts two) that they do in registers, each
/// once over about a tenth of a second.
double ReadBandwidth(int threads);
double FmaPeak(int threads);

}  // namespace gale::bench
