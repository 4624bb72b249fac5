#include "backend/cpu/kernels.h"

#include <vector>

namespace gale {

std::span<const CpuKernels* const> AvailableKernels() {
  static const std::vector<const CpuKernels*> available = [] {
    std::vector<const CpuKernels*> kernels = {&kKernelsPortable};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      kernels.push_back(&kKernelsAvx2);
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      kernels.push_back(&kKernelsAvx512);
      if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) {
        kernels.push_back(&kKernelsAvx512Dot);
      }
    }
#endif
    return kernels;
  }();
  return available;
}

}  // namespace gale
