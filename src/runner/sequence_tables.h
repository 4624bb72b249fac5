// What the device keeps for every sequence, by slot: the token drawn last, all that was said, what
// its sampling parameters change about its logits. Layer L4; owned by ModelRunner.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "backend/backend.h"
#include "runner/input_batch.h"

namespace gale {

/// Whether a sequence's logits are edited at all; a history is kept for those only.
bool EditsLogits(const RunnerSequence& seq);

class SequenceTables {
 public:
  /// Host memory that the device still reads.
  using Sources = std::deque<std::vector<int32_t>>;

  static size_t DeviceBytes(const StepLimits& limits, int vocab_size);
  Status Allocate(Backend& backend, const StepLimits& limits, int vocab_size);

  /// Enqueues what a sequence new to its slot needs there, for most of them nothing; behind the
  /// steps that used the slot before. `sources` live until the device has passed it.
  void Upload(Backend& backend, Stream& stream, const RunnerSequence& seq, Sources& sources) const;

  /// Where the drafts of a slot are that a step has guessed on the device.
  int32_t DraftIndex(int32_t slot, int32_t draft) const {
    return num_slots_ + slot * max_draft_tokens_ + draft;
  }

  TensorView last_tokens;  ///< i32 [slots * (1 + max drafts)]: the last ones, then the drafts
  TensorView history;      ///< i32 [slots, capacity]: prompt, then drawn tokens
  TensorView edits;        ///< i32 [slots, kLogitsEditWords]
  TensorView allowed;      ///< i32 [slots, mask words]
  TensorView mirostat_mu;  ///< f32 [slots]

 private:
  int32_t num_slots_ = 0;
  int32_t max_draft_tokens_ = 0;
  Buffer memory_;
};

}  // namespace gale
