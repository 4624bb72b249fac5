// Per-head norms, rotary embedding and the KV cache write, in one pass after the QKV projection.
#include "backend/cuda/element.cuh"
#include "backend/cuda/kv_codes.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeadsPerBlock = kThreads / kWarp;
constexpr int kMaxPairs = 128;

template <class T>
struct RopeParams {
  T* qkv;
  int64_t stride;
  const int32_t* positions;
  AnyFloats q_norm;  // data null: none
  AnyFloats k_norm;
  const float* inv_freq;
  int pairs;
  float rope_scale;
  float norm_eps;
  float norm_weight_offset;
  bool interleaved;
  int q_heads;
  int kv_heads;
  int head_dim;
  KvLayout cache;  // blocks null: no write
  const int32_t* slot_mapping;
  int layer;
};

/// Where the cache holds `kv_head` (values: kv_heads on) of the token in `slot`.
template <class T>
__device__ __forceinline__ T* CacheRow(const KvLayout& cache, int layer, int kv_head,
                                       int32_t slot) {
  const int block_tokens = 1 << cache.block_shift;
  const int64_t row = (int64_t{layer} * cache.rows_per_token + kv_head) * block_tokens +
                      (slot & (block_tokens - 1));
  return reinterpret_cast<T*>(cache.blocks + (slot >> cache.block_shift) * cache.block_bytes) +
         row * cache.padded_dim;
}

/// The same of a quantized cache, which `x` is written to.
template <class T>
__device__ __forceinline__ void EncodeRow(const RopeParams<T>& p, int kv_head, int32_t slot,
                                          const T* x) {
  const int offset = slot & ((1 << p.cache.block_shift) - 1);
  WriteKvRow(p.cache, KvRowAt(p.cache, slot >> p.cache.block_shift, p.layer, kv_head, offset), x);
}

/// Blocks: (token, eight heads); a warp has one head. Angles are rounded to f32 as the reference
/// implementations do; models are trained with it.
template <class T>
__global__ void __launch_bounds__(kThreads) QkvRopeKernel(RopeParams<T> p) {
  __shared__ float2 turns[kMaxPairs];  // cosine and sine
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t token = blockIdx.x;
  const float position = static_cast<float>(p.positions[token]);
  for (int i = threadIdx.x; i < p.pairs; i += kThreads) {
    float sine;
    float cosine;
    sincosf(position * p.inv_freq[i], &sine, &cosine);
    turns[i] = {cosine * p.rope_scale, sine * p.rope_scale};
  }
  __syncthreads();

  const int lane = threadIdx.x % kWarp;
  const int head = static_cast<int>(blockIdx.y) * kHeadsPerBlock + threadIdx.x / kWarp;
  if (head >= p.q_heads + 2 * p.kv_heads) return;
  T* x = p.qkv + token * p.stride + int64_t{head} * p.head_dim;
  const bool is_cached =
      p.cache.blocks != nullptr && head >= p.q_heads && p.slot_mapping[token] >= 0;
  const bool is_encoded = is_cached && IsQuantized(p.cache.format);
  T* cached = nullptr;
  if (is_cached && !is_encoded) {
    cached = CacheRow<T>(p.cache, p.layer, head - p.q_heads, p.slot_mapping[token]);
    for (int i = p.head_dim + lane; i < p.cache.padded_dim; i += kWarp) cached[i] = FromF32<T>(0);
  }
  if (head >= p.q_heads + p.kv_heads) {
    if (cached != nullptr) {
      for (int i = lane; i < p.head_dim; i += kWarp) cached[i] = x[i];
    }
    if (is_encoded) EncodeRow(p, head - p.q_heads, p.slot_mapping[token], x);
    return;
  }

  const AnyFloats norm = head < p.q_heads ? p.q_norm : p.k_norm;
  float scale = 1;
  if (norm.data != nullptr) {
    float squares = 0;
    for (int i = lane; i < p.head_dim; i += kWarp) squares += ToF32(x[i]) * ToF32(x[i]);
    scale = 1.0F / sqrtf(WarpAdd(squares) / static_cast<float>(p.head_dim) + p.norm_eps);
  }
  const auto read = [&](int i) {
    return norm.data == nullptr ? ToF32(x[i])
                                : ToF32(x[i]) * scale * (p.norm_weight_offset + norm[i]);
  };
  const auto write = [&](int i, float value) {
    x[i] = FromF32<T>(value);
    if (cached != nullptr) cached[i] = FromF32<T>(value);
  };
  for (int i = lane; i < p.pairs; i += kWarp) {
    const int first = p.interleaved ? 2 * i : i;
    const int second = p.interleaved ? 2 * i + 1 : i + p.pairs;
    const float a = read(first);
    const float b = read(second);
    const float2 turn = turns[i];
    write(first, a * turn.x - b * turn.y);
    write(second, b * turn.x + a * turn.y);
  }
  for (int i = 2 * p.pairs + lane; i < p.head_dim; i += kWarp) write(i, read(i));
  if (is_encoded) {
    __syncwarp();
    EncodeRow(p, head - p.q_heads, p.slot_mapping[token], x);
  }
}

template <class T>
struct RotateParams {
  const T* x;
  int64_t x_stride;
  int64_t x_head_stride;
  T* out;
  int64_t out_stride;
  int64_t out_head_stride;
  const int32_t* positions;
  const float* inv_freq;
  int heads;
  int pairs;
  float rope_scale;
  bool interleaved;
};

/// Blocks: (token, eight heads); a warp has one head.
template <class T>
__global__ void __launch_bounds__(kThreads) RotateKernel(RotateParams<T> p) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t token = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y) * kHeadsPerBlock + threadIdx.x / kWarp;
  if (head >= p.heads) return;
  const T* x = p.x + token * p.x_stride + head * p.x_head_stride;
  T* out = p.out + token * p.out_stride + head * p.out_head_stride;
  const float position = static_cast<float>(p.positions[token]);
  for (int i = threadIdx.x % kWarp; i < p.pairs; i += kWarp) {
    float sine;
    float cosine;
    sincosf(position * p.inv_freq[i], &sine, &cosine);
    sine *= p.rope_scale;
    cosine *= p.rope_scale;
    const int first = p.interleaved ? 2 * i : i;
    const int second = p.interleaved ? 2 * i + 1 : i + p.pairs;
    const float a = ToF32(x[first]);
    const float b = ToF32(x[second]);
    out[first] = FromF32<T>(a * cosine - b * sine);
    out[second] = FromF32<T>(b * cosine + a * sine);
  }
}

template <class T>
void RunRotate(CudaStream& stream, const RotateArgs& args) {
  const RotateParams<T> params{.x = args.x.As<T>(),
                               .x_stride = args.x.strides[0],
                               .x_head_stride = args.x.strides[1],
                               .out = args.out.As<T>(),
                               .out_stride = args.out.strides[0],
                               .out_head_stride = args.out.strides[1],
                               .positions = args.positions.As<int32_t>(),
                               .inv_freq = args.inv_freq.As<float>(),
                               .heads = static_cast<int>(args.x.dim(1)),
                               .pairs = static_cast<int>(args.inv_freq.dim(0)),
                               .rope_scale = args.rope_scale,
                               .interleaved = args.interleaved};
  const auto groups = static_cast<unsigned>((params.heads + kHeadsPerBlock - 1) / kHeadsPerBlock);
  stream.Launch({dim3(static_cast<unsigned>(args.x.dim(0)), groups), dim3(kThreads)},
                RotateKernel<T>, params);
}

template <class T>
void Run(CudaStream& stream, const QkvRopeArgs& args, const KvLayout& cache, int layer,
         const TensorView& slot_mapping) {
  RopeParams<T> params{.qkv = args.qkv.As<T>(),
                       .stride = args.qkv.strides[0],
                       .positions = args.positions.As<int32_t>(),
                       .q_norm = Floats(args.q_norm),
                       .k_norm = Floats(args.k_norm),
                       .inv_freq = args.inv_freq.As<float>(),
                       .pairs = static_cast<int>(args.inv_freq.dim(0)),
                       .rope_scale = args.rope_scale,
                       .norm_eps = args.norm_eps,
                       .norm_weight_offset = args.norm_weight_offset,
                       .interleaved = args.interleaved,
                       .q_heads = args.q_heads,
                       .kv_heads = args.kv_heads,
                       .head_dim = args.head_dim,
                       .cache = cache,
                       .slot_mapping = slot_mapping ? slot_mapping.As<int32_t>() : nullptr,
                       .layer = layer};
  const int heads = args.q_heads + 2 * args.kv_heads;
  const auto groups = static_cast<unsigned>((heads + kHeadsPerBlock - 1) / kHeadsPerBlock);
  stream.Launch({dim3(static_cast<unsigned>(args.qkv.dim(0)), groups), dim3(kThreads)},
                QkvRopeKernel<T>, params);
}

void CheckArgs(const QkvRopeArgs& args) {
  const int64_t tokens = args.qkv.dim(0);
  CheckActivation(args.qkv);
  CheckShape(args.qkv, {tokens, int64_t{args.q_heads + 2 * args.kv_heads} * args.head_dim});
  CheckArray(args.positions, DType::kI32, {tokens});
  CheckArray(args.inv_freq, DType::kF32, {args.inv_freq.dim(0)});
  GALE_CHECK_LE(2 * args.inv_freq.dim(0), args.head_dim);
  GALE_CHECK_LE(args.inv_freq.dim(0), kMaxPairs);
  if (args.q_norm) CheckShape(args.q_norm, {args.head_dim});
  if (args.k_norm) CheckShape(args.k_norm, {args.head_dim});
}

}  // namespace

void Rotate(CudaStream& stream, const RotateArgs& args) {
  CheckRotateArgs(args);
  if (args.x.dtype == DType::kF32) {
    RunRotate<float>(stream, args);
  } else {
    RunRotate<bf16>(stream, args);
  }
}

void QkvRope(CudaStream& stream, const QkvRopeArgs& args) { QkvRopeWrite(stream, args, {}, 0, {}); }

void QkvRopeWrite(CudaStream& stream, const QkvRopeArgs& args, const KvLayout& cache, int layer,
                  const TensorView& slot_mapping) {
  CheckArgs(args);
  if (cache.blocks != nullptr) {
    CheckArray(slot_mapping, DType::kI32, {args.qkv.dim(0)});
    GALE_CHECK(IsQuantized(cache.format) || cache.format == PlainKv(args.qkv.dtype));
    GALE_CHECK_EQ(args.kv_heads, cache.kv_heads);
    GALE_CHECK_EQ(args.head_dim, cache.head_dim);
  }
  if (args.qkv.dtype == DType::kF32) {
    Run<float>(stream, args, cache, layer, slot_mapping);
  } else {
    Run<bf16>(stream, args, cache, layer, slot_mapping);
  }
}

}  // namespace gale::cuda
