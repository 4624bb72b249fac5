// Whole texts through a model, one sequence at a time, without engine or scheduler: what evaluation
// and calibration need. Layer L3; called by eval/ and quantize/.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "gale/sampling_params.h"
#include "gale/status.h"
#include "models/model.h"

namespace gale {

/// Memory: keys, values and hidden states of one sequence, scratch for a chunk of it, and a tile of
/// logits.
class SequenceRunner {
 public:
  /// For sequences of at most `max_tokens`; `kv`: what keys and values are stored as, if not as the
  /// model computes. `backend` and `model` outlive this.
  /// Errors: kUnsupported when the device has no attention for the model, kResourceExhausted.
  static Result<std::unique_ptr<SequenceRunner>> Create(Backend& backend, Model& model,
                                                        int max_tokens,
                                                        std::optional<KvFormat> kv = std::nullopt);

  /// Runs the layers over 1 to max_tokens tokens, chunk by chunk, and keeps their hidden states.
  Status Forward(std::span<const TokenId> tokens);
  /// Rows that Logits takes at once.
  int logits_tile() const { return logits_tile_; }
  /// The logits of tokens [begin, end) of the last Forward: host f32 [end - begin][vocab], valid
  /// until the next call.
  Result<std::span<const float>> Logits(int begin, int end);

 private:
  SequenceRunner(Backend& backend, Model& model, int max_tokens);
  Status Allocate(std::optional<KvFormat> kv);
  Status AddGroup(const AttentionSpec& spec);
  Status ForwardChunk(std::span<const TokenId> tokens, int begin);
  TensorView HiddenRows(int64_t begin, int64_t end) const;

  struct Group {
    std::unique_ptr<AttentionBackend> attention;
    int block_tokens = 0;
    Buffer cache;
    Buffer tables;  ///< i32 [1, blocks]: block i is the i-th
    Buffer plan;
  };

  Backend& backend_;
  Model& model_;
  int max_tokens_;
  int chunk_tokens_;
  int logits_tile_;
  std::unique_ptr<Stream> stream_;
  std::vector<Group> groups_;
  ScratchArena scratch_;
  Buffer inputs_;  ///< i32: ids and positions of a chunk, which are its slots too, and the length
  Buffer hidden_;
  Buffer logits_;
  std::vector<float> host_logits_;
};

}  // namespace gale
