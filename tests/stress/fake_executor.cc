#include "stress/fake_executor.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"

namespace gale {
namespace {

/// splitmix64's finalizer.
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

constexpr uint64_t kGarbage = 1;

/// The first position that a query at `position` sees.
int FirstRead(const KvGroup& group, int position) {
  return group.kind == KvKind::kSlidingWindow ? std::max(0, position - group.window + 1) : 0;
}

}  // namespace

uint64_t ExtendHash(uint64_t prefix, TokenId token) {
  return Mix(prefix ^ Mix(static_cast<uint64_t>(token) + 2));
}

TokenId FakeToken(uint64_t prefix, int sample_index, int vocab) {
  return static_cast<TokenId>(Mix(prefix + static_cast<uint64_t>(sample_index)) %
                              static_cast<uint64_t>(vocab));
}

FakeExecutor::FakeExecutor(const KvCacheSpec& spec, int num_blocks, int num_host_blocks, int vocab)
    : groups_(spec.groups), vocab_(vocab) {
  int slots = 1;
  for (const KvGroup& group : groups_) slots = std::max(slots, group.block_tokens);
  device_.assign(num_blocks, Content(slots, kGarbage));
  host_.assign(num_host_blocks, Content(slots, kGarbage));
}

void FakeExecutor::Violate(const std::string& what) {
  if (violation_.empty()) violation_ = fmt::format("step {}: {}", last_step_, what);
}

uint64_t FakeExecutor::Tag(uint64_t prefix, int group) const {
  return Mix(prefix ^ static_cast<uint64_t>(group + 1));
}

void FakeExecutor::Push(Seq& seq, TokenId token) {
  seq.hashes.push_back(ExtendHash(seq.hashes.empty() ? 0 : seq.hashes.back(), token));
  seq.tokens.push_back(token);
}

void FakeExecutor::Read(Step& step, BlockId block, SeqId seq) {
  if (block == kNullBlock) Violate(fmt::format("sequence {} reads the null block", seq));
  step.touched.emplace(block, Touch{seq, false});
}

/// No step that is still in flight may touch the block, but for those of the same sequence.
void FakeExecutor::Write(Step& step, BlockId block, SeqId seq) {
  if (block == kNullBlock) Violate(fmt::format("sequence {} writes the null block", seq));
  for (const Step& other : in_flight_) {
    const auto [begin, end] = other.touched.equal_range(block);
    for (auto it = begin; it != end; ++it) {
      if (it->second.seq != seq || seq == 0) {
        Violate(fmt::format("block {} of sequence {} (step {}, not retired) is reused by {}", block,
                            it->second.seq, other.output.step, seq));
      }
    }
  }
  step.touched.emplace(block, Touch{seq, true});
}

StepHandle FakeExecutor::Launch(const SchedulerOutput& plan) {
  if (plan.step != last_step_ + 1) Violate(fmt::format("step {} out of order", plan.step));
  last_step_ = plan.step;
  for (const std::vector<SeqId>* ids : {&plan.finished, &plan.preempted}) {
    for (const SeqId id : *ids) {
      if (seqs_.erase(id) == 0) Violate(fmt::format("told to forget unknown sequence {}", id));
    }
  }
  Step step;
  step.output.step = plan.step;
  Move(plan);
  for (const ScheduledSeq& scheduled : plan.seqs) Learn(scheduled);
  TouchMoved(step, plan);
  for (const ScheduledSeq& scheduled : plan.seqs) Compute(step, scheduled);
  in_flight_.push_back(std::move(step));
  return {plan.step};
}

void FakeExecutor::Move(const SchedulerOutput& plan) {
  for (const BlockCopy& copy : plan.swap_out) {
    for (const Step& other : in_flight_) {
      const auto [begin, end] = other.touched.equal_range(copy.src);
      for (auto it = begin; it != end; ++it) {
        if (it->second.write) {
          Violate(fmt::format("block {} swapped out while in flight", copy.src));
        }
      }
    }
    host_[copy.dst] = device_[copy.src];
  }
  for (const BlockCopy& copy : plan.swap_in) device_[copy.dst] = host_[copy.src];
  for (const BlockCopy& copy : plan.copies) device_[copy.dst] = device_[copy.src];
}

/// Moves count as accesses of the sequence that has the block in its table.
void FakeExecutor::TouchMoved(Step& step, const SchedulerOutput& plan) {
  for (const BlockCopy& copy : plan.copies) {
    Read(step, copy.src, OwnerOf(copy.src));
    Write(step, copy.dst, OwnerOf(copy.dst));
  }
  for (const BlockCopy& copy : plan.swap_in) Write(step, copy.dst, OwnerOf(copy.dst));
}

SeqId FakeExecutor::OwnerOf(BlockId block) const {
  for (const auto& [id, seq] : seqs_) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      // Entries out of the window are stale: the block may have a new owner.
      const int first = FirstRead(groups_[g], seq.num_computed) / groups_[g].block_tokens;
      for (size_t i = first; i < seq.blocks[g].size(); ++i) {
        if (seq.blocks[g][i] == block) return id;
      }
    }
  }
  return 0;
}

void FakeExecutor::Learn(const ScheduledSeq& scheduled) {
  if (scheduled.first_time) {
    const NewSeqData& data = *scheduled.first_time;
    if (seqs_.contains(scheduled.id)) Violate(fmt::format("sequence {} is not new", scheduled.id));
    Seq seq;
    for (const TokenId token : data.tokens) Push(seq, token);
    seq.num_prompt = data.num_prompt;
    seq.num_computed = data.num_computed;
    seq.sample_index = data.sample_index;
    seq.blocks = scheduled.new_blocks;
    ClaimCopies(scheduled.id, seq);
    seqs_[scheduled.id] = std::move(seq);
    return;
  }
  if (!seqs_.contains(scheduled.id)) Violate(fmt::format("sequence {} unknown", scheduled.id));
  Seq& seq = seqs_[scheduled.id];
  seq.blocks.resize(groups_.size());
  for (size_t g = 0; g < scheduled.new_blocks.size(); ++g) {
    const BlockList& news = scheduled.new_blocks[g];
    seq.blocks[g].insert(seq.blocks[g].end(), news.begin(), news.end());
  }
}

/// A fork's blocks may have been copied for it in an earlier step than its first.
void FakeExecutor::ClaimCopies(SeqId id, const Seq& seq) {
  for (Step& step : in_flight_) {
    for (auto& [block, touch] : step.touched) {
      if (touch.seq != 0 || !touch.write) continue;
      for (const BlockList& table : seq.blocks) {
        if (std::ranges::find(table, block) != table.end()) touch.seq = id;
      }
    }
  }
}

void FakeExecutor::Compute(Step& step, const ScheduledSeq& scheduled) {
  Seq& seq = seqs_[scheduled.id];
  SeqOutput& output = step.output.seqs.emplace_back();
  output.id = scheduled.id;
  const int begin = seq.num_computed;
  if (begin != scheduled.begin) {
    Violate(fmt::format("sequence {} is at {}, not at {}", scheduled.id, begin, scheduled.begin));
  }
  const int num_drafts = scheduled.draft.num_tokens;
  const int num_known = scheduled.num_tokens - num_drafts;
  const int end = begin + num_known;
  if (num_known < 1 || end > static_cast<int>(seq.tokens.size()) ||
      (scheduled.sample &&
       (scheduled.logits == LogitsRows::kNone || end != static_cast<int>(seq.tokens.size())))) {
    Violate(fmt::format("sequence {}: {} tokens from {} of {}", scheduled.id, scheduled.num_tokens,
                        begin, seq.tokens.size()));
    return;
  }
  if (scheduled.logits == LogitsRows::kAll) {
    for (int i = begin + 1; i <= std::min(end, seq.num_prompt - 1); ++i) {
      output.prompt_logprobs.push_back({{seq.tokens[i], static_cast<float>(i)}, {}});
    }
  }
  if (scheduled.num_pooled > 0) output.pooled.resize(2);  // how many positions, and their sum
  for (int position = end - scheduled.num_pooled; position < end; ++position) {
    output.pooled[0] += 1;
    output.pooled[1] += static_cast<float>(position);
  }
  // Of the drafts, a number that the prefix decides are right; the last token is the verifier's
  // own.
  output.num_drafted = num_drafts;
  // Rarely is there anything to guess.
  output.next_grade = Mix(seq.hashes.back()) % 16 == 0 ? 1 : 0;
  if (scheduled.sample) {
    const int num_right =
        static_cast<int>(Mix(~seq.hashes.back()) % static_cast<uint64_t>(num_drafts + 1));
    for (int i = 0; i <= num_right; ++i) {
      output.tokens.push_back(FakeToken(seq.hashes.back(), seq.sample_index, vocab_));
      Push(seq, output.tokens.back());
    }
  }
  const int num_valid = num_drafts > 0 ? static_cast<int>(output.tokens.size()) : num_known;
  Content written(seq.hashes.begin() + begin, seq.hashes.begin() + begin + num_valid);
  written.resize(scheduled.num_tokens, kGarbage);
  for (int g = 0; g < static_cast<int>(groups_.size()); ++g) {
    if (groups_[g].kind == KvKind::kRecurrent) {
      RunRecurrent(step, scheduled.id, seq, g, scheduled.num_tokens);
    } else {
      RunAttention(step, scheduled.id, seq, g, written);
    }
  }
  seq.num_computed += num_valid;
}

/// `written`: what the new positions hold, kGarbage for drafts that were wrong.
void FakeExecutor::RunAttention(Step& step, SeqId id, const Seq& seq, int group,
                                const Content& written) {
  const KvGroup& g = groups_[group];
  const int begin = seq.num_computed;
  const int end = begin + static_cast<int>(written.size());
  const int first = FirstRead(g, begin);
  if (static_cast<int>(seq.blocks[group].size()) * g.block_tokens < end) {
    Violate(fmt::format("sequence {} has no slots for position {}", id, end - 1));
    return;
  }
  for (int position = first; position < end; ++position) {
    const BlockId block = seq.blocks[group][position / g.block_tokens];
    const int slot = position % g.block_tokens;
    const bool is_new = position >= begin;
    if (is_new && (slot == 0 || position == begin)) Write(step, block, id);
    if (!is_new && (slot == 0 || position == first)) Read(step, block, id);
    if (is_new) {
      const uint64_t prefix = written[position - begin];
      device_[block][slot] = prefix == kGarbage ? kGarbage : Tag(prefix, group);
    } else if (device_[block][slot] != Tag(seq.hashes[position], group)) {
      Violate(fmt::format("sequence {} group {}: block {} slot {} is not its position {}", id,
                          group, block, slot, position));
    }
  }
}

void FakeExecutor::RunRecurrent(Step& step, SeqId id, const Seq& seq, int group, int num_tokens) {
  const BlockId block = seq.blocks[group].at(0);
  const int begin = seq.num_computed;
  Write(step, block, id);
  if (begin > 0 && device_[block][0] != Tag(seq.hashes[begin - 1], group)) {
    Violate(fmt::format("sequence {}: block {} is not its state after {}", id, block, begin));
  }
  device_[block][0] = Tag(seq.hashes[begin + num_tokens - 1], group);
}

Result<ModelRunnerOutput> FakeExecutor::Collect(StepHandle handle) {
  GALE_CHECK(!in_flight_.empty() && in_flight_.front().output.step == handle.step);
  ModelRunnerOutput output = std::move(in_flight_.front().output);
  in_flight_.pop_front();
  return output;
}

}  // namespace gale
