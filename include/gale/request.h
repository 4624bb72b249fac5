// What a client hands the engine and what it gets back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "gale/sampling_params.h"
#include "gale/status.h"

namespace gale {

using RequestId = uint64_t;  ///< unique in one engine, never reused

enum class TaskKind {
  kGenerate,  ///< tokens that go on from the prompt
  kEmbed,     ///< the prompt as one vector; of `sampling` nothing counts
};

struct RequestParams {
  TaskKind task = TaskKind::kGenerate;
  std::variant<std::string, std::vector<TokenId>> prompt;  ///< text, or ids taken as they are
  bool add_special_tokens = true;  ///< text prompts: add what the tokenizer's post-processor adds
                                   ///< (BOS)
  bool parse_special = false;  ///< text prompts: "<|im_end|>" in the text becomes the special token
  SamplingParams sampling;
  int priority = 0;        ///< smaller is sooner among waiting requests
  std::string client;      ///< who asks: clients who wait share the engine's tokens equally
  std::string cache_salt;  ///< requests share cached prefixes only under an equal salt
  double timeout_s = 0;    ///< after AddRequest it ends with kDeadlineExceeded; 0: never
};

enum class FinishReason {
  kNone,       ///< still running
  kStop,       ///< end-of-sequence token, stop token or stop string
  kLength,     ///< max_tokens or the model's context reached
  kCancelled,  ///< the client cancelled
  kError,      ///< see RequestOutput::error
};
std::string_view FinishReasonName(FinishReason reason);  ///< "stop", "length", ... ; "" for kNone

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
};
/// The chosen token first-hand, and the likeliest alternatives, best first.
struct PositionLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;
};

/// News of one sample since the last output. Deltas: concatenating them gives the whole.
struct SampleOutput {
  int index = 0;     ///< which of the request's n samples; with best_of or beams 0 is the best
  std::string text;  ///< whole characters only; held back while a stop string may be forming
  std::vector<TokenId> tokens;
  std::vector<PositionLogprobs> logprobs;  ///< one per token, when asked for
  /// Of all its tokens so far: the sum of their logprobs, when asked for or ranked by.
  std::optional<double> cumulative_logprob;
  FinishReason finish_reason = FinishReason::kNone;
};

struct RequestTimes {
  double queued_s = 0;       ///< AddRequest to first scheduled
  double first_token_s = 0;  ///< AddRequest to first token seen by the output thread
  double total_s = 0;        ///< AddRequest to last token; set on the final output
};

/// One event of a request's life. Exactly one has `finished` set, and it is the last.
struct RequestOutput {
  RequestId id = 0;
  bool finished = false;
  std::vector<SampleOutput> samples;  ///< only those with news
  int prompt_tokens = 0;
  int cached_tokens = 0;                          ///< prompt tokens read from the prefix cache
  std::vector<PositionLogprobs> prompt_logprobs;  ///< final output only; entry i is for prompt
                                                  ///< token i + 1
  std::vector<float> embedding;                   ///< kEmbed, final output: of length one
  std::optional<Error> error;                     ///< set with kError
  RequestTimes times;
};

}  // namespace gale
