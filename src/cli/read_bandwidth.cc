#include "cli/read_bandwidth.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include <sys/mman.h>

namespace gale::cli {
namespace {

constexpr size_t kRounds = 16;
constexpr size_t kRoundBytes = size_t{64} << 20;  ///< at least; a small buffer is read repeatedly
constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kChunkBytes = 256;      ///< four independent loads of 64 bytes
constexpr size_t kPrefetchBytes = 4096;  ///< ahead of the loads

using Vector [[gnu::vector_size(64)]] = uint64_t;

/// Reads [data, data + bytes); `bytes` is a multiple of kChunkBytes.
[[gnu::always_inline]] inline void ReadAll(const std::byte* data, size_t bytes) {
  Vector a = {};
  Vector b = {};
  Vector c = {};
  Vector d = {};
  for (const std::byte* end = data + bytes; data != end; data += kChunkBytes) {
    const auto* vectors = reinterpret_cast<const Vector*>(data);
    __builtin_prefetch(data + kPrefetchBytes);
    a ^= vectors[0];
    b ^= vectors[1];
    c ^= vectors[2];
    d ^= vectors[3];
  }
  a ^= b ^ c ^ d;
  asm volatile("" : : "m"(a));  // a result that is used cannot be optimized away
}

#if defined(__x86_64__)
[[gnu::target("avx512f")]] void ReadAvx512(const std::byte* data, size_t n) { ReadAll(data, n); }
[[gnu::target("avx2")]] void ReadAvx2(const std::byte* data, size_t n) { ReadAll(data, n); }
#endif
void ReadPortable(const std::byte* data, size_t n) { ReadAll(data, n); }

using Reader = void (*)(const std::byte* data, size_t bytes);

Reader FastestReader() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return ReadAvx512;
  if (__builtin_cpu_supports("avx2")) return ReadAvx2;
#endif
  return ReadPortable;
}

struct Freer {
  void operator()(std::byte* data) const { std::free(data); }
};
using Memory = std::unique_ptr<std::byte, Freer>;

/// Written once, in huge pages where the kernel gives them, so that address translation is no
/// limit.
Memory AllocateMemory(size_t bytes) {
  const size_t rounded = (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  Memory memory(static_cast<std::byte*>(std::aligned_alloc(kHugePageBytes, rounded)));
  if (memory == nullptr) throw std::bad_alloc();
  madvise(memory.get(), rounded, MADV_HUGEPAGE);
  std::memset(memory.get(), 1, rounded);
  return memory;
}

}  // namespace

double MeasureReadBandwidth(size_t bytes, int threads) {
  using Clock = std::chrono::steady_clock;
  const auto num_threads = static_cast<size_t>(std::max(1, threads));
  const size_t thread_bytes = std::max(bytes / num_threads / kChunkBytes, size_t{1}) * kChunkBytes;
  const size_t pass_bytes = thread_bytes * num_threads;
  const size_t passes = std::max(kRoundBytes / pass_bytes, size_t{1});

  const Memory memory = AllocateMemory(pass_bytes);
  const Reader read = FastestReader();
  std::vector<double> round_s(kRounds);
  std::barrier gate(static_cast<ptrdiff_t>(num_threads));
  const auto run_rounds = [&](size_t id) {
    const std::byte* data = memory.get() + id * thread_bytes;
    for (double& seconds : round_s) {
      gate.arrive_and_wait();
      const Clock::time_point start = Clock::now();
      for (size_t pass = 0; pass < passes; ++pass) read(data, thread_bytes);
      gate.arrive_and_wait();
      if (id == 0) seconds = std::chrono::duration<double>(Clock::now() - start).count();
    }
  };
  std::vector<std::jthread> helpers;
  for (size_t id = 1; id < num_threads; ++id) helpers.emplace_back(run_rounds, id);
  run_rounds(0);
  return static_cast<double>(pass_bytes) * static_cast<double>(passes) /
         *std::min_element(round_s.begin(), round_s.end());
}

}  // namespace gale::cli
