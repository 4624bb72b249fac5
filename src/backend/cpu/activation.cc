// The gated activation of the MLP, and the soft cap of logits.
#include <algorithm>

#include "backend/cpu/ops.h"

namespace gale::cpu {
namespace {

/// Brings gpt-oss's activation to SiLU's form: g / (1 + exp(-alpha g)) is silu(alpha g) / alpha.
void Clamp(const GatedActivationArgs& args, float* gate, float* up, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    gate[i] = args.alpha * std::min(gate[i], args.limit);
    up[i] = (std::clamp(up[i], -args.limit, args.limit) + 1) / args.alpha;
  }
}

}  // namespace

void GatedActivation(Context& context, const GatedActivationArgs& args) {
  const int64_t tokens = args.out.dim(0);
  const int64_t n = args.out.dim(1);
  CheckActivation(args.gate_up);
  CheckActivation(args.out);
  CheckShape(args.gate_up, {tokens, 2 * n});
  CheckShape(args.out, {tokens, n});
  const CpuKernels& kernels = context.kernels;
  const auto activate =
      args.activation == Activation::kGeluTanh ? kernels.gelu_tanh_mul : kernels.silu_mul;
  // Wide rows are cut too, so that one token keeps every thread busy.
  constexpr int64_t kColumns = 4096;
  const int64_t pieces = (n + kColumns - 1) / kColumns;
  ForRows(context, tokens * pieces, std::min(n, kColumns),
          [&](int64_t begin, int64_t end, int thread) {
            float* gate = context.thread_scratch[static_cast<size_t>(thread)].Floats(2 * kColumns);
            float* up = gate + kColumns;
            for (int64_t piece = begin; piece < end; ++piece) {
              const int64_t t = piece / pieces;
              const int64_t first = piece % pieces * kColumns;
              const int64_t width = std::min(kColumns, n - first);
              const TensorView row = args.gate_up.Rows(t, t + 1);
              kernels.to_f32(row.Slice(1, first, first + width).data, row.dtype, gate, width);
              kernels.to_f32(row.Slice(1, n + first, n + first + width).data, row.dtype, up, width);
              if (args.activation == Activation::kClampedSwiglu) Clamp(args, gate, up, width);
              activate(gate, up, gate, width);
              kernels.from_f32(gate, args.out.Rows(t, t + 1).Slice(1, first, first + width).data,
                               args.out.dtype, width);
            }
          });
}

void AddSilu(Context& context, const AddSiluArgs& args) {
  const int64_t n = args.x.dim(1);
  CheckActivation(args.x);
  CheckArray(args.y, args.x.dtype, {args.x.dim(0), n});
  const CpuKernels& kernels = context.kernels;
  ForRows(context, args.x.dim(0), n, [&](int64_t begin, int64_t end, int thread) {
    float* x = context.thread_scratch[static_cast<size_t>(thread)].Floats(3 * n);
    float* y = x + n;
    float* ones = y + n;
    std::fill_n(ones, n, 1.0F);
    for (int64_t r = begin; r < end; ++r) {
      kernels.to_f32(RowAt(args.x, r), args.x.dtype, x, n);
      kernels.to_f32(RowAt(args.y, r), args.y.dtype, y, n);
      kernels.silu_mul(y, ones, y, n);
      for (int64_t i = 0; i < n; ++i) x[i] += y[i];
      kernels.from_f32(x, RowAt(args.x, r), args.x.dtype, n);
    }
  });
}

void Softcap(Context& context, const SoftcapArgs& args) {
  const int64_t n = args.x.dim(1);
  CheckArray(args.x, DType::kF32, {args.x.dim(0), n});
  GALE_CHECK_GT(args.cap, 0.0F);
  ForRows(context, args.x.dim(0), n, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      context.kernels.softcap(static_cast<float*>(RowAt(args.x, r)), args.cap, n);
    }
  });
}

}  // namespace gale::cpu
