// The kernels compiled for AVX-512 F, BW, DQ and VL.
#include "backend/cpu/kernels_impl.h"

namespace gale {

const CpuKernels kKernelsAvx512 = avx512::MakeKernels("avx512");

}  // namespace gale
