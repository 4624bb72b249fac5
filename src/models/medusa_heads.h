// Medusa heads (arXiv:2401.10774): each guesses, from the target's last state alone, the token so
// many places further on. Layer L3; used by runner/speculative/medusa.
#pragma once

#include <memory>
#include <vector>

#include "models/draft_head.h"
#include "models/target_output.h"
#include "nn/linear.h"

namespace gale {

/// In the layout of github.com/FasterDecoding/Medusa: `{head}.{layer}.linear.{weight,bias}`, then
/// `{head}.{layers}.weight` onto the vocabulary. Heads without that matrix share the target's; with
/// a `token_map` and truncated_vocab_size (vLLM's medusa.py) its rows of those ids only.
class MedusaHeads {
 public:
  /// Errors: as LoadEagle3.
  static Result<std::unique_ptr<MedusaHeads>> Load(const DraftHeadOptions& options,
                                                   Backend& backend);

  int num_heads() const { return static_cast<int>(blocks_.size()); }
  DType dtype() const { return dtype_; }
  int hidden_size() const { return hidden_; }
  int vocab_size() const { return vocabulary_->size(); }  ///< columns of Forward's logits
  const TensorView& token_ids() const { return vocabulary_->device_ids(); }  ///< as DraftHead's
  size_t ScratchBytes(int rows) const;

  /// states [n, hidden] of the target, behind its final norm -> logits f32 [n, vocab_size] of the
  /// token after the next and so many places on as `head` says.
  void Forward(ForwardContext& context, int head, const TensorView& states,
               const TensorView& logits) const;

 private:
  MedusaHeads() = default;

  DType dtype_ = DType::kF32;
  int hidden_ = 0;
  std::shared_ptr<WeightStore> store_;
  std::unique_ptr<DraftVocabulary> vocabulary_;
  std::vector<std::vector<std::unique_ptr<Linear>>> blocks_;  ///< [head][layer]
  std::vector<std::unique_ptr<Linear>> outputs_;              ///< [head]; empty: output_ for all
  std::unique_ptr<TargetOutput> output_;
};

}  // namespace gale
