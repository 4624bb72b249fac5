// The bodies of OpenAI's generation endpoints, read into what the engine takes. Layer L6; stop 1 of
// the request path. Unknown fields are ignored; what this server cannot do is an error, not
// ignored.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <boost/json/object.hpp>

#include "gale/chat.h"
#include "gale/request.h"
#include "server/api_error.h"

namespace gale::server {

using TextOrTokens = std::variant<std::string, std::vector<TokenId>>;

/// What /v1/chat/completions and /v1/completions come down to.
struct GenerationRequest {
  std::string model;  ///< "" when the body names none
  SamplingParams sampling;
  bool max_tokens_given = false;  ///< else up to the end of the context
  std::optional<int> logprobs;    ///< alternatives per token, when logprobs are asked for
  bool stream = false;
  bool include_usage = false;           ///< of a stream
  bool continuous_usage_stats = false;  ///< in every chunk of it
  bool echo = false;
  bool return_token_ids = false;
  bool add_special_tokens = true;
  int priority = 0;
  std::string cache_salt;
  float timeout_s = 0;  ///< 0: none

  bool is_chat = false;
  std::string messages_json;  ///< of a chat: ready for ChatTemplate::Render
  ChatOptions chat;
  std::vector<TextOrTokens> prompts;  ///< of a completion
};

/// `defaults` are the model's own sampling parameters, for fields that the body leaves out.
ApiResult<GenerationRequest> ParseChatRequest(const boost::json::object& body,
                                              const SamplingParams& defaults);
ApiResult<GenerationRequest> ParseCompletionRequest(const boost::json::object& body,
                                                    const SamplingParams& defaults);

/// What /v1/embeddings comes down to.
struct EmbeddingRequest {
  std::string model;
  std::vector<TextOrTokens> inputs;
  bool add_special_tokens = true;
  bool is_base64 = false;
  int dimensions = 0;  ///< 0: as many as the model has
  int priority = 0;
  std::string cache_salt;
  float timeout_s = 0;
};
/// `hidden_size`: the dimensions that there are.
ApiResult<EmbeddingRequest> ParseEmbeddingRequest(const boost::json::object& body, int hidden_size);

/// The messages and template options of a body that has them, as chat requests and /tokenize do.
ApiResult<std::string> ParseMessages(const boost::json::object& body);
ApiResult<ChatOptions> ParseChatOptions(const boost::json::object& body);
/// The field `name`: a text, token ids, or an array of one of them.
ApiResult<std::vector<TextOrTokens>> ParseInputs(const boost::json::object& body,
                                                 std::string_view name);

}  // namespace gale::server
