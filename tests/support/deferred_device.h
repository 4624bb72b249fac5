// "deferred": a device made of the CPU's ops, done later on a thread per stream, as accelerators do
// them. What is refilled or freed too early shows as a wrong result or under the thread sanitizer.
// Programs that want it list deferred_device.cc among their sources.
#pragma once

namespace gale {

/// A frozen device takes work and does none: what a hung one looks like from the host.
void FreezeDeferredDevice(bool frozen);

}  // namespace gale
