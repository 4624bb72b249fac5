// What the decoder kernel for several rows is told, and how it lays out its shared memory.
#pragma once

#include "backend/cuda/fused_decoder_params.cuh"

namespace gale::cuda {

struct BatchParams {
  FusedParams model;  // its tagged buffers are not used
  float* residual;    // [rows, hidden]: the embedding; not tagged
  // Tagged: layer l writes tag l & 1 over the other one.
  bf16* qkv_input;     // [rows, hidden]: the residual stream after a layer, times a norm's weights
  float* qkv_squares;  // [rows, blocks]: of the blocks' parts of it
  bf16* mlp_input;     // [rows, hidden]: the same after attention
  float* mlp_squares;  // [rows, blocks]
  float* qkv;          // [rows, (q_heads + 2 kv_heads) * head_dim]
  float* partials;     // [rows, q_heads, max_splits, head_dim + 4]: sums, then maximum, sum
  bf16* attended;      // [rows, q_heads * head_dim]
  bf16* activations;   // [rows, intermediate]
  int split_tokens;    // cached positions of one attention work item: 16, 32 or 64
};

namespace fused {

/// A warp's work in attention: a row, a query head, a split of the row's cached positions.
struct HeadItem {
  int row;  // -1: none
  int head;
  int kv_head;
  int split;
  int splits;
  int cached;                         // positions before this step
  uint32_t units[kFusedSplitTokens];  // where the split's are, of the first layer's first head
};

struct BatchLayout {
  SharedLayout shared;  // ring, residual, cached, slots, bias, is_waiting, layers, full, empty
  uint8_t* input;       // [rows][row_bytes]
  float* sums;          // [2][kBatchSumTiles][kConsumerWarps][16][8]
  float* inverse_rms;   // [2][kFusedMaxRows]: of the input of QKV, of the feed-forward layer
  uint64_t* asked;      // the consumers want one of these
  uint64_t* found;      // it is there
  float* vectors;       // [kConsumerWarps][head_dim]
  HeadItem* items;      // [2][kConsumerWarps]: the first of each warp, and one more
  float2* rope;         // [rows][64]: cosine and sine of each row's position
  float* norm;          // [BatchOwnedHidden]: weights of the norm that comes next
  int columns;          // of an input, at most
  int row_bytes;
};

/// Values of a vector: rows of a product that are not parted.
constexpr int kVector = 4;

/// Rows of the hidden vector that one of `blocks` SMs owns, at most.
__host__ __device__ inline int BatchOwnedHidden(const FusedParams& p, int blocks) {
  return (p.hidden / kVector + blocks - 1) / blocks * kVector;
}

/// Tiles whose sums the warps put down before they meet to add them up.
constexpr int kBatchSumTiles = 3;

/// Columns of the input that shared memory holds: of the widest phase but the last, or more if a
/// fair share of the memory allows.
__host__ __device__ inline int BatchColumns(const FusedParams& p, int head_dim) {
  constexpr int kShareBytes = 64 << 10;
  const int needed = max(p.hidden, p.q_heads * head_dim);
  const int share = kShareBytes / (2 * p.rows) / kSliceK * kSliceK;
  return min(max(needed, share), max(needed, p.intermediate));
}

/// As MakeLayout.
__host__ __device__ inline int MakeBatchLayout(uint8_t* base, const BatchParams& b, int head_dim,
                                               int blocks, BatchLayout* l) {
  const FusedParams& p = b.model;
  int offset = 0;
  const auto take = [&](auto** part, int bytes) {
    *part = reinterpret_cast<std::remove_reference_t<decltype(*part)>>(base + offset);
    offset += (bytes + 15) / 16 * 16;
  };
  SharedLayout& s = l->shared;
  l->columns = BatchColumns(p, head_dim);
  l->row_bytes = l->columns * 2 + 16;  // eight rows' pieces of 16 bytes lie in different banks
  take(&s.ring, p.ring_stages * kStageBytes);
  take(&l->input, p.rows * l->row_bytes);
  take(&l->sums, 2 * kBatchSumTiles * kConsumerWarps * 16 * 8 * 4);
  take(&l->inverse_rms, 2 * kFusedMaxRows * 4);
  take(&l->asked, 8);
  take(&l->found, 8);
  take(&l->vectors, kConsumerWarps * head_dim * 4);
  take(&l->items, 2 * kConsumerWarps * static_cast<int>(sizeof(HeadItem)));
  take(&l->rope, p.rows * 64 * 8);
  const int qkv_width = (p.q_heads + 2 * p.kv_heads) * head_dim;
  take(&s.bias, (qkv_width + blocks - 1) / blocks * 4);
  take(&l->norm, BatchOwnedHidden(p, blocks) * 4);
  take(&s.residual, p.rows * BatchOwnedHidden(p, blocks) * 4);
  take(&s.cached, p.rows * 4);
  take(&s.slots, p.rows * 4);
  take(&s.is_waiting, 4);
  take(&s.layers, p.num_layers * static_cast<int>(sizeof(FusedLayer)));
  take(&s.full, kMaxStages * 8);
  take(&s.empty, kMaxStages * 8);
  return offset;
}

}  // namespace fused
}  // namespace gale::cuda
