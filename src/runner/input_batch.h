// The flat arrays of one step, built in one pass over its sequences. Layer L4; filled by
// ModelRunner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/model.h"
#include "request/sequence.h"
#include "runner/kv_group_runtime.h"
#include "runner/staged_array.h"

namespace gale {

/// What bounds every step; device memory is allocated for it once.
struct StepLimits {
  int max_tokens = 0;  ///< of one step, over all sequences
  int max_seqs = 0;
  int max_model_len = 0;     ///< positions of one sequence
  int max_draft_tokens = 0;  ///< speculated on in one step, of one sequence
  /// Bounds the f32 logits; steps that want more rows take them in tiles. The default is 110 rows
  /// of the largest vocabularies (152k): a batch of decodes mostly fits.
  size_t logits_bytes = size_t{64} << 20;
  /// A step that has not ended after so long is given up, and the device with it.
  double timeout_s = 30;
};

/// A sequence as the runner knows it. It runs ahead of the scheduler's Sequence by what is in
/// flight, and ahead of the tokens that the host has read: step n + 1 begins with a token that step
/// n still draws.
struct RunnerSequence {
  std::vector<TokenId> tokens;  ///< prompt, and drawn tokens that have been read back
  int32_t num_unread = 0;       ///< drawn behind those; the last one comes to last_tokens[slot]
  int32_t slot = 0;             ///< its own place in the device's table of last tokens
  int32_t num_prompt = 0;
  int32_t num_computed = 0;       ///< positions launched; the next step starts here
  int32_t num_cached = 0;         ///< of these, KV that was there when the sequence came
  std::vector<BlockList> blocks;  ///< [kv group]
  SamplingParams sampling;
  std::vector<TokenId> end_token_ids;  ///< not to be drawn before sampling.min_tokens
  float mirostat_mu = 0;               ///< when it became known; then it is on the device
  int sample_index = 0;

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()) + num_unread; }
};

/// What the batch must know of a KV group.
struct KvGroupLayout {
  int block_tokens = 0;
  size_t plan_bytes = 0;  ///< of the attention's plan
  int window = 0;         ///< 0: none
};

std::vector<KvGroupLayout> KvGroupLayouts(std::span<const KvGroupRuntime> groups,
                                          const StepLimits& limits);

class InputBatch {
 public:
  /// Takes its arrays from two blocks: `arrays`, which the caller uploads whole every step, and
  /// `tables`, of which UploadTables copies what the step has filled. `groups` begin with number
  /// `first_group` of a sequence's. A row reads the token `lookahead` behind its position.
  InputBatch(StagedBlock& arrays, StagedBlock& tables, const StepLimits& limits,
             std::span<const KvGroupLayout> groups, size_t first_group = 0, int lookahead = 0);

  void Clear();
  /// Appends positions [begin, begin + num_tokens) of `seq`; behind its own tokens come `drafts`,
  /// ids or ~index as in EmbeddingArgs.
  void Add(const RunnerSequence& seq, int begin, int num_tokens,
           std::span<const int32_t> drafts = {});
  /// Makes the batch one of so many tokens and sequences: the first one more sequence has the
  /// tokens that are missing, which are computed to no effect, the others none.
  void FillTo(int num_tokens, int num_seqs);
  void UploadTables(Backend& backend, Stream& stream) const;
  /// What was filled, as it will be on the device; valid until the next Clear.
  ForwardBatch View();
  /// Nothing but padding, at the addresses of a step filled up to so many tokens and sequences;
  /// valid until the next call. Leaves the batch's arrays alone.
  ForwardBatch GraphView(int num_tokens, int num_seqs);

  int num_tokens() const { return static_cast<int>(token_ids_.size()); }
  int num_seqs() const { return static_cast<int>(seq_lens_.size()); }

 private:
  struct Group {
    int block_tokens = 0;
    int window = 0;
    int64_t max_blocks = 0;             ///< of one sequence
    StagedArray<int32_t> slot_mapping;  ///< [tokens]
    StagedArray<int32_t> plan;
    StagedArray<int32_t> block_tables;  ///< [seqs, max_blocks]
    std::vector<std::byte> graph_plan;  ///< host side of GraphView's
  };

  void AddBlocks(Group& group, const RunnerSequence& seq, const BlockList& table, int begin,
                 int end);
  /// Device views; the host sides are to be set.
  ForwardBatch DeviceView(int num_tokens, int num_seqs) const;

  StagedArray<int32_t> token_ids_;
  StagedArray<int32_t> positions_;
  StagedArray<int32_t> seq_lens_;
  std::vector<int32_t> cu_seqlens_;
  size_t first_group_ = 0;
  int lookahead_ = 0;
  std::vector<Group> groups_;
  std::vector<int32_t> graph_cu_seqlens_;  ///< of the last GraphView
  std::vector<int32_t> graph_seq_lens_;    ///< [max seqs]: zeros
};

}  // namespace gale
