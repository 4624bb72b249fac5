// The kernels compiled for AVX-512 F, BW, DQ, VL, BF16 and VNNI.
#include "backend/cpu/kernels_impl.h"

namespace gale {

const CpuKernels kKernelsAvx512Dot = avx512_dot::MakeKernels("avx512_dot");

}  // namespace gale
