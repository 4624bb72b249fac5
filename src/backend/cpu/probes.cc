// What the processor can do at best: loads of memory, and multiply-adds in registers.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "backend/cpu/ops.h"

namespace gale::cpu {
namespace {

constexpr size_t kChunkBytes = 256;      // four independent loads of 64 bytes
constexpr size_t kPrefetchBytes = 4096;  // ahead of the loads
constexpr int64_t kRounds = 1 << 20;     // some milliseconds

using Words [[gnu::vector_size(64)]] = uint64_t;

/// Reads [data, data + bytes); `bytes` is a multiple of kChunkBytes.
[[gnu::always_inline]] inline void ReadAll(const std::byte* data, size_t bytes) {
  Words acc[4] = {};
  for (const std::byte* end = data + bytes; data != end; data += kChunkBytes) {
    const auto* words = reinterpret_cast<const Words*>(data);
    __builtin_prefetch(data + kPrefetchBytes);
    for (int i = 0; i < 4; ++i) acc[i] ^= words[i];
  }
  acc[0] ^= acc[1] ^ acc[2] ^ acc[3];
  asm volatile("" : : "m"(acc[0]));  // a result that is used cannot be optimized away
}

/// Twelve chains hide the latency of two multiply-adds per cycle. Returns the operations done.
template <int kLanes>
[[gnu::always_inline]] inline double MultiplyAll() {
  using Floats [[gnu::vector_size(kLanes * sizeof(float))]] = float;
  constexpr int kChains = 12;
  Floats acc[kChains] = {};
  Floats a = Floats{} + 0.999F;
  Floats b = Floats{} + 1e-3F;
  asm volatile("" : "+m"(a), "+m"(b));  // not known when compiling
  const Floats x = a;
  const Floats y = b;
  for (int64_t i = 0; i < kRounds; ++i) {
    for (Floats& chain : acc) chain = chain * x + y;
  }
  asm volatile("" : : "m"(acc));
  return 2.0 * kChains * kLanes * static_cast<double>(kRounds);
}

#if defined(__x86_64__)
[[gnu::target("avx512f")]] void ReadAvx512(const std::byte* data, size_t n) { ReadAll(data, n); }
[[gnu::target("avx2")]] void ReadAvx2(const std::byte* data, size_t n) { ReadAll(data, n); }
[[gnu::target("avx512f")]] double MultiplyAvx512() { return MultiplyAll<16>(); }
/// The same with pairs of bf16, what linear layers multiply where the processor can.
[[gnu::target("avx512f,avx512bf16")]] double MultiplyDot() {
  constexpr int kChains = 12;
  __m512 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512i pairs = _mm512_set1_epi32(0x3F003F00);
  asm volatile("" : "+v"(pairs));  // not known when compiling
  const __m512bh x = (__m512bh)pairs;
  for (int64_t i = 0; i < kRounds; ++i) {
    for (__m512& chain : acc) chain = _mm512_dpbf16_ps(chain, x, x);
  }
  asm volatile("" : : "m"(acc));
  return 2.0 * kChains * 32 * static_cast<double>(kRounds);
}
[[gnu::target("avx2,fma")]] double MultiplyAvx2() { return MultiplyAll<8>(); }
#endif
void ReadPortable(const std::byte* data, size_t n) { ReadAll(data, n); }
double MultiplyPortable() { return MultiplyAll<4>(); }

struct Loops {
  void (*read)(const std::byte* data, size_t bytes) = ReadPortable;
  double (*multiply)() = MultiplyPortable;
};

Loops FastestLoops() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bf16")) return {ReadAvx512, MultiplyDot};
  if (__builtin_cpu_supports("avx512f")) return {ReadAvx512, MultiplyAvx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {ReadAvx2, MultiplyAvx2};
  }
#endif
  return {};
}

}  // namespace

void ProbeRead(Context& context, const TensorView& memory) {
  const auto threads = static_cast<size_t>(context.pool.threads());
  const size_t share = memory.Bytes() / threads / kChunkBytes * kChunkBytes;
  const Loops loops = FastestLoops();
  context.pool.ParallelFor(static_cast<int64_t>(threads), [&](int64_t task, int) {
    loops.read(static_cast<const std::byte*>(memory.data) + static_cast<size_t>(task) * share,
               share);
  });
}

double ProbeProducts(Context& context) {
  const Loops loops = FastestLoops();
  std::vector<double> done(static_cast<size_t>(context.pool.threads()));
  context.pool.ParallelFor(context.pool.threads(), [&](int64_t task, int) {
    done[static_cast<size_t>(task)] = loops.multiply();
  });
  double operations = 0;
  for (const double n : done) operations += n;
  return operations;
}

}  // namespace gale::cpu
