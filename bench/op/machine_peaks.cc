#include "op/machine_peaks.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace gale::bench {
namespace {

using Clock = std::chrono::steady_clock;

template <int kLanes>
struct Simd {
  using Vec [[gnu::vector_size(kLanes * sizeof(float))]] = float;
  using IntVec [[gnu::vector_size(kLanes * sizeof(int32_t))]] = int32_t;
};

/// Twelve chains hide the latency of two multiply-adds per cycle.
template <int kLanes>
[[gnu::always_inline]] inline double FmaLoop(int64_t rounds) {
  using Vec = typename Simd<kLanes>::Vec;
  constexpr int kChains = 12;
  Vec acc[kChains] = {};
  Vec a = Vec{} + 0.999F;
  Vec b = Vec{} + 1e-3F;
  asm volatile("" : "+m"(a), "+m"(b));
  const Vec x = a;
  const Vec y = b;
  for (int64_t i = 0; i < rounds; ++i) {
    for (Vec& chain : acc) chain = chain * x + y;
  }
  asm volatile("" : : "m"(acc));  // the result is used
  return 2.0 * kChains * kLanes * static_cast<double>(rounds);
}

/// Bytes are summed as integers: the processor can load faster than it adds.
template <int kLanes>
[[gnu::always_inline]] inline void ReadLoop(const char* data, size_t bytes) {
  using Vec = typename Simd<kLanes>::IntVec;
  constexpr int kChains = 4;
  Vec acc[kChains] = {};
  for (size_t i = 0; i + kChains * sizeof(Vec) <= bytes; i += kChains * sizeof(Vec)) {
    for (int c = 0; c < kChains; ++c) acc[c] |= reinterpret_cast<const Vec*>(data + i)[c];
  }
  asm volatile("" : : "m"(acc));  // the result is used
}

#if defined(__x86_64__)
[[gnu::target("avx512f")]] double FmaAvx512(int64_t rounds) { return FmaLoop<16>(rounds); }
[[gnu::target("avx2,fma")]] double FmaAvx2(int64_t rounds) { return FmaLoop<8>(rounds); }
[[gnu::target("avx512f")]] void ReadAvx512(const char* data, size_t n) { ReadLoop<16>(data, n); }
[[gnu::target("avx2")]] void ReadAvx2(const char* data, size_t n) { ReadLoop<8>(data, n); }
#endif
double FmaPortable(int64_t rounds) { return FmaLoop<4>(rounds); }
void ReadPortable(const char* data, size_t n) { ReadLoop<4>(data, n); }

struct Loops {
  double (*fma)(int64_t rounds) = FmaPortable;
  void (*read)(const char* data, size_t bytes) = ReadPortable;
};

Loops ChooseLoops() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {FmaAvx512, ReadAvx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {FmaAvx2, ReadAvx2};
#endif
  return {};
}

/// Seconds until body(thread) has run on all threads.
double TimeThreads(int threads, const std::function<void(int)>& body) {
  const auto begin = Clock::now();
  std::vector<std::thread> workers;
  for (int i = 1; i < threads; ++i) workers.emplace_back(body, i);
  body(0);
  for (std::thread& worker : workers) worker.join();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

double ReadBandwidth(int threads) {
  constexpr size_t kBytes = size_t{512} << 20;
  static const std::vector<char> buffer(kBytes + 64, 1);  // kept: touching it anew costs more
  const auto aligned = (reinterpret_cast<uintptr_t>(buffer.data()) + 63) / 64 * 64;
  const char* data = reinterpret_cast<const char*>(aligned);
  const size_t share = kBytes / static_cast<size_t>(threads) / 4096 * 4096;
  const Loops loops = ChooseLoops();
  const double seconds = TimeThreads(
      threads, [&](int i) { loops.read(data + static_cast<size_t>(i) * share, share); });
  return static_cast<double>(share) * threads / seconds;
}

double FmaPeak(int threads) {
  constexpr int64_t kRounds = 20'000'000;
  const Loops loops = ChooseLoops();
  std::vector<double> operations(static_cast<size_t>(threads));
  const double seconds =
      TimeThreads(threads, [&](int i) { operations[static_cast<size_t>(i)] = loops.fma(kRounds); });
  double total = 0;
  for (const double n : operations) total += n;
  return total / seconds;
}

}  // namespace gale::bench
