#include "scheduler/draft_controller.h"

#include <algorithm>
#include <cmath>

namespace gale {
namespace {

// Weights of what is assumed, in drafts: of a grade by its number, of a sequence by its grade.
constexpr double kGradePrior = 8;
constexpr double kSequencePrior = 3;
constexpr double kMostRate = 0.98;

// What is left of older drafts: with each draft of that grade or sequence; with each step that had
// none, so that it is tried again.
constexpr double kFadeGrade = 0.99;
constexpr double kFadeSequence = 0.9;
constexpr double kForgetGrade = 0.999;
constexpr double kForgetSequence = 0.98;

/// A step with drafts overlaps no other: it has to be better than one without by more than that
/// costs, and by more than times vary.
constexpr double kLeastGain = 1.05;
/// So old a time of steps without drafts is measured again.
constexpr uint64_t kOldTime = 64;

}  // namespace

bool DraftController::Plan(std::span<Sequence* const> decodes, int max_rows) {
  choices_.clear();
  for (Sequence* seq : decodes) {
    seq->draft.num_tokens = 0;
    const int32_t most = MostTokens(*seq);
    if (most <= 0) continue;
    const double rate = adaptive_ ? Rate(*seq) : 1;
    double probability = 1;
    for (int32_t depth = 1; depth <= most; ++depth) {
      probability *= rate;
      choices_.push_back({.probability = probability, .depth = depth, .seq = seq});
    }
  }
  if (adaptive_) std::ranges::stable_sort(choices_, std::ranges::greater{}, &Choice::probability);
  if (std::ssize(choices_) > max_rows) choices_.resize(static_cast<size_t>(std::max(max_rows, 0)));
  if (adaptive_) choices_.resize(BestCount(decodes.size()));
  catches_up_ = false;
  for (const Choice& choice : choices_) {
    catches_up_ |= !choice.seq->draft.goes_on;
    choice.seq->draft.num_tokens = std::max(choice.seq->draft.num_tokens, choice.depth);
  }
  return !choices_.empty();
}

/// A step of which all drafts are right yields one token more than it has drafts.
int32_t DraftController::MostTokens(const Sequence& seq) const {
  if (seq.draft.grade == 0) return 0;
  return std::min(seq.max_len - seq.num_planned() - 1, max_tokens_);
}

/// How many of the choices, likeliest first, give the most tokens a second; 0 if that is hardly
/// more than without.
size_t DraftController::BestCount(size_t num_decodes) {
  const auto rows = static_cast<int>(num_decodes);
  if (choices_.empty() || step_times_.Age(rows) > kOldTime) return 0;
  double tokens = rows;
  double best = kLeastGain * tokens / step_times_.Seconds(rows);
  size_t best_count = 0;
  int32_t depth = 0;
  int num_seqs = 0;
  for (size_t i = 0; i < choices_.size(); ++i) {
    tokens += choices_[i].probability;
    depth = std::max(depth, choices_[i].depth);
    if (choices_[i].depth == 1) ++num_seqs;
    const double seconds = step_times_.Seconds(rows + static_cast<int>(i) + 1) +
                           depth * draft_times_.Seconds(num_seqs);
    if (tokens / seconds <= best) continue;
    best = tokens / seconds;
    best_count = i + 1;
  }
  return best_count;
}

double DraftController::GradeRate(int32_t grade) const {
  const Grade& g = grades_[static_cast<size_t>(grade)];
  const double assumed = static_cast<double>(grade) / static_cast<double>(grades_.size());
  return (g.num_right + kGradePrior * assumed) / (g.num_right + g.num_wrong + kGradePrior);
}

/// What its grade lets expect, by how much better or worse than that its drafts have been.
double DraftController::Rate(const Sequence& seq) const {
  const double factor =
      (seq.draft.num_right + kSequencePrior) / (seq.draft.num_expected + kSequencePrior);
  return std::min(kMostRate, factor * GradeRate(seq.draft.grade));
}

void DraftController::Absorb(Sequence& seq, const SeqOutput& output) {
  DraftRecord& draft = seq.draft;
  if (output.num_drafted > 0) {
    const auto right = static_cast<double>(output.tokens.size()) - 1;
    const double wrong = right < output.num_drafted ? 1 : 0;  // what follows is not looked at
    const double expected = GradeRate(draft.grade) * (right + wrong);
    draft.num_right = kFadeSequence * draft.num_right + right;
    draft.num_expected = kFadeSequence * draft.num_expected + expected;
    Grade& grade = grades_[static_cast<size_t>(draft.grade)];
    grade.num_right = kFadeGrade * grade.num_right + right;
    grade.num_wrong = kFadeGrade * grade.num_wrong + wrong;
    ++stats_.drafts;
    stats_.draft_tokens += static_cast<uint64_t>(output.num_drafted);
    stats_.accepted_tokens += static_cast<uint64_t>(right);
  } else {
    draft.num_right *= kForgetSequence;
    draft.num_expected *= kForgetSequence;
  }
  draft.goes_on = output.num_drafted > 0;
  draft.grade = output.next_grade;
}

void DraftController::Observe(const SchedulerOutput& plan, const ModelRunnerOutput& output) {
  int rows = 0;
  int num_tokens = 0;
  int num_drafting = 0;
  int32_t depth = 0;
  for (size_t i = 0; i < plan.seqs.size(); ++i) {
    const ScheduledSeq& scheduled = plan.seqs[i];
    const int32_t num_drafted = output.seqs[i].num_drafted;
    if (scheduled.num_tokens - scheduled.draft.num_tokens > 1) return;  // a prompt
    rows += 1 + num_drafted;
    num_tokens += static_cast<int>(output.seqs[i].tokens.size());
    num_drafting += num_drafted > 0 ? 1 : 0;
    depth = std::max(depth, num_drafted);
  }
  const auto num_seqs = static_cast<int>(plan.seqs.size());
  step_times_.Observe(rows, output.device_s - output.draft_s);
  if (depth == 0) {
    for (Grade& grade : grades_) {
      grade.num_right *= kForgetGrade;
      grade.num_wrong *= kForgetGrade;
    }
    return;
  }
  // What a draft model has missed it computes first: no measure of its drafts.
  if (!catches_up_) draft_times_.Observe(num_drafting, output.draft_s / depth);
  const double token_s = step_times_.Seconds(num_seqs) / num_seqs;
  stats_.saved_s += num_tokens * token_s - output.device_s;
}

}  // namespace gale
