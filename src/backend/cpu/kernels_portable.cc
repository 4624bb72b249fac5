// The kernels compiled for any processor.
#include "backend/cpu/kernels_impl.h"

namespace gale {

const CpuKernels kKernelsPortable = portable::MakeKernels("portable");

}  // namespace gale
