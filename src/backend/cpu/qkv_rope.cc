// Per-head norms and the rotary embedding of queries and keys, in place after the QKV projection.
#include <cmath>

#include "backend/cpu/ops.h"

namespace gale::cpu {
namespace {

/// cos and sin of one position's angles. The angle is rounded to f32 as the reference
/// implementations do: at position 100,000 that is 0.004 rad, and models are trained with it.
void RotaryAngles(const TensorView& inv_freq, float scale, int32_t position, float* cos,
                  float* sin) {
  for (int64_t i = 0; i < inv_freq.dim(0); ++i) {
    const float angle = static_cast<float>(position) * inv_freq.As<float>()[i];
    cos[i] = std::cos(angle) * scale;
    sin[i] = std::sin(angle) * scale;
  }
}

/// Rotates the pairs (x[2i], x[2i + 1]).
void RotateInterleaved(float* x, const float* cos, const float* sin, int64_t pairs) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

void CheckArgs(const QkvRopeArgs& args) {
  const int64_t tokens = args.qkv.dim(0);
  CheckActivation(args.qkv);
  CheckShape(args.qkv, {tokens, int64_t{args.q_heads + 2 * args.kv_heads} * args.head_dim});
  CheckDType(args.positions, DType::kI32);
  CheckShape(args.positions, {tokens});
  CheckDType(args.inv_freq, DType::kF32);
  CheckShape(args.inv_freq, {args.inv_freq.dim(0)});
  GALE_CHECK_LE(2 * args.inv_freq.dim(0), args.head_dim);
  if (args.q_norm) CheckShape(args.q_norm, {args.head_dim});
  if (args.k_norm) CheckShape(args.k_norm, {args.head_dim});
}

}  // namespace

void QkvRope(Context& context, const QkvRopeArgs& args) {
  CheckArgs(args);
  const CpuKernels& kernels = context.kernels;
  const int64_t head_dim = args.head_dim;
  const int64_t half = args.inv_freq.dim(0);
  const int64_t rotated_heads = args.q_heads + args.kv_heads;  // values stay as they are
  float* q_norm = context.shared_scratch.Floats(2 * head_dim);
  float* k_norm = q_norm + head_dim;
  const auto load_norm = [&](const TensorView& norm, float* weight) {
    if (!norm) return;
    kernels.to_f32(norm.data, norm.dtype, weight, head_dim);
    for (int64_t i = 0; i < head_dim; ++i) weight[i] += args.norm_weight_offset;
  };
  load_norm(args.q_norm, q_norm);
  load_norm(args.k_norm, k_norm);
  const auto rotate = args.interleaved ? RotateInterleaved : kernels.rotate_half;

  ForRows(context, args.qkv.dim(0), rotated_heads * head_dim,
          [&](int64_t begin, int64_t end, int thread) {
            float* x = context.thread_scratch[static_cast<size_t>(thread)].Floats(
                rotated_heads * head_dim + 2 * half);
            float* cos = x + rotated_heads * head_dim;
            float* sin = cos + half;
            for (int64_t t = begin; t < end; ++t) {
              RotaryAngles(args.inv_freq, args.rope_scale, args.positions.As<int32_t>()[t], cos,
                           sin);
              kernels.to_f32(RowAt(args.qkv, t), args.qkv.dtype, x, rotated_heads * head_dim);
              for (int64_t h = 0; h < rotated_heads; ++h) {
                float* head = x + h * head_dim;
                const bool is_query = h < args.q_heads;
                if (is_query ? static_cast<bool>(args.q_norm) : static_cast<bool>(args.k_norm)) {
                  kernels.rms_norm(head, is_query ? q_norm : k_norm, args.norm_eps, head, head_dim);
                }
                rotate(head, cos, sin, half);
              }
              kernels.from_f32(x, RowAt(args.qkv, t), args.qkv.dtype, rotated_heads * head_dim);
            }
          });
}

void Rotate(Context& context, const RotateArgs& args) {
  CheckRotateArgs(args);
  const CpuKernels& kernels = context.kernels;
  const int64_t heads = args.x.dim(1);
  const int64_t pairs = args.inv_freq.dim(0);
  const auto rotate = args.interleaved ? RotateInterleaved : kernels.rotate_half;
  ForRows(context, args.x.dim(0), 2 * heads * pairs, [&](int64_t begin, int64_t end, int thread) {
    float* x = context.thread_scratch[static_cast<size_t>(thread)].Floats(4 * pairs);
    float* cos = x + 2 * pairs;
    float* sin = cos + pairs;
    for (int64_t t = begin; t < end; ++t) {
      RotaryAngles(args.inv_freq, args.rope_scale, args.positions.As<int32_t>()[t], cos, sin);
      for (int64_t h = 0; h < heads; ++h) {
        const auto head_of = [&](const TensorView& view) {
          return view.Slice(0, t, t + 1).Slice(1, h, h + 1).data;
        };
        kernels.to_f32(head_of(args.x), args.x.dtype, x, 2 * pairs);
        rotate(x, cos, sin, pairs);
        kernels.from_f32(x, head_of(args.out), args.out.dtype, 2 * pairs);
      }
    }
  });
}

}  // namespace gale::cpu
