// The paged KV cache as attention has it: its layout and the writes to it.
#include <array>
#include <bit>

#include "backend/cuda/attention_mma.cuh"
#include "backend/cuda/attention_paged.h"
#include "backend/cuda/kv_codes.cuh"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 128;

/// Blocks: a token each. Rows of the cache are padded with zeros.
template <class T, class Kv>
__global__ void WriteKvKernel(const T* k, int64_t k_stride, int64_t k_head_stride, const T* v,
                              int64_t v_stride, int64_t v_head_stride, const int32_t* slots,
                              KvLayout cache, int layer) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t token = blockIdx.x;
  const int32_t slot = slots[token];
  if (slot < 0) return;
  const int block_tokens = 1 << cache.block_shift;
  Kv* block = reinterpret_cast<Kv*>(cache.blocks + (slot >> cache.block_shift) * cache.block_bytes);
  for (int i = threadIdx.x; i < cache.rows_per_token * cache.padded_dim; i += kThreads) {
    const int head = i / cache.padded_dim;  // values: kv_heads on
    const int d = i % cache.padded_dim;
    float value = 0;
    if (d < cache.head_dim) {
      value = head < cache.kv_heads
                  ? ToF32(k[token * k_stride + head * k_head_stride + d])
                  : ToF32(v[token * v_stride + (head - cache.kv_heads) * v_head_stride + d]);
    }
    const int64_t row =
        (int64_t{layer} * cache.rows_per_token + head) * block_tokens + (slot & (block_tokens - 1));
    block[row * cache.padded_dim + d] = FromF32<Kv>(value);
  }
}

/// The same of a quantized cache. Blocks: a token each, whose warps take its rows in turn.
template <class T>
__global__ void WriteCodesKernel(const T* k, int64_t k_stride, int64_t k_head_stride, const T* v,
                                 int64_t v_stride, int64_t v_head_stride, const int32_t* slots,
                                 KvLayout cache, int layer) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t token = blockIdx.x;
  const int32_t slot = slots[token];
  if (slot < 0) return;
  const int offset = slot & ((1 << cache.block_shift) - 1);
  for (int head = static_cast<int>(threadIdx.x) / kWarp; head < cache.rows_per_token;
       head += kThreads / kWarp) {
    const T* row = head < cache.kv_heads
                       ? k + token * k_stride + head * k_head_stride
                       : v + token * v_stride + (head - cache.kv_heads) * v_head_stride;
    WriteKvRow(cache, KvRowAt(cache, slot >> cache.block_shift, layer, head, offset), row);
  }
}

}  // namespace

PagedAttention::PagedAttention(const AttentionSpec& spec, int padded_dim)
    : spec_(spec), group_(spec.q_heads / spec.kv_heads) {
  GALE_CHECK_EQ(spec.q_heads % spec.kv_heads, 0);
  if (spec.kind == KvKind::kSlidingWindow) GALE_CHECK_GE(spec.window, 1);
  layout_.kv_heads = spec.kv_heads;
  layout_.head_dim = spec.head_dim;
  layout_.value_dim = spec.value_dim();
  layout_.padded_dim = padded_dim;
  layout_.rows_per_token = (is_latent() ? 1 : 2) * spec.kv_heads;
  layout_.format = spec.kv;
}

std::span<const int> PagedAttention::BlockTokens() const {
  static constexpr std::array kAllowed = {16, 32, 64, 128, 256};
  return kAllowed;
}

size_t PagedAttention::BytesPerBlock(int block_tokens) const {
  const int64_t rows = int64_t{spec_.layers} * layout_.rows_per_token * block_tokens;
  return static_cast<size_t>(KvBytes(spec_.kv, rows, layout_.padded_dim));
}

void PagedAttention::BindCache(const KvCacheView& cache) {
  GALE_CHECK(std::has_single_bit(static_cast<unsigned>(cache.block_tokens)));
  GALE_CHECK_GE(cache.blocks.dim(1), static_cast<int64_t>(BytesPerBlock(cache.block_tokens)));
  GALE_CHECK_EQ(cache.blocks.strides[0] % 16, 0);
  layout_.blocks = static_cast<char*>(cache.blocks.data);
  layout_.block_bytes = cache.blocks.strides[0];
  layout_.block_shift = std::countr_zero(static_cast<unsigned>(cache.block_tokens));
  layout_.num_blocks = static_cast<int>(cache.blocks.dim(0));
}

template <class T>
void PagedAttention::Write(Stream& stream, const KvWriteArgs& args) const {
  const auto kernel = IsQuantized(spec_.kv)        ? WriteCodesKernel<T>
                      : spec_.kv == KvFormat::kF32 ? WriteKvKernel<T, float>
                                                   : WriteKvKernel<T, bf16>;
  AsCuda(stream).Launch({dim3(static_cast<unsigned>(args.k.dim(0))), dim3(kThreads)}, kernel,
                        args.k.As<T>(), args.k.strides[0], args.k.strides[1],
                        args.v ? args.v.As<T>() : nullptr, args.v.strides[0], args.v.strides[1],
                        args.slot_mapping.As<int32_t>(), layout_, args.layer);
}

void PagedAttention::WriteKv(Stream& stream, const KvWriteArgs& args) {
  const int64_t tokens = args.k.dim(0);
  CheckActivation(args.k);
  CheckShape(args.k, {tokens, spec_.kv_heads, spec_.head_dim});
  if (!is_latent()) {
    CheckArray(args.v, args.k.dtype, {tokens, spec_.kv_heads, spec_.head_dim});
  }
  CheckArray(args.slot_mapping, DType::kI32, {tokens});
  args.k.dtype == DType::kF32 ? Write<float>(stream, args) : Write<bf16>(stream, args);
}

void PagedAttention::Begin(const AttentionBatch& batch) {
  CheckDType(batch.seq_lens, DType::kI32);
  CheckDType(batch.block_tables, DType::kI32);
  CheckRows(batch.block_tables);
  batch_ = batch;
}

AttentionParams PagedAttention::CommonParams(const AttentionArgs& args) const {
  AttentionParams params{};
  params.cache = layout_;
  params.layer = args.layer;
  params.seq_lens = batch_.seq_lens.As<int32_t>();
  params.block_tables = batch_.block_tables.As<int32_t>();
  params.table_stride = batch_.block_tables.strides[0];
  params.q = args.q.data;
  params.q_stride = args.q.strides[0];
  params.q_head_stride = args.q.strides[1];
  params.q_is_packs = RowsArePacks(args.q);
  params.out = args.out.data;
  params.out_stride = args.out.strides[0];
  params.out_head_stride = args.out.strides[1];
  params.out_is_packs = RowsArePacks(args.out);
  params.group = group_;
  params.window = spec_.kind == KvKind::kSlidingWindow ? spec_.window : 0;
  params.scale = spec_.scale;
  params.softcap = spec_.softcap;
  if (args.sinks) params.sinks = args.sinks.As<float>();
  return params;
}

bool PagedAttention::HasWork(const AttentionArgs& args) const {
  const int64_t tokens = args.q.dim(0);
  CheckArray(args.q, spec_.dtype, {tokens, spec_.q_heads, spec_.head_dim});
  CheckArray(args.out, spec_.dtype, {tokens, spec_.q_heads, spec_.value_dim()});
  if (args.sinks) CheckArray(args.sinks, DType::kF32, {spec_.q_heads});
  return tokens > 0;
}

}  // namespace gale::cuda
