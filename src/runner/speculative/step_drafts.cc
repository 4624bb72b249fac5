#include "runner/speculative/step_drafts.h"

#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"

namespace gale {

Status StepDrafts::Allocate(Backend& backend, const StepLimits& limits) {
  max_draft_tokens_ = limits.max_draft_tokens;
  const auto elements =
      static_cast<size_t>(limits.max_seqs) * static_cast<size_t>(max_draft_tokens_);
  if (elements == 0) return {};
  GALE_ASSIGN_OR_RETURN(read_back_,
                        backend.Allocate(elements * sizeof(int32_t), MemoryKind::kPinnedHost));
  return {};
}

void StepDrafts::Clear() {
  tasks_.clear();
  drafts_.clear();
}

void StepDrafts::Add(size_t index, const RunnerSequence& seq, int32_t num_tokens) {
  GALE_CHECK_EQ(seq.num_unread, 0);
  GALE_CHECK_LE(num_tokens, max_draft_tokens_);
  tasks_.push_back({.seq = &seq, .num_tokens = num_tokens});
  drafts_.push_back({.index = index, .slot = seq.slot, .ids = {}});
}

Status StepDrafts::Propose(DraftProposer& proposer, Backend& backend, Stream& stream,
                           const SequenceTables& tables) {
  GALE_RETURN_IF_ERROR(proposer.Propose(tasks_));
  bool on_device = false;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    const DraftTask& task = tasks_[i];
    const RunnerSequence& seq = *task.seq;
    std::vector<int32_t>& ids = drafts_[i].ids;
    ids = task.tokens;
    if (ids.empty()) {
      for (int32_t j = 0; j < task.num_tokens; ++j) ids.push_back(~tables.DraftIndex(seq.slot, j));
      on_device |= !ids.empty();
    }
    GALE_CHECK_EQ(std::ssize(ids), task.num_tokens);
    if (ids.empty() || !EditsLogits(seq)) continue;
    const void* source =
        task.tokens.empty()
            ? static_cast<const int32_t*>(tables.last_tokens.data) + tables.DraftIndex(seq.slot, 0)
            : ids.data();
    auto* history = static_cast<int32_t*>(tables.history.Rows(seq.slot, seq.slot + 1).data);
    backend.Copy(stream, history + seq.tokens.size(), source, ids.size() * sizeof(int32_t));
  }
  if (on_device) {
    const int64_t first = tables.DraftIndex(0, 0);
    backend.Copy(stream, read_back_.data(),
                 static_cast<const int32_t*>(tables.last_tokens.data) + first,
                 static_cast<size_t>(tables.last_tokens.dim(0) - first) * sizeof(int32_t));
  }
  return {};
}

const StepDrafts::Draft* StepDrafts::Find(size_t index) const {
  const auto found = std::ranges::lower_bound(drafts_, index, {}, &Draft::index);
  return found == drafts_.end() || found->index != index ? nullptr : &*found;
}

std::span<const int32_t> StepDrafts::Ids(size_t index) const {
  const Draft* draft = Find(index);
  return draft == nullptr ? std::span<const int32_t>() : draft->ids;
}

int32_t StepDrafts::NumRight(size_t index, std::span<const TokenId> drawn) const {
  const Draft* draft = Find(index);
  if (draft == nullptr) return 0;
  const auto* read_back = static_cast<const int32_t*>(read_back_.data());
  int32_t right = 0;
  for (const int32_t id : draft->ids) {
    const TokenId token = id >= 0 ? id : read_back[draft->slot * max_draft_tokens_ + right];
    if (token != drawn[static_cast<size_t>(right)]) break;
    ++right;
  }
  return right;
}

}  // namespace gale
