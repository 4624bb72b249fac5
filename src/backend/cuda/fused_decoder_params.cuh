// What the persistent decoder kernels are told, and how the one for a single row lays out its
// shared memory.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda.h>
#include <cuda_bf16.h>

namespace gale::cuda {

using bf16 = __nv_bfloat16;

constexpr int kFusedMaxLayers = 128;
constexpr int kFusedMaxRows = 8;
constexpr int kFusedSplitTokens = 64;  // cached positions of one attention work item
constexpr int kFusedMaxSplits = 64;
constexpr int kFusedMaxMerged = 8;  // splits that a warp reads at once

/// A layer's small vectors. Its weights are known by their tensor maps.
struct FusedLayer {
  const bf16* input_norm;  // [hidden]
  const bf16* qkv_bias;    // [(q_heads + 2 kv_heads) * head_dim] or null
  const bf16* q_norm;      // [head_dim] or null
  const bf16* k_norm;      // [head_dim] or null
  const bf16* mlp_norm;    // [hidden]
};

/// Weights of a layer, in the order of use: QKV [(q_heads + 2 kv_heads) * head_dim, hidden], output
/// projection [hidden, q_heads * head_dim], gates and ups [2, intermediate, hidden], down
/// [hidden, intermediate].
constexpr int kFusedMatrices = 4;
/// Tensor maps of a matrix: of a tile of 16 rows (eight pairs of gate and up), of the lower tile
/// that an SM's share ends with if it is one of the largest, and of that of the others.
constexpr int kFusedMaps = 3;

struct FusedParams {
  FusedLayer layers[kFusedMaxLayers];
  int num_layers, hidden, q_heads, kv_heads, intermediate, vocab;
  int group;  // q_heads / kv_heads
  float norm_eps, attention_scale;
  int rotary_dim;
  const bf16* final_norm;   // [hidden]
  const float* inv_freq;    // [rotary_dim / 2]
  const CUtensorMap* maps;  // [layers][kFusedMatrices][kFusedMaps], then the head's [kFusedMaps]

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

  // Of a single row. Tagged (fused_decoder_tagged.cuh): layer l writes tag l & 1 over the other
  // one.
  float* mlp_residual;        // [hidden]: after a layer; before the first, the embedding
  float* attention_residual;  // [hidden]
  float* qkv_out;             // [(q_heads + 2 kv_heads) * head_dim]
  float* partial_out;         // [q_heads, max_splits, head_dim + 4]: sums, then maximum, sum
  float* mlp_act;             // [intermediate]
  float* logits;              // [rows, vocab]; not tagged
  int max_splits;             // of any row of the step
  int ring_stages;
};

namespace fused {

constexpr int kConsumerWarps = 8;
constexpr int kConsumers = kConsumerWarps * 32;
/// One warp asks for weights. The other three are there because registers change hands by four.
constexpr int kProducerWarps = 4;
constexpr int kThreads = kConsumers + kProducerWarps * 32;
constexpr int kBoxColumns = 64;                        // of a copy: 128 bytes, swizzled
constexpr int kBoxBytes = 16 * kBoxColumns * 2;        // at most 16 rows
constexpr int kSliceK = kConsumerWarps * kBoxColumns;  // columns of a stage, a box for each warp
constexpr int kStageBytes = kConsumerWarps * kBoxBytes;
constexpr int kMaxStages = 16;
/// Stages on their way at once. Five keep the memory busy. While consumers wait for other SMs there
/// are two: a full memory system answers them after three times as long.
constexpr int kStagesInFlight = 5;
constexpr int kStagesInFlightWaiting = 2;
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

/// Columns of the input that shared memory holds: as many sums as a fair share of the memory
/// allows, at least one.
__host__ __device__ inline int InputColumns(const FusedParams& p, int head_dim) {
  constexpr int kShareBytes = 24 << 10;
  const int columns = SumColumns(p, head_dim);
  const int widest = max(p.intermediate, max(p.hidden, p.q_heads * head_dim));
  return min(columns * max(1, kShareBytes / (2 * columns)), widest);
}

/// Tiles whose sums the warps put down before they meet to add them up.
constexpr int kSumTiles = 9;

/// Rows of the hidden vector that one of `blocks` SMs owns, at most.
__host__ __device__ inline int OwnedHidden(const FusedParams& p, int blocks) {
  return (p.hidden + blocks - 1) / blocks;
}

struct SharedLayout {
  uint8_t* ring;       // [ring_stages][kConsumerWarps][rows of a tile][128 bytes]
  uint8_t* input;      // [InputColumns]: what the current linear phase multiplies, bf16
  float* reduce;       // [2][kSumTiles][kConsumerWarps][8][2], or a head's output by warp
  float* q;            // [head_dim]
  float* new_k;        // [head_dim]
  float* new_v;        // [head_dim]
  float2* rope;        // [64]: cosine and sine of the row's position
  float* residual;     // [rows][OwnedHidden]: this SM's part of the residual stream
  float* squares;      // [kConsumerWarps]: of the warps' parts of the input before its norm
  float2* head_stats;  // [kConsumerWarps]: maximum and sum
  float* bias;         // [this SM's rows of QKV]
  int* cached;         // [rows]: positions of the row's sequence before this step
  int* slots;          // [rows]: where the row's key and value go
  int* is_waiting;     // the consumers wait for other SMs
  FusedLayer* layers;  // [num_layers]: constant memory would be read anew in every layer
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
  take(&s->input, InputColumns(p, head_dim) * 2);
  constexpr int kSums = 2 * kSumTiles * kConsumerWarps * 16;
  take(&s->reduce, max(kSums, kConsumerWarps * head_dim) * 4);
  take(&s->q, head_dim * 4);
  take(&s->new_k, head_dim * 4);
  take(&s->new_v, head_dim * 4);
  take(&s->rope, 64 * 8);
  take(&s->residual, OwnedHidden(p, blocks) * 4);
  take(&s->squares, kConsumerWarps * 4);
  take(&s->head_stats, kConsumerWarps * 8);
  const int qkv_width = (p.q_heads + 2 * p.kv_heads) * head_dim;
  take(&s->bias, (qkv_width + blocks - 1) / blocks * 4);
  take(&s->cached, 4);
  take(&s->slots, 4);
  take(&s->is_waiting, 4);
  take(&s->layers, p.num_layers * static_cast<int>(sizeof(FusedLayer)));
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
