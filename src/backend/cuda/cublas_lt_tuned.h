// cuBLASLt's kernels for the layers of some models, where another than its own first choice is the
// faster one: measured by tools/tune_cublas_lt.cu on an H200 with cuBLASLt 13.1, the best of eight
// choices at each number of rows, kept when it gains 3% or more. Layer L1b.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace gale::cuda {

struct TunedKernel {
  static constexpr int kFamily = 66;       ///< cuBLASLt's number for its kernels for Hopper
  static constexpr uint32_t kStages = 35;  ///< as many as fit

  int rows;
  int outputs;
  int k;
  uint16_t tile;  ///< as the following, in cuBLASLt's numbers
  uint8_t splits;
  uint8_t reduction;
  uint8_t option;
  uint8_t cluster;
};

/// Rows that kernels were measured for; each stands for those down to the one before it.
constexpr std::array<int, 13> kTunedRows = {32,  48,  64,   96,   128,  192, 256,
                                            384, 512, 1024, 2048, 4096, 8192};

constexpr TunedKernel kTunedKernels[] = {
    {128, 1024, 2048, 47, 1, 0, 0, 3},    {192, 1024, 2048, 313, 1, 0, 3, 5},
    {256, 1024, 2048, 12, 1, 0, 0, 3},    {384, 1024, 2048, 315, 1, 0, 3, 5},
    {1024, 1024, 2048, 17, 1, 0, 0, 3},   {1024, 1024, 3072, 17, 1, 0, 0, 3},
    {192, 1536, 1536, 92, 1, 0, 0, 4},    {256, 1536, 1536, 92, 1, 0, 0, 3},
    {384, 1536, 1536, 134, 1, 0, 2, 7},   {256, 1536, 8960, 28, 4, 2, 0, 3},
    {96, 2048, 1536, 313, 1, 0, 3, 5},    {128, 2048, 1536, 13, 1, 0, 3, 5},
    {512, 2048, 1536, 17, 1, 0, 0, 3},    {96, 2048, 2048, 313, 1, 0, 3, 5},
    {128, 2048, 2048, 13, 1, 0, 3, 5},    {512, 2048, 2048, 17, 1, 0, 0, 3},
    {48, 2048, 6144, 16, 3, 2, 3, 7},     {128, 2048, 6144, 27, 3, 2, 2, 5},
    {384, 2048, 6144, 17, 1, 0, 0, 4},    {512, 2048, 6144, 17, 1, 0, 0, 3},
    {64, 4096, 1024, 12, 1, 0, 0, 3},     {1024, 4096, 1024, 20, 1, 0, 1, 3},
    {1024, 4096, 2048, 20, 1, 0, 1, 3},   {48, 4096, 4096, 13, 1, 0, 3, 5},
    {96, 4096, 4096, 27, 1, 0, 2, 7},     {128, 4096, 4096, 27, 1, 0, 2, 7},
    {192, 4096, 4096, 164, 1, 0, 0, 4},   {256, 4096, 4096, 135, 1, 0, 2, 7},
    {64, 4096, 14336, 15, 2, 2, 1, 3},    {48, 6144, 1024, 134, 1, 0, 0, 4},
    {64, 6144, 1024, 92, 1, 0, 0, 3},     {48, 6144, 4096, 134, 1, 0, 0, 4},
    {192, 6144, 4096, 116, 1, 0, 0, 4},   {32, 12288, 2048, 449, 1, 0, 3, 5},
    {48, 12288, 2048, 450, 1, 0, 3, 5},   {64, 12288, 2048, 27, 1, 0, 0, 3},
    {48, 17920, 1536, 134, 1, 0, 0, 4},   {64, 17920, 1536, 134, 1, 0, 0, 4},
    {128, 17920, 1536, 135, 1, 0, 0, 4},  {192, 17920, 1536, 209, 1, 0, 4, 4},
    {48, 28672, 4096, 397, 1, 0, 1, 3},   {64, 28672, 4096, 18, 1, 0, 1, 4},
    {128, 28672, 4096, 165, 1, 0, 0, 3},  {192, 28672, 4096, 32, 1, 0, 4, 4},
    {48, 128256, 4096, 397, 1, 0, 1, 3},  {64, 128256, 4096, 164, 1, 0, 0, 3},
    {128, 128256, 4096, 165, 1, 0, 0, 3}, {256, 128256, 4096, 197, 1, 0, 2, 5},
    {48, 151936, 1024, 397, 1, 0, 1, 3},  {64, 151936, 1024, 183, 1, 0, 0, 3},
    {96, 151936, 1024, 33, 1, 0, 1, 3},   {128, 151936, 1024, 20, 1, 0, 1, 3},
    {256, 151936, 1024, 184, 1, 0, 2, 5}, {48, 151936, 1536, 397, 1, 0, 1, 3},
    {64, 151936, 1536, 183, 1, 0, 0, 3},  {96, 151936, 1536, 33, 1, 0, 1, 3},
    {128, 151936, 1536, 20, 1, 0, 1, 3},  {256, 151936, 1536, 184, 1, 0, 2, 5},
    {48, 151936, 2048, 397, 1, 0, 1, 3},  {64, 151936, 2048, 183, 1, 0, 0, 3},
    {96, 151936, 2048, 33, 1, 0, 1, 3},   {128, 151936, 2048, 20, 1, 0, 1, 3},
};

/// Null: the first choice is as good, or nobody has measured.
constexpr const TunedKernel* FindTuned(int64_t rows, int64_t outputs, int64_t k) {
  const auto measured = std::ranges::lower_bound(kTunedRows, rows);
  if (measured == kTunedRows.end()) return nullptr;
  for (const TunedKernel& kernel : kTunedKernels) {
    if (kernel.rows == *measured && kernel.outputs == outputs && kernel.k == k) return &kernel;
  }
  return nullptr;
}

}  // namespace gale::cuda
