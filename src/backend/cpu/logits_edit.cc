// Penalties, biases and bans on rows of logits. A row is one task.
#include "backend/logits_edit.h"

#include <algorithm>
#include <span>

#include "backend/cpu/candidates.h"
#include "backend/cpu/ops.h"

namespace gale::cpu {
namespace {

/// One row's edits, in place.
class RowEdit {
 public:
  RowEdit(const int32_t* record, std::span<const int32_t> history, std::span<float> logits)
      : record_(record), edit_(record_.edit()), history_(history), logits_(logits) {}

  /// `counts`: scratch, [vocab].
  void Penalize(std::span<int32_t> counts) const {
    std::ranges::fill(counts, -1);  // was not said
    for (size_t i = 0; i < history_.size(); ++i) {
      int32_t& count = counts[static_cast<size_t>(history_[i])];
      count = std::max(count, 0) + (static_cast<int32_t>(i) >= edit_.num_prompt ? 1 : 0);
    }
    for (size_t token = 0; token < counts.size(); ++token) {
      if (counts[token] >= 0) logits_[token] = Penalized(edit_, logits_[token], counts[token]);
    }
  }

  /// `matches`: scratch, [vocab].
  void PenalizeRepeats(std::span<int32_t> matches) const {
    std::ranges::fill(matches, 0);
    const auto length = static_cast<int32_t>(history_.size());
    for (int32_t i = record_.DryBegin(length) + 1; i < length; ++i) {
      const int32_t match = record_.DryMatch(history_.data(), i, length);
      const int32_t token = history_[static_cast<size_t>(i)];
      if (match == 0 || record_.IsBreaker(token)) continue;
      int32_t& longest = matches[static_cast<size_t>(token)];
      longest = std::max(longest, match);
    }
    for (size_t token = 0; token < matches.size(); ++token) {
      if (matches[token] > 0) logits_[token] -= DryPenalty(edit_, matches[token]);
    }
  }

  void Bias() const {
    const std::span biases(record_.biases(), static_cast<size_t>(edit_.num_biases));
    for (const bool bans : {false, true}) {
      for (const SequenceBias& bias : biases) {
        const auto length = static_cast<int32_t>(history_.size());
        if (bias.is_ban() != bans || !record_.Applies(bias, history_.data(), length)) continue;
        float& logit = logits_[static_cast<size_t>(record_.LastToken(bias))];
        logit = bans ? std::min(logit, kBannedLogit) : logit + bias.bias;
      }
    }
  }

  void Mask(const int32_t* allowed) const {
    for (size_t i = 0; i < logits_.size(); ++i) {
      const auto word = static_cast<uint32_t>(allowed[i / 32]);
      if ((word >> (i % 32) & 1U) == 0) logits_[i] = kMinusInfinity;
    }
  }

 private:
  LogitsEditRecord record_;
  const LogitsEdit& edit_;
  std::span<const int32_t> history_;
  std::span<float> logits_;
};

}  // namespace

void EditLogits(Context& context, const EditLogitsArgs& args) {
  CheckEditLogitsArgs(args);
  const int64_t vocab = args.logits.dim(1);
  ForRows(context, args.logits.dim(0), vocab, [&](int64_t begin, int64_t end, int thread) {
    static_assert(sizeof(int32_t) == sizeof(float));
    float* scratch = context.thread_scratch[static_cast<size_t>(thread)].Floats(vocab);
    const std::span counts(reinterpret_cast<int32_t*>(scratch), static_cast<size_t>(vocab));
    for (int64_t row = begin; row < end; ++row) {
      const std::span<const float> from = LogitsRow(args.logits, row);
      const std::span to(static_cast<float*>(RowAt(args.out, row)), from.size());
      if (to.data() != from.data()) std::ranges::copy(from, to.begin());
      const int32_t slot = args.slots.As<int32_t>()[row];
      if (slot < 0) continue;
      GALE_CHECK_LT(slot, args.history.dim(0));
      const auto length = static_cast<size_t>(args.lengths.As<int32_t>()[row]);
      const auto* record = static_cast<const int32_t*>(RowAt(args.edits, slot));
      const LogitsEdit& edit = LogitsEditRecord(record).edit();
      const RowEdit row_edit(record,
                             {static_cast<const int32_t*>(RowAt(args.history, slot)), length}, to);
      if (edit.has_penalties()) row_edit.Penalize(counts);
      if (edit.dry_multiplier > 0) row_edit.PenalizeRepeats(counts);
      row_edit.Bias();
      if (edit.is_masked != 0)
        row_edit.Mask(static_cast<const int32_t*>(RowAt(args.allowed, slot)));
    }
  });
}

}  // namespace gale::cpu
