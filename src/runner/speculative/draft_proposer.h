// What guesses a sequence's next tokens, so that the target model can check several in one step.
// Layer L4; called by ModelRunner. README.md beside this file has the flow and the reasons.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "gale/status.h"
#include "models/model.h"
#include "runner/input_batch.h"
#include "runner/kv_group_runtime.h"
#include "runner/sequence_tables.h"

namespace gale {

/// One sequence that a step is to speculate on. The host knows all of its tokens, and the target
/// has computed all but the last.
struct DraftTask {
  const RunnerSequence* seq = nullptr;
  /// Wanted; Propose lowers it to what it has, 0 at the least.
  int32_t num_tokens = 0;
  /// From proposers that guess on the host: num_tokens of them. From those that guess on the device
  /// none: token j is in SequenceTables::last_tokens, at DraftIndex(slot, j).
  std::vector<TokenId> tokens = {};
};

/// Rows of the target's step that has just been enqueued.
struct TargetRows {
  struct Part {
    const RunnerSequence* seq = nullptr;
    int32_t first_row = 0;
    int32_t begin = 0;       ///< position of the first row
    int32_t num_tokens = 0;  ///< rows; the drafts among them may turn out wrong
  };
  std::span<const Part> parts;
  TensorView hidden;    ///< [rows, hidden]: behind the final norm
  TensorView captured;  ///< [captured layers, rows, hidden], or empty
};

/// What a proposer works with; outlives it.
struct DraftDevice {
  Backend* backend = nullptr;
  Stream* stream = nullptr;  ///< the target's: what is enqueued here comes before its next step
  Model* target = nullptr;
  const SequenceTables* tables = nullptr;
  std::span<KvGroupRuntime> groups = {};  ///< of its attention_groups(), bound to the pool
  int first_group = 0;                    ///< of these, in every table of blocks
  StepLimits limits;
};

/// Never decides what is said: whatever it proposes, tokens are those of the target alone.
class DraftProposer {
 public:
  virtual ~DraftProposer() = default;

  /// KV groups of its own, which share the pool. They come behind the target's in every table of
  /// blocks.
  virtual std::vector<AttentionGroup> attention_groups() const { return {}; }
  /// Layers of the target whose outputs Observe wants, ascending; not the last one.
  virtual std::span<const int> captured_layers() const { return {}; }
  /// Whether Observe wants rows at all; steps then run layer by layer, since a fused decoder keeps
  /// its hidden states to itself.
  virtual bool observes() const { return false; }
  /// Device memory that Allocate takes, weights left out.
  virtual size_t DeviceBytes(const StepLimits& /*limits*/) const { return 0; }
  /// Once, before anything below. Errors: kResourceExhausted.
  virtual Status Allocate(const DraftDevice& /*device*/) { return {}; }

  /// What the next draft for `seq` promises: in how many of kMaxDraftGrade + 1 cases its first
  /// token will be right, about; 0: there would be none. The controller learns from the accepted
  /// drafts of every grade what it is really worth.
  virtual int32_t Grade(const RunnerSequence& /*seq*/) { return 6; }
  /// Guesses for all tasks of a step at once; enqueues at most, waits for nothing. An error ends
  /// the step.
  virtual Status Propose(std::span<DraftTask> tasks) = 0;
  /// Enqueues what it needs of the target's rows, behind them on the stream.
  virtual Status Observe(const TargetRows& /*rows*/) { return {}; }
  /// The sequence leaves its slot.
  virtual void Forget(const RunnerSequence& /*seq*/) {}
};

inline constexpr int32_t kMaxDraftGrade = 7;

}  // namespace gale
