// A scheduler without a model, for its tests.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "scheduler/scheduler.h"

namespace gale {

inline constexpr TokenId kStopToken = 5;

struct Options {
  SchedulerConfig scheduler = {
      .max_num_seqs = 8, .max_num_batched_tokens = 32, .max_model_len = 200};
  int num_blocks = 200;
  int num_host_blocks = 0;
  int block_tokens = 4;
};

inline std::shared_ptr<Request> MakeRequest(RequestId id, int num_prompt, int max_tokens) {
  auto request = std::make_shared<Request>();
  request->id = id;
  request->prompt.resize(num_prompt);
  std::iota(request->prompt.begin(), request->prompt.end(), static_cast<TokenId>(1000 * id));
  request->sampling.max_tokens = max_tokens;
  request->stop_token_ids = {kStopToken};
  return request;
}

/// A scheduler with a runner that always says `next_token`.
class SchedulerTest : public ::testing::Test {
 protected:
  void Create(const Options& options = {}) {
    KvCacheConfig kv;
    kv.spec.groups = {{.kind = KvKind::kFull, .block_tokens = options.block_tokens}};
    kv.num_blocks = options.num_blocks;
    kv.num_host_blocks = options.num_host_blocks;
    scheduler_ = std::make_unique<Scheduler>(options.scheduler, kv);
  }

  std::shared_ptr<Request> Add(RequestId id, int num_prompt, int max_tokens) {
    auto request = MakeRequest(id, num_prompt, max_tokens);
    scheduler_->Add(request);
    return request;
  }

  ModelRunnerOutput Run(const SchedulerOutput& plan) const {
    ModelRunnerOutput output;
    output.step = plan.step;
    for (const ScheduledSeq& seq : plan.seqs) {
      SeqOutput& out = output.seqs.emplace_back();
      out.id = seq.id;
      out.num_drafted = seq.draft.num_tokens;
      out.next_grade = 1;
      if (seq.sample)
        out.tokens.assign(1 + std::min(num_accepted_, seq.draft.num_tokens), next_token_);
      if (seq.logits == LogitsRows::kAll && seq.draft.num_tokens == 0) {
        for (int i = 0; i < seq.num_tokens; ++i) {
          out.prompt_logprobs.push_back({{seq.begin + i + 1, 0.0F}, {}});
        }
      }
    }
    return output;
  }

  std::vector<SequenceUpdate> Update(const SchedulerOutput& plan) {
    std::vector<SequenceUpdate> updates = scheduler_->Update(plan, Run(plan));
    const Status status = scheduler_->kv_cache().CheckIntegrity();
    EXPECT_TRUE(status) << status.error().message;
    for (const SequenceUpdate& update : updates) {
      std::vector<TokenId>& tokens = tokens_[update.id];
      tokens.insert(tokens.end(), update.tokens.begin(), update.tokens.end());
      if (update.finish_reason != FinishReason::kNone) {
        EXPECT_TRUE(reasons_.emplace(update.id, update.finish_reason).second) << "ended twice";
      }
    }
    return updates;
  }

  /// One round of the synchronous loop.
  SchedulerOutput Step() {
    SchedulerOutput plan = scheduler_->Schedule();
    if (!plan.seqs.empty()) Update(plan);
    return plan;
  }

  /// {id: positions} of a plan.
  static std::map<SeqId, int> Tokens(const SchedulerOutput& plan) {
    std::map<SeqId, int> tokens;
    for (const ScheduledSeq& seq : plan.seqs) tokens[seq.id] = seq.num_tokens;
    return tokens;
  }
  static const ScheduledSeq& Find(const SchedulerOutput& plan, SeqId id) {
    return *std::ranges::find(plan.seqs, id, &ScheduledSeq::id);
  }

  std::unique_ptr<Scheduler> scheduler_;
  TokenId next_token_ = 42;
  int num_accepted_ = 0;  ///< of the drafts
  std::map<SeqId, std::vector<TokenId>> tokens_;
  std::map<SeqId, FinishReason> reasons_;
};

}  // namespace gale
