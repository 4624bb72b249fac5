// RMSNorm with the residual addition before it.
#include "backend/cpu/ops.h"

namespace gale::cpu {

void RmsNorm(Context& context, const RmsNormArgs& args) {
  const int64_t tokens = args.x.dim(0);
  const int64_t hidden = args.x.dim(1);
  CheckActivation(args.x);
  CheckActivation(args.out);
  CheckShape(args.x, {tokens, hidden});
  CheckShape(args.weight, {hidden});
  CheckShape(args.out, {tokens, hidden});
  if (args.residual) {
    CheckActivation(args.residual);
    CheckShape(args.residual, {tokens, hidden});
  }
  const CpuKernels& kernels = context.kernels;
  float* weight = context.shared_scratch.Floats(hidden);
  kernels.to_f32(args.weight.data, args.weight.dtype, weight, hidden);
  for (int64_t i = 0; i < hidden; ++i) weight[i] += args.weight_offset;
  ForRows(context, tokens, hidden, [&](int64_t begin, int64_t end, int thread) {
    float* x = context.thread_scratch[static_cast<size_t>(thread)].Floats(2 * hidden);
    float* residual = x + hidden;
    for (int64_t t = begin; t < end; ++t) {
      kernels.to_f32(RowAt(args.x, t), args.x.dtype, x, hidden);
      if (args.residual) {
        void* stored = RowAt(args.residual, t);
        kernels.to_f32(stored, args.residual.dtype, residual, hidden);
        for (int64_t i = 0; i < hidden; ++i) x[i] += residual[i];
        // The norm sees the sum as later layers will: rounded to what is stored.
        kernels.from_f32(x, stored, args.residual.dtype, hidden);
        kernels.to_f32(stored, args.residual.dtype, x, hidden);
      }
      kernels.rms_norm(x, weight, args.eps, x, hidden);
      kernels.from_f32(x, RowAt(args.out, t), args.out.dtype, hidden);
    }
  });
}

}  // namespace gale::cpu
