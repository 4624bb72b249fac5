// An executor without a model: it keeps, for every slot of every KV block, which prefix was written
// there, so that reading a wrong, stale or reused block is seen; and it draws tokens as a pure
// function of the prefix, so that any schedule must give what the sequence would give alone.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "kv_cache/kv_cache_spec.h"
#include "runner/executor.h"

namespace gale {

/// What sample `sample_index` says after the tokens whose hash is `prefix`.
TokenId FakeToken(uint64_t prefix, int sample_index, int vocab);
/// The hash of one token more.
uint64_t ExtendHash(uint64_t prefix, TokenId token);

class FakeExecutor final : public Executor {
 public:
  FakeExecutor(const KvCacheSpec& spec, int num_blocks, int num_host_blocks, int vocab);

  StepHandle Launch(const SchedulerOutput& plan) override;
  void Sample(StepHandle, const SamplingInputs&) override {}
  Result<ModelRunnerOutput> Collect(StepHandle handle) override;

  /// The first promise that was broken, or empty.
  const std::string& violation() const { return violation_; }
  size_t num_seqs() const { return seqs_.size(); }

 private:
  using Content = std::vector<uint64_t>;  ///< [slot]; a recurrent state is in slot 0
  struct Seq {
    std::vector<TokenId> tokens;
    std::vector<uint64_t> hashes;  ///< [i]: of tokens [0, i]
    int num_prompt = 0;
    int num_computed = 0;
    int sample_index = 0;
    std::vector<BlockList> blocks;
  };
  struct Touch {
    SeqId seq = 0;  ///< 0: nobody's (a cached state)
    bool write = false;
  };
  struct Step {
    ModelRunnerOutput output;
    std::unordered_multimap<BlockId, Touch> touched;
  };

  void Violate(const std::string& what);
  void Move(const SchedulerOutput& plan);
  void TouchMoved(Step& step, const SchedulerOutput& plan);
  SeqId OwnerOf(BlockId block) const;
  void Learn(const ScheduledSeq& scheduled);
  void ClaimCopies(SeqId id, const Seq& seq);
  void Compute(Step& step, const ScheduledSeq& scheduled);
  void RunAttention(Step& step, SeqId id, const Seq& seq, int group, const Content& written);
  void RunRecurrent(Step& step, SeqId id, const Seq& seq, int group, int num_tokens);
  void Push(Seq& seq, TokenId token);
  uint64_t Tag(uint64_t prefix, int group) const;
  void Read(Step& step, BlockId block, SeqId seq);
  void Write(Step& step, BlockId block, SeqId seq);

  std::vector<KvGroup> groups_;
  int vocab_;
  std::vector<Content> device_;
  std::vector<Content> host_;
  std::unordered_map<SeqId, Seq> seqs_;
  std::deque<Step> in_flight_;
  uint64_t last_step_ = 0;
  std::string violation_;
};

}  // namespace gale
