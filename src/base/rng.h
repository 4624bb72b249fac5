// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A draw is a pure function
// of seed and counter, so it depends on no neighbour and can be repeated anywhere. Layer L0; also
// compiled into device code.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define GALE_HOST_DEVICE __host__ __device__
#else
#define GALE_HOST_DEVICE
#endif

namespace gale {

/// What a draw is for; part of the counter, so that no number is used twice.
enum class RandomStream : uint32_t { kSample, kDraft, kAccept, kResidual, kXtc };

struct PhiloxCounter {
  uint32_t words[4] = {};
};
struct PhiloxKey {
  uint32_t words[2] = {};
};

/// Four independent 32-bit numbers for one counter.
GALE_HOST_DEVICE constexpr PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53U} * counter.words[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57U} * counter.words[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.words[1] ^ key.words[0],
                static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.words[3] ^ key.words[1],
                static_cast<uint32_t>(product0)}};
    key.words[0] += 0x9E3779B9U;
    key.words[1] += 0xBB67AE85U;
  }
  return counter;
}

/// Second counter word of a sequence's draws, see SampleArgs::counter.
GALE_HOST_DEVICE constexpr uint64_t RandomCounterHigh(uint32_t sample_index, RandomStream stream) {
  return uint64_t{sample_index} << 32 | static_cast<uint32_t>(stream);
}

/// The same for another stream.
GALE_HOST_DEVICE constexpr uint64_t InStream(uint64_t counter_high, RandomStream stream) {
  return (counter_high >> 32) << 32 | static_cast<uint32_t>(stream);
}

/// Uniform in [0, 1) with 53 bits, for the counter {low, high} under `seed`.
GALE_HOST_DEVICE constexpr double UniformDouble(uint64_t seed, uint64_t low, uint64_t high) {
  const PhiloxCounter random =
      Philox4x32({{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32),
                   static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32)}},
                 {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}});
  const uint64_t bits = (uint64_t{random.words[0]} << 32 | random.words[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace gale
