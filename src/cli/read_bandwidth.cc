#include "cli/read_bandwidth.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace gale::cli {
namespace {

using Lanes = uint64_t __attribute__((vector_size(64)));
constexpr size_t kChains = 4;  ///< independent results, which keep several loads in flight
constexpr size_t kBytesToRead = size_t{2} << 30;

uint64_t XorOf(const Lanes* data, size_t count) {
  std::array<Lanes, kChains> chains = {};
  for (size_t i = 0; i + kChains <= count; i += kChains) {
    for (size_t j = 0; j < kChains; ++j) chains[j] ^= data[i + j];
  }
  const Lanes all = chains[0] ^ chains[1] ^ chains[2] ^ chains[3];
  return all[0] ^ all[1] ^ all[2] ^ all[3] ^ all[4] ^ all[5] ^ all[6] ^ all[7];
}

}  // namespace

double MeasureReadBandwidth(size_t bytes, int threads) {
  using Clock = std::chrono::steady_clock;
  const auto num_threads = static_cast<size_t>(std::max(1, threads));
  const size_t lanes_per_thread =
      std::max(bytes / sizeof(Lanes) / num_threads / kChains, size_t{1}) * kChains;
  const size_t pass_bytes = lanes_per_thread * num_threads * sizeof(Lanes);
  const size_t passes = std::max(kBytesToRead / pass_bytes, size_t{1});

  std::vector<Lanes> buffer(lanes_per_thread * num_threads, Lanes{} + 1);
  std::atomic<uint64_t> sink = 0;  // a result that is used cannot be optimized away
  std::barrier gate(static_cast<ptrdiff_t>(num_threads) + 1);
  std::vector<std::jthread> workers;
  for (size_t id = 0; id < num_threads; ++id) {
    workers.emplace_back([&, id] {
      gate.arrive_and_wait();
      for (size_t pass = 0; pass < passes; ++pass) {
        sink.fetch_add(XorOf(buffer.data() + id * lanes_per_thread, lanes_per_thread));
      }
      gate.arrive_and_wait();
    });
  }
  gate.arrive_and_wait();
  const Clock::time_point start = Clock::now();
  gate.arrive_and_wait();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return static_cast<double>(pass_bytes) * static_cast<double>(passes) / seconds;
}

}  // namespace gale::cli
