// What the persistent decoder kernel is told, and how it lays out its shared memory.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

namespace gale::cuda {

using bf16 = __nv_bfloat16;

constexpr int kFusedMaxLayers = 128;
constexpr int kFusedMaxRows = 8;
constexpr int kFusedSplitTokens = 128;  // cached positions of one attention work item
constexpr int kFusedMaxSplits = 32;

struct FusedLayer {
  const bf16* input_norm;  // [hidden]
  const bf16* qkv;         // [(q_heads + 2 kv_heads) * head_dim, hidden]
  const bf16* qkv_bias;    // [(q_heads + 2 kv_heads) * head_dim] or null
  const bf16* q_norm;      // [head_dim] or null
  const bf16* k_norm;      // [head_dim] or null
  const bf16* o;           // [hidden, q_heads * head_dim]
  const bf16* mlp_norm;    // [hidden]
  const bf16* gate_up;     // [2 * intermediate, hidden], gates first
  const bf16* down;        // [hidden, intermediate]
};

struct FusedParams {
  FusedLayer layers[kFusedMaxLayers];
  int num_layers, hidden, q_heads, kv_heads, intermediate, vocab;
  float norm_eps, attention_scale;
  int rotary_dim;
  const bf16* final_norm;  // [hidden]
  const bf16* lm_head;     // [vocab, hidden]
  const float* inv_freq;   // [rotary_dim / 2]

  // This step. Row r is token r; rows of one sequence are consecutive.
  int rows;
  const int32_t* positions;      // [rows]
  int row_seq[kFusedMaxRows];    // index of the row's sequence in block_tables
  int row_first[kFusedMaxRows];  // first row of the same sequence
  const int32_t* block_tables;   // [seqs, max_blocks]
  const int32_t* slot_mapping;   // [rows]
  int max_blocks, block_tokens;
  uint8_t* kv;  // blocks of [layer][k, v][kv_head][token][head_dim] bf16
  int64_t kv_block_bytes;

  float* residual;      // [rows, hidden]
  float* qkv_out;       // [rows, (q_heads + 2 kv_heads) * head_dim]
  float* partial_out;   // [rows, q_heads, kFusedMaxSplits, head_dim]
  float2* partial_ml;   // [rows, q_heads, kFusedMaxSplits]: running maximum and sum
  bf16* attention_out;  // [rows, q_heads * head_dim]
  bf16* mlp_act;        // [rows, intermediate]
  float* logits;        // [rows, vocab]
  uint32_t* barrier;    // zeroed before the launch
  int ring_stages;
};

namespace fused {

constexpr int kConsumerWarps = 8;
constexpr int kConsumers = kConsumerWarps * 32;
constexpr int kProducerWarps = 4;
constexpr int kThreads = kConsumers + kProducerWarps * 32;
constexpr int kSliceK = 512;                      // columns of one stage
constexpr int kStageRowBytes = kSliceK * 2 + 64;  // padded: 16-byte reads of 8 rows hit all banks
constexpr int kStageBytes = 16 * kStageRowBytes;
constexpr int kMaxStages = 16;
constexpr int kConsumerBarrier = 1;

/// Bytes of one row of input activations in shared memory, padded like the stages.
__host__ __device__ inline int InputRowBytes(const FusedParams& p, int head_dim) {
  return max(p.hidden, p.q_heads * head_dim) * 2 + 64;
}

/// Floats for merging the warps' results: tiles of a linear phase, or heads of the attention.
__host__ __device__ inline int ReduceFloats(const FusedParams& p, int head_dim) {
  return kConsumerWarps * max(2 * 128, p.q_heads / p.kv_heads * head_dim);
}

struct SharedLayout {
  uint8_t* ring;
  uint8_t* input;      // [rows][InputRowBytes]: what the current linear phase multiplies, bf16
  float* reduce;       // [ReduceFloats]
  float* q;            // [8 heads][head_dim]
  float* new_k;        // [kFusedMaxRows][head_dim]
  float* new_v;        // [kFusedMaxRows][head_dim]
  float2* rope;        // [kFusedMaxRows][64]: cosine and sine of each row's position
  float* row_sums;     // [kFusedMaxRows][kConsumerWarps]
  float2* head_stats;  // [kConsumerWarps][8 heads]: maximum and sum
  uint64_t* full;      // [kMaxStages]
  uint64_t* empty;     // [kMaxStages]
};

/// Shared memory without the ring.
__host__ __device__ inline int FixedSharedBytes(const FusedParams& p, int head_dim) {
  return p.rows * InputRowBytes(p, head_dim) + ReduceFloats(p, head_dim) * 4 +
         (8 + 2 * kFusedMaxRows) * head_dim * 4 + kFusedMaxRows * 64 * 8 +
         kFusedMaxRows * kConsumerWarps * 4 + kConsumerWarps * 8 * 8 + 2 * kMaxStages * 8;
}

__device__ inline SharedLayout MakeLayout(uint8_t* base, const FusedParams& p, int head_dim) {
  SharedLayout s;
  s.ring = base;
  s.input = s.ring + p.ring_stages * kStageBytes;
  s.reduce = reinterpret_cast<float*>(s.input + p.rows * InputRowBytes(p, head_dim));
  s.q = s.reduce + ReduceFloats(p, head_dim);
  s.new_k = s.q + 8 * head_dim;
  s.new_v = s.new_k + kFusedMaxRows * head_dim;
  s.rope = reinterpret_cast<float2*>(s.new_v + kFusedMaxRows * head_dim);
  s.row_sums = reinterpret_cast<float*>(s.rope + kFusedMaxRows * 64);
  s.head_stats = reinterpret_cast<float2*>(s.row_sums + kFusedMaxRows * kConsumerWarps);
  s.full = reinterpret_cast<uint64_t*>(s.head_stats + kConsumerWarps * 8);
  s.empty = s.full + kMaxStages;
  return s;
}

__device__ inline float WarpSum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(~0U, x, offset);
  return x;
}

}  // namespace fused
}  // namespace gale::cuda
