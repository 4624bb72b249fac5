// A small model that guesses on from another one's states: it has no embedding of its own, and
// mostly no output matrix either. Layer L3; driven by a proposer of runner/speculative.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/model.h"

namespace gale {

/// What a head is loaded for.
struct DraftHeadOptions {
  std::string folder;         ///< of the head's checkpoint; of the target's for MTP layers
  std::string target;         ///< folder or GGUF file of the target, for its output matrix
  DType dtype = DType::kF32;  ///< of the target's activations
  Numerics numerics = Numerics::kBatchInvariant;
};

/// One that reads, at every position, the target's state there and the token behind it, sees the
/// rows before through its own KV cache, and guesses the token behind that. Its own output stands
/// in for the target's state when it guesses on.
class DraftHead {
 public:
  virtual ~DraftHead() = default;

  virtual std::vector<AttentionGroup> attention_groups() const = 0;
  /// Layers of the target whose outputs, side by side, are a state; empty: the target's last one,
  /// behind its final norm.
  virtual std::span<const int> captured_layers() const { return {}; }
  virtual DType dtype() const = 0;
  virtual int hidden_size() const = 0;
  /// Columns of ComputeLogits; 0: the target's own ComputeLogits takes the rows.
  virtual int vocab_size() const { return 0; }
  /// i32 [vocab_size]: the ids that the columns stand for, ascending; empty: their numbers.
  virtual TensorView token_ids() const { return {}; }
  virtual size_t ScratchBytes(int tokens) const = 0;

  /// states [n, layers * hidden] of the target -> hidden [n, hidden], which Forward begins with.
  virtual void Enter(ForwardContext& context, const TensorView& states,
                     const TensorView& hidden) const = 0;
  /// `embedded` [n, hidden] of the tokens behind each state; becomes what logits are computed from.
  /// `hidden` [n, hidden] becomes what the next token's Forward begins with.
  virtual void Forward(ForwardContext& context, const ForwardBatch& batch,
                       const TensorView& embedded, const TensorView& hidden) const = 0;
  /// rows [n, hidden] -> logits f32 [n, vocab_size].
  virtual void ComputeLogits(ForwardContext& /*context*/, const TensorView& /*rows*/,
                             const TensorView& /*logits*/) const {}
};

/// An EAGLE-3 head (arXiv:2503.01840) in the layout of its authors' checkpoints: `fc` over three
/// captured layers, one decoder layer `midlayer` over token and state, `norm`, `lm_head` over a
/// draft vocabulary with its map `d2t`. Without `lm_head` the target's rows of that vocabulary are
/// taken. Errors: kNotFound, kDataCorrupt and kUnsupported as LoadModel's; kInvalidArgument when it
/// was made for a target of other sizes, with both.
Result<std::unique_ptr<DraftHead>> LoadEagle3(const DraftHeadOptions& options, Backend& backend);

/// The target's own layer for the token after the next (multi-token prediction, arXiv:2412.19437,
/// section 2.2), as DeepSeek-V3's checkpoints have it behind the last layer. Of several the first.
/// Errors: kInvalidArgument when the target has none; those of LoadModel.
Result<std::unique_ptr<DraftHead>> LoadMtpLayer(const DraftHeadOptions& options, Backend& backend);

}  // namespace gale
