#include "backend/device_speed.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>
#include <vector>

#include <fmt/format.h>

#include "backend/registry.h"
#include "base/status_macros.h"

namespace gale {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 5;
constexpr double kRoundSeconds = 5e-3;  // launching and waiting, some microseconds, are no part of
                                        // it
constexpr size_t kUploadBytes = size_t{64} << 20;

/// The best rate of a few rounds; `probe` enqueues some work and says how much.
Result<double> BestRate(Stream& stream, const std::function<double()>& probe) {
  double best = 0;
  int calls = 1;
  for (int round = 0; round < kRounds;) {
    double work = 0;
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < calls; ++i) work += probe();
    GALE_RETURN_IF_ERROR(stream.Synchronize());
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (seconds < kRoundSeconds) {
      calls *= 2;
      continue;
    }
    best = std::max(best, work / seconds);
    ++round;
  }
  return best;
}

/// Memory of normal bf16 numbers. Written, since pages that never were would be read from
/// elsewhere; normal, since products of simpler numbers need less power and run faster.
Result<Buffer> FilledMemory(Backend& backend, Stream& stream, size_t bytes) {
  constexpr int64_t kTableSize = 1 << 16;
  std::vector<float> table(kTableSize);
  std::mt19937 random;
  std::normal_distribution<float> normal;
  for (float& value : table) value = normal(random);
  const size_t table_bytes = table.size() * sizeof(float);
  GALE_ASSIGN_OR_RETURN(const Buffer device_table,
                        backend.Allocate(table_bytes, MemoryKind::kDevice));
  GALE_ASSIGN_OR_RETURN(Buffer memory, backend.Allocate(bytes, MemoryKind::kDevice));
  backend.Copy(stream, device_table.data(), table.data(), table_bytes);
  FillRandomArgs fill;
  fill.table = TensorView(device_table.data(), DType::kF32, {kTableSize});
  fill.out = TensorView(memory.data(), DType::kBf16,
                        {static_cast<int64_t>(bytes / DTypeBytes(DType::kBf16))});
  backend.FillRandom(stream, fill);
  GALE_RETURN_IF_ERROR(stream.Synchronize());
  return memory;
}

}  // namespace

Result<DeviceSpeed> MeasureDeviceSpeed(Backend& backend, size_t read_bytes) {
  const std::unique_ptr<Stream> stream = backend.CreateStream();
  DeviceSpeed speed;
  {
    GALE_ASSIGN_OR_RETURN(const Buffer memory, FilledMemory(backend, *stream, read_bytes));
    const auto elements = static_cast<int64_t>(read_bytes / DTypeBytes(DType::kBf16));
    const TensorView view(memory.data(), DType::kBf16, {elements});
    GALE_ASSIGN_OR_RETURN(speed.read_bytes_per_s, BestRate(*stream, [&] {
                            backend.ProbeRead(*stream, view);
                            return static_cast<double>(view.Bytes());
                          }));
    GALE_ASSIGN_OR_RETURN(speed.product_flop_per_s,
                          BestRate(*stream, [&] { return backend.ProbeProducts(*stream); }));
    // The first one also loads the library.
    if (backend.ProbeLibraryProduct(*stream, view) > 0) {
      GALE_ASSIGN_OR_RETURN(speed.library_flop_per_s, BestRate(*stream, [&] {
                              return backend.ProbeLibraryProduct(*stream, view);
                            }));
    }
  }
  if (backend.info().is_host_memory) return speed;
  GALE_ASSIGN_OR_RETURN(const Buffer host, backend.Allocate(kUploadBytes, MemoryKind::kPinnedHost));
  GALE_ASSIGN_OR_RETURN(const Buffer device, backend.Allocate(kUploadBytes, MemoryKind::kDevice));
  GALE_ASSIGN_OR_RETURN(speed.upload_bytes_per_s, BestRate(*stream, [&] {
                          backend.Copy(*stream, device.data(), host.data(), kUploadBytes);
                          return static_cast<double>(kUploadBytes);
                        }));
  return speed;
}

Result<DeviceSpeed> MeasureDeviceSpeed(const std::string& device, int threads, size_t read_bytes) {
  GALE_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend,
                        CreateBackend(device, {.threads = threads}));
  return MeasureDeviceSpeed(*backend, read_bytes);
}

std::string TooSlow(const std::string& device, const DeviceSpeed& speed) {
  // Healthy cards read 4,550 GB/s and multiply at 770 TFLOP/s.
  constexpr double kH200Read = 4400e9;
  constexpr double kH200Products = 700e12;
  if (device.find("H200") == std::string::npos) return {};
  std::string reasons;
  if (speed.read_bytes_per_s < kH200Read) {
    reasons += fmt::format("memory is read at {:.0f} GB/s, an H200 does {:.0f} or more",
                           speed.read_bytes_per_s / 1e9, kH200Read / 1e9);
  }
  if (speed.product_flop_per_s < kH200Products) {
    reasons += fmt::format("{}products run at {:.0f} TFLOP/s, an H200 does {:.0f} or more",
                           reasons.empty() ? "" : "; ", speed.product_flop_per_s / 1e12,
                           kH200Products / 1e12);
  }
  return reasons;
}

}  // namespace gale
