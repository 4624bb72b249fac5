// The flat arrays of one step, built in one pass over its sequences. Layer L4; filled by
// ModelRunner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/model.h"
#include "request/sequence.h"
#include "runner/staged_array.h"

namespace gale {

/// What bounds every step; device memory is allocated for it once.
struct StepLimits {
  int max_tokens = 0;  ///< of one step, over all sequences
  int max_seqs = 0;
  int max_model_len = 0;  ///< positions of one sequence
  /// Bounds the f32 logits; steps that want more rows take them in tiles. The default is 110 rows
  /// of the largest vocabularies (152k): a batch of decodes mostly fits.
  size_t logits_bytes = size_t{64} << 20;
};

/// A sequence as the runner knows it. It runs ahead of the scheduler's Sequence by what is in
/// flight: a token drawn in step n is here before step n + 1 is built.
struct RunnerSequence {
  std::vector<TokenId> tokens;  ///< prompt and every token drawn
  int32_t num_prompt = 0;
  int32_t num_computed = 0;       ///< positions launched; the next step starts here
  std::vector<BlockList> blocks;  ///< [kv group]
  SamplingParams sampling;
  int sample_index = 0;
};

class InputBatch {
 public:
  /// `block_tokens`: of each KV group.
  static Result<InputBatch> Create(Backend& backend, const StepLimits& limits,
                                   std::span<const int> block_tokens);

  void Clear();
  /// Appends positions [num_computed, num_computed + num_tokens) of `seq`.
  void Add(const RunnerSequence& seq, int num_tokens);
  /// Copies the arrays to the device. The result's views are valid until the next Clear.
  ForwardBatch Upload(Backend& backend, Stream& stream);

  int num_tokens() const { return static_cast<int>(token_ids_.size()); }
  int num_seqs() const { return static_cast<int>(seq_lens_.size()); }

 private:
  struct Group {
    int block_tokens = 0;
    StagedArray<int32_t> block_tables;  ///< [seqs, longest table of the step]
    StagedArray<int32_t> slot_mapping;  ///< [tokens]
    std::vector<const BlockList*> tables;
  };

  void AddBlocks(Group& group, const BlockList& table, int begin, int end);
  static int64_t FillTables(Group& group);

  StagedArray<int32_t> token_ids_;
  StagedArray<int32_t> positions_;
  StagedArray<int32_t> seq_lens_;
  std::vector<int32_t> cu_seqlens_;
  std::vector<Group> groups_;
};

}  // namespace gale
