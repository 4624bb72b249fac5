// Runs one generation request and answers it, whole or as a stream. Layer L6; between the handlers
// and the engine's callbacks.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gale/llm_engine.h"
#include "server/http_exchange.h"
#include "server/openai_answer.h"
#include "server/openai_protocol.h"
#include "server/server_metrics.h"

namespace gale::server {

/// One HTTP request: some prompts, each with n samples; choice i * n + j is sample j of prompt i.
/// Kept alive by the engine's callbacks until the last final output.
class GenerationReply : public std::enable_shared_from_this<GenerationReply> {
 public:
  struct Prompt {
    std::vector<TokenId> tokens;
    std::string echo = {};  ///< text to begin the choices with, or ""
  };
  /// `engine` and `metrics` must outlive the last callback.
  GenerationReply(LlmEngine& engine, ServerMetrics& metrics, std::shared_ptr<HttpExchange> exchange,
                  AnswerHead head, GenerationRequest request, std::vector<Prompt> prompts);

  /// Hands the prompts to the engine; what it refuses becomes the answer. If the client goes, all
  /// of them are cancelled.
  void Start();

 private:
  struct Part {
    Prompt prompt = {};
    RequestId id = 0;
    int cached_tokens = 0;
  };
  struct ChoiceState {
    Choice choice;
    bool begun = false;
    CompletionLogprobs logprobs;
    boost::json::array chat_logprobs;
  };

  void OnOutput(size_t part, const RequestOutput& output);
  void Begin(Part& part, ChoiceState& state, int index);
  void Take(const SampleOutput& news, ChoiceState& state, int index);
  void TakeLogprobs(const SampleOutput& news, ChoiceState& state);
  void AddPromptLogprobs(const Part& part, const RequestOutput& last, int first_choice);
  boost::json::value LogprobsJson(ChoiceState& state);
  void Finish();
  void Fail(const ApiError& error);
  void CancelAll();

  LlmEngine& engine_;
  ServerMetrics& metrics_;
  const std::shared_ptr<HttpExchange> exchange_;
  const AnswerHead head_;
  const GenerationRequest request_;
  const ChunkWriter chunks_;

  std::mutex mutex_;  ///< of everything below: Start and the client's going meet the callbacks
  std::vector<Part> parts_;
  std::vector<ChoiceState> choices_;
  size_t num_unfinished_;
  Usage usage_;
  bool done_ = false;   ///< answered, or nobody is there to read it
  std::string events_;  ///< of the output being handled
};

}  // namespace gale::server
