// What the persistent decoder kernel is told, and how it lays out its shared memory.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>

namespace gale::cuda {

using bf16 = __nv_bfloat16;

constexpr int kFusedMaxLayers = 128;
constexpr int kFusedMaxRows = 4;       // more rows of activations take longer than kernels in a row
constexpr int kFusedSplitTokens = 64;  // cached positions of one attention work item
constexpr int kFusedMaxSplits = 64;

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
  int group;  // q_heads / kv_heads
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
  int max_blocks;
  int block_shift;  // log2 of the tokens of a block
  uint8_t* kv;      // blocks of [layer][k, v][kv_head][token][head_dim] bf16
  int64_t kv_block_bytes;

  // Tagged (fused_decoder_tagged.cuh): layer l writes tag l & 1 over the other one.
  float* mlp_residual;        // [rows, hidden]: after a layer; before the first, the embedding
  float* attention_residual;  // [rows, hidden]
  float* qkv_out;             // [rows, (q_heads + 2 kv_heads) * head_dim]
  float* partial_out;         // [rows, q_heads, max_splits, head_dim + 4]: sums, then maximum, sum
  float* mlp_act;             // [rows, intermediate]
  float* logits;              // [rows, vocab]; not tagged
  int max_splits;             // of any row of the step
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

/// Work items that a row's positions of one head are cut into.
__host__ __device__ inline int NumSplits(int positions) {
  return max(1, (positions + kFusedSplitTokens - 1) / kFusedSplitTokens);
}

/// Columns that are summed in one go. A phase of more adds such sums one after another, the same
/// whatever the number of rows.
__host__ __device__ inline int SumColumns(const FusedParams& p, int head_dim) {
  constexpr int kAtLeast = 12 * kSliceK;
  return max(kAtLeast, max(p.hidden, p.q_heads * head_dim));
}

/// Columns of the input that one row of shared memory holds: as many sums as a fair share of the
/// memory allows, at least one.
__host__ __device__ inline int InputColumns(const FusedParams& p, int head_dim) {
  constexpr int kShareBytes = 48 << 10;
  const int columns = SumColumns(p, head_dim);
  const int widest = max(p.intermediate, max(p.hidden, p.q_heads * head_dim));
  return min(columns * max(1, kShareBytes / (2 * p.rows * columns)), widest);
}

/// Bytes of one such row, padded like the stages.
__host__ __device__ inline int InputRowBytes(const FusedParams& p, int head_dim) {
  return InputColumns(p, head_dim) * 2 + 64;
}

/// Rows of the hidden vector that one of `blocks` SMs owns, at most.
__host__ __device__ inline int OwnedHidden(const FusedParams& p, int blocks) {
  return (p.hidden + blocks - 1) / blocks;
}

struct SharedLayout {
  uint8_t* ring;
  uint8_t* input;      // [rows][InputRowBytes]: what the current linear phase multiplies, bf16
  float* reduce;       // [2][kConsumerWarps][32][2]: two tiles' sums, or a head's output, by warp
  float* q;            // [head_dim]
  float* new_k;        // [kFusedMaxRows][head_dim]
  float* new_v;        // [kFusedMaxRows][head_dim]
  float2* rope;        // [kFusedMaxRows][64]: cosine and sine of each row's position
  float* residual;     // [rows][OwnedHidden]: this SM's part of the residual stream
  float* row_sums;     // [kFusedMaxRows][kConsumerWarps]
  float2* head_stats;  // [kConsumerWarps]: maximum and sum
  int* cached;         // [kFusedMaxRows]: positions of the row's sequence before this step
  uint64_t* full;      // [kMaxStages]
  uint64_t* empty;     // [kMaxStages]
};

/// Lays the parts out from `base`; the bytes that they take.
__host__ __device__ inline int MakeLayout(uint8_t* base, const FusedParams& p, int head_dim,
                                          int blocks, SharedLayout* s) {
  int offset = 0;
  const auto take = [&](auto** part, int bytes) {
    *part = reinterpret_cast<std::remove_reference_t<decltype(*part)>>(base + offset);
    offset += (bytes + 15) / 16 * 16;
  };
  take(&s->ring, p.ring_stages * kStageBytes);
  take(&s->input, p.rows * InputRowBytes(p, head_dim));
  take(&s->reduce, kConsumerWarps * max(2 * 32 * 2, head_dim) * 4);
  take(&s->q, head_dim * 4);
  take(&s->new_k, kFusedMaxRows * head_dim * 4);
  take(&s->new_v, kFusedMaxRows * head_dim * 4);
  take(&s->rope, kFusedMaxRows * 64 * 8);
  take(&s->residual, p.rows * OwnedHidden(p, blocks) * 4);
  take(&s->row_sums, kFusedMaxRows * kConsumerWarps * 4);
  take(&s->head_stats, kConsumerWarps * 8);
  take(&s->cached, kFusedMaxRows * 4);
  take(&s->full, kMaxStages * 8);
  take(&s->empty, kMaxStages * 8);
  return offset;
}

__device__ inline float WarpSum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(~0U, x, offset);
  return x;
}

}  // namespace fused
}  // namespace gale::cuda
