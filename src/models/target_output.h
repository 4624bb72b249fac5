// The rows of a model's output matrix that belong to a draft vocabulary, as a layer of their own:
// for heads whose checkpoints leave theirs out. Layer L3.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/linear.h"

namespace gale {

/// The ids of a draft vocabulary, declared as the tensor of a head's checkpoint that lists them.
class DraftVocabulary {
 public:
  /// `name`: i64 [size]. `is_offset`: entry i holds the id minus i (EAGLE-3's d2t). With an empty
  /// name the vocabulary is the target's, and nothing is declared.
  DraftVocabulary(ParamBuilder& builder, const std::string& name, int size, bool is_offset,
                  int target_vocab);
  DraftVocabulary(const DraftVocabulary&) = delete;
  DraftVocabulary& operator=(const DraftVocabulary&) = delete;

  int size() const { return size_; }
  const std::vector<int32_t>& ids() const { return ids_; }      ///< empty: all, in order
  const TensorView& device_ids() const { return device_ids_; }  ///< i32 [size], or empty

 private:
  int size_;
  std::vector<int32_t> ids_;
  TensorView device_ids_;
};

class TargetOutput {
 public:
  /// Reads `target`'s checkpoint again, that tensor alone. `ids` of its vocabulary; empty: all.
  /// Errors: those of LoadWeights; kUnsupported when the matrix is quantized by other means than
  /// GGUF's blocks.
  static Result<std::unique_ptr<TargetOutput>> Load(const std::string& target,
                                                    const std::vector<int32_t>& ids, DType dtype,
                                                    Numerics numerics, Backend& backend);

  /// rows [n, hidden] -> logits f32 [n, ids].
  void Forward(ForwardContext& context, const TensorView& rows, const TensorView& logits) const {
    linear_->Forward(context, rows, logits);
  }

 private:
  std::shared_ptr<WeightStore> store_;
  std::unique_ptr<Linear> linear_;
};

}  // namespace gale
