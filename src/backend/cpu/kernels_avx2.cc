// The kernels compiled for AVX2, FMA and F16C.
#include "backend/cpu/kernels_impl.h"

namespace gale {

const CpuKernels kKernelsAvx2 = avx2::MakeKernels("avx2");

}  // namespace gale
