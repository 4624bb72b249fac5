// Drives a Model directly, without engine or scheduler: a KV cache, block tables, one step at a
// time, logits of every token. Reaches the device only through Backend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gale/sampling_params.h"
#include "models/load_model.h"

namespace gale {

/// One step's arrays on the host, before they are copied to the device; tests may falsify them.
struct HostBatch {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> positions;
  std::vector<int32_t> slot_mapping;
  std::vector<int32_t> cu_seqlens_q;
  std::vector<int32_t> seq_lens;
  std::vector<int32_t> block_tables;  ///< [seqs, max_blocks]
};

struct HarnessOptions {
  LoadOptions load;
  int max_seqs = 4;
  int max_tokens = 128;                   ///< of one sequence
  bool permute_blocks = false;            ///< scatter each sequence's blocks over the pool
  std::vector<int> captured_layers = {};  ///< whose outputs Step keeps; of an f32 model
  bool fused = false;  ///< run the back end's FusedDecoder where it supports the step
  std::function<void(HostBatch&)> falsify;
};

/// Tokens that one step adds to a sequence.
struct Piece {
  int seq = 0;
  std::vector<TokenId> tokens;
};

class ModelHarness {
 public:
  static Result<std::unique_ptr<ModelHarness>> Load(Backend& backend, HarnessOptions options);

  /// Runs one step over all pieces; returns the logits of their tokens, [tokens][vocab] flat.
  std::vector<float> Step(const std::vector<Piece>& pieces);
  /// Of the last Step: [layers][tokens][hidden] flat.
  const std::vector<float>& captured() const { return captured_; }
  /// The likeliest `count` tokens after `prompt`, one by one; forgets all sequences before.
  std::vector<TokenId> Greedy(const std::vector<TokenId>& prompt, size_t count);
  /// Forgets all sequences.
  void Reset() { lengths_.assign(lengths_.size(), 0); }

  int vocab_size() const { return loaded_.model->vocab_size(); }
  const LoadedModel& loaded() const { return loaded_; }
  bool has_fused() const { return fused_ != nullptr; }
  int fused_steps() const { return fused_steps_; }

 private:
  ModelHarness(Backend& backend, HarnessOptions options)
      : backend_(backend), options_(std::move(options)) {}
  Status Prepare();
  Status AddGroup(const AttentionSpec& spec);
  HostBatch MakeBatch(const std::vector<Piece>& pieces);
  int32_t BlockOf(int seq, int index) const;
  TensorView Upload(const std::vector<int32_t>& values);

  Backend& backend_;
  HarnessOptions options_;
  LoadedModel loaded_;
  std::unique_ptr<Stream> stream_;
  std::vector<std::unique_ptr<AttentionBackend>> attention_;  ///< [group]
  std::unique_ptr<FusedDecoder> fused_;  ///< null unless asked for and there is one
  int fused_steps_ = 0;
  int block_tokens_ = 0;
  int max_blocks_ = 0;          ///< of one sequence
  std::vector<Buffer> caches_;  ///< [group]; all have the same block tables
  KvCacheView first_cache_;     ///< of the only group, where the decoder is fused
  ScratchArena scratch_;
  std::vector<Buffer> uploads_;  ///< of the current step
  std::vector<float> captured_;
  std::vector<int> lengths_;  ///< [seq] tokens already in the cache
};

}  // namespace gale
