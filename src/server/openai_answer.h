// What OpenAI's generation endpoints answer, whole or as the chunks of a stream. Layer L6.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "gale/request.h"
#include "gale/tokenizer.h"

namespace gale::server {

/// What all objects of one answer have in common.
struct AnswerHead {
  std::string id;  ///< "chatcmpl-..." or "cmpl-..."
  int64_t created = 0;
  std::string model;        ///< as requested
  std::string fingerprint;  ///< of the program that answers
  bool is_chat = false;
};

struct Usage {
  int prompt_tokens = 0;
  int cached_tokens = 0;
  int completion_tokens = 0;
};
boost::json::object UsageJson(const Usage& usage);

/// News of one choice.
struct ChoiceDelta {
  int index = 0;
  std::string_view text = {};
  std::string_view logprobs = {};  ///< JSON, or "" for null
  std::string_view more = {};      ///< further members of the choice: ",\"key\":value", or ""
};

/// The events of a stream. Everything that does not change is put together once.
class ChunkWriter {
 public:
  enum class UsageIn { kNoChunk, kLastChunk, kEveryChunk };
  ChunkWriter(const AnswerHead& head, UsageIn usage_in);

  /// A chat's first chunk of a choice, the only one with the role.
  void Role(int index, const Usage& usage, std::string& out) const;
  void Delta(const ChoiceDelta& delta, const Usage& usage, std::string& out) const;
  void Finish(int index, FinishReason reason, const Usage& usage, std::string& out) const;
  /// The chunk without choices that tells the usage; nothing for kNoChunk.
  void Total(const Usage& usage, std::string& out) const;

 private:
  void End(const Usage& usage, std::string& out) const;

  bool is_chat_;
  UsageIn usage_in_;
  std::string prefix_;  ///< up to the value of "choices"
};

/// A token's text for readers: what it adds to a text, U+FFFD for parts of characters.
std::string TokenText(const Tokenizer& tokenizer, TokenId token);

/// Log probabilities in the form of /v1/chat/completions: the entries of "content".
boost::json::array ChatLogprobs(const Tokenizer& tokenizer,
                                std::span<const PositionLogprobs> positions);

/// The same in the form of /v1/completions, gathered over a text.
class CompletionLogprobs {
 public:
  /// A token without a log probability, as the first one of a prompt.
  void AddBare(const Tokenizer& tokenizer, TokenId token);
  void Add(const Tokenizer& tokenizer, const PositionLogprobs& position);
  /// What was added to `behind`, whose text begins where this one's ends.
  void Append(const CompletionLogprobs& behind);
  /// What was added since the last call; offsets go on.
  boost::json::object Take();

 private:
  void AddToken(const std::string& text);

  boost::json::array tokens_, token_logprobs_, top_logprobs_, text_offset_;
  int64_t offset_ = 0;  ///< in characters
};

/// One choice of a whole answer.
struct Choice {
  std::string text;
  boost::json::value logprobs;   ///< as the endpoint has them, or null
  boost::json::value token_ids;  ///< an array, or null
  FinishReason finish_reason = FinishReason::kNone;
};
std::string WholeAnswer(const AnswerHead& head, const std::vector<Choice>& choices,
                        const Usage& usage);

}  // namespace gale::server
