// cuBLASLt, NVIDIA's library of matrix products, where a machine has it: it is looked for at run
// time, so that programs run without it too. Layer L1b, host side; called by linear.cu and
// probes.cu.
#pragma once

#include <string>

#include "backend/backend.h"
#include "backend/cuda/device.h"

namespace gale::cuda {

/// out = (x * weight^T) of 8-bit floats e4m3, times a scale for each row and one for each output, +
/// bias.
struct ScaledF8Args {
  TensorView x;  ///< [rows, k]
  const float* x_scales = nullptr;
  TensorView weight;  ///< [outputs, k]
  const float* weight_scales = nullptr;
  TensorView bias;  ///< [outputs] or empty
  TensorView out;   ///< bf16 [rows, outputs]
};

class CublasLt {
 public:
  /// What a product takes from the beginning of its stream's scratch memory.
  static constexpr size_t kWorkspaceBytes = size_t{16} << 20;

  /// The library's file, or nothing where there is none or this was built without its headers: what
  /// GALE_CUBLASLT names ("off": none), else the first one found in LD_LIBRARY_PATH, CUDA's folder,
  /// the system's libraries and the packages of the python3 in PATH.
  static std::string FindFile();
  /// Begins to load it, which takes some 0.1 to 0.4 s, and returns.
  static void Preload();
  /// Waits for what Preload has begun: a process must not end while a library is being loaded.
  static void FinishPreload();
  /// The library once it is loaded, null where there is none.
  static CublasLt* Get();

  virtual ~CublasLt() = default;

  /// Enqueues out = x * weight^T + bias: bf16 but for `out`, which may be f32. Sums in f32, in an
  /// order that depends on the number of rows. False, with nothing enqueued, when the library does
  /// not take these operands. Thread-safe. Cost: some 50 us of the host for a shape not seen
  /// before.
  virtual bool Run(CudaStream& stream, const LinearArgs& args) = 0;
  /// The same of 8-bit floats.
  virtual bool RunF8(CudaStream& stream, const ScaledF8Args& args) = 0;
};

}  // namespace gale::cuda
