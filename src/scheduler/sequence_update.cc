#include "scheduler/sequence_update.h"

#include <algorithm>

#include "base/check.h"

namespace gale {

SequenceUpdate UpdateOf(const Sequence& seq) {
  SequenceUpdate update;
  update.request = seq.request;
  update.id = seq.id;
  update.sample_index = seq.sample_index;
  update.num_cached = seq.num_cached;
  update.first_scheduled_s = seq.first_scheduled_s;
  return update;
}

FinishReason AppendTokens(Sequence& seq, std::vector<TokenId>& tokens,
                          std::vector<PositionLogprobs>& logprobs) {
  const std::vector<TokenId>& stops = seq.request->stop_token_ids;
  FinishReason reason = FinishReason::kNone;
  size_t num_taken = 0;
  while (num_taken < tokens.size() && reason == FinishReason::kNone) {
    const TokenId token = tokens[num_taken++];
    seq.tokens.push_back(token);
    if (std::ranges::find(stops, token) != stops.end()) {
      reason = FinishReason::kStop;
    } else if (static_cast<int32_t>(seq.tokens.size()) >= seq.max_len) {
      reason = FinishReason::kLength;
    }
  }
  tokens.resize(num_taken);
  if (logprobs.size() > num_taken) logprobs.resize(num_taken);
  return reason;
}

void AddPooled(Sequence& seq, const std::vector<float>& states) {
  if (states.empty()) return;
  seq.pooled.resize(states.size());
  for (size_t i = 0; i < states.size(); ++i) seq.pooled[i] += states[i];
}

void TakePromptLogprobs(Sequence& seq, int32_t begin, std::vector<PositionLogprobs>& news) {
  if (news.empty()) return;
  GALE_CHECK_LE(begin, seq.num_prompt_logprobs);
  const auto end = begin + static_cast<int32_t>(news.size());
  news.erase(news.begin(), news.begin() + (std::min(seq.num_prompt_logprobs, end) - begin));
  seq.num_prompt_logprobs = std::max(seq.num_prompt_logprobs, end);
}

}  // namespace gale
