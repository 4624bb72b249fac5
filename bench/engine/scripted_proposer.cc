#include "engine/scripted_proposer.h"

#include "base/rng.h"
#include "base/status_macros.h"

namespace gale {

Status ScriptedProposer::Propose(std::span<DraftTask> tasks) {
  std::vector<int32_t> wanted;
  for (const DraftTask& task : tasks) wanted.push_back(task.num_tokens);
  GALE_RETURN_IF_ERROR(proposer_->Propose(tasks));
  for (size_t i = 0; i < tasks.size(); ++i) Rewrite(tasks[i], wanted[i]);
  return {};
}

/// Whether a guess is right depends on its place alone, so that repeats do the same work.
void ScriptedProposer::Rewrite(DraftTask& task, int32_t wanted) const {
  const std::vector<TokenId>& tokens = task.seq->tokens;
  const auto num_prompt = static_cast<size_t>(task.seq->num_prompt);
  const auto reply = script_.replies.find({tokens.begin(), tokens.begin() + task.seq->num_prompt});
  task.tokens.clear();
  task.num_tokens = 0;
  if (reply == script_.replies.end()) return;
  for (size_t place = tokens.size() - num_prompt;
       task.num_tokens < wanted && place < reply->second.size(); ++place) {
    const TokenId right = reply->second[place];
    const bool is_right =
        UniformDouble(static_cast<uint64_t>(tokens.front()), place, 0) < script_.acceptance;
    task.tokens.push_back(is_right ? right : (right + 1) % vocab_size_);
    ++task.num_tokens;
  }
}

}  // namespace gale
