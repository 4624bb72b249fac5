// A whole decode step of a model with random weights, without scheduler, runner or sampler.
#pragma once

#include <memory>
#include <vector>

#include "models/load_model.h"

namespace gale::bench {

struct StepShape {
  int seqs = 1;
  int rows_each = 1;  ///< new tokens of each sequence
  int context = 128;  ///< tokens of each sequence, the new ones included
};

/// From token ids to the logits of all rows. Memory is taken once; the cache holds random numbers.
class DecoderStep {
 public:
  /// `backend`, `model` and `fused` (may be null) outlive the step.
  static Result<std::unique_ptr<DecoderStep>> Create(Backend& backend, Stream& stream, Model& model,
                                                     FusedDecoder* fused, const StepShape& shape);

  /// Whether the fused decoder takes steps of this shape.
  bool is_fused() const { return fused_ != nullptr; }
  void Enqueue(Stream& stream);

  /// Bytes that the step must read: keys and values of the context (weights are the caller's).
  double cache_bytes() const { return cache_bytes_; }

 private:
  DecoderStep(Backend& backend, Model& model, FusedDecoder* fused)
      : backend_(backend), model_(model), fused_(fused) {}
  Status Prepare(Stream& stream, const StepShape& shape);
  Result<TensorView> Take(DType dtype, std::vector<int64_t> dims);
  Result<TensorView> Upload(Stream& stream, const std::vector<int32_t>& values,
                            std::vector<int64_t> dims);

  Backend& backend_;
  Model& model_;
  FusedDecoder* fused_;
  std::vector<Buffer> buffers_;
  std::unique_ptr<AttentionBackend> attention_;
  std::vector<int32_t> cu_seqlens_;
  std::vector<int32_t> seq_lens_;
  std::vector<std::byte> plan_;
  KvCacheView cache_;
  ForwardBatch batch_;
  ScratchArena scratch_;
  TensorView hidden_;
  TensorView logits_;
  double cache_bytes_ = 0;
};

}  // namespace gale::bench
