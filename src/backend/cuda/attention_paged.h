// What all attention of this back end has in common: the layout of the cache, keys and values
// written to it, the batch of a step. Layer L1b; attention.cu and attention_hopper.cu add kernels.
#pragma once

#include "backend/cuda/ops.h"

namespace gale::cuda {

struct AttentionParams;

class PagedAttention : public CudaAttention {
 public:
  /// padded_dim: elements that a row of the cache has.
  PagedAttention(const AttentionSpec& spec, int padded_dim);

  const KvLayout& layout() const override { return layout_; }
  std::span<const int> BlockTokens() const override;
  size_t BytesPerBlock(int block_tokens) const override;
  void BindCache(const KvCacheView& cache) override;
  void WriteKv(Stream& stream, const KvWriteArgs& args) override;

 protected:
  /// Checks and keeps the batch.
  void Begin(const AttentionBatch& batch);
  /// Checks arguments; false when there is nothing to do.
  bool HasWork(const AttentionArgs& args) const;
  /// All but the plan and partial results.
  AttentionParams CommonParams(const AttentionArgs& args) const;

  bool is_latent() const { return spec_.kind == KvKind::kLatent; }
  size_t NumSequences() const {
    return batch_.cu_seqlens_q.empty() ? 0 : batch_.cu_seqlens_q.size() - 1;
  }
  int NumTokens() const { return batch_.cu_seqlens_q.empty() ? 0 : batch_.cu_seqlens_q.back(); }
  int NumTokens(size_t s) const { return batch_.cu_seqlens_q[s + 1] - batch_.cu_seqlens_q[s]; }
  int NumRows(size_t s) const { return NumTokens(s) * group_; }
  /// Tiles of so many rows that a step of `tokens` in `seqs` sequences has at most.
  int64_t MaxTiles(int64_t tokens, int64_t seqs, int rows) const {
    const int64_t of_one_token = (group_ + rows - 1) / rows;
    return tokens == seqs ? seqs * of_one_token
                          : seqs * (of_one_token + 1) + (tokens - seqs) * group_ / rows;
  }
  std::byte* DevicePlan() const { return static_cast<std::byte*>(batch_.device_plan); }

  AttentionSpec spec_;
  int group_;  ///< query heads of a kv head
  KvLayout layout_;
  AttentionBatch batch_;

 private:
  template <class T>
  void Write(Stream& stream, const KvWriteArgs& args) const;
};

/// Whether this device has kernels of Hopper's for such layers. They are not batch-invariant.
bool SuitsHopperAttention(const AttentionSpec& spec, int padded_dim);
std::unique_ptr<CudaAttention> CreateHopperAttention(const AttentionSpec& spec, int padded_dim);

}  // namespace gale::cuda
