// Chat messages to one prompt, through the model's own Jinja template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gale/status.h"
#include "gale/tokenizer.h"

namespace gale {

/// A prompt with the stretches that came from strings of the request (messages, tools, arguments),
/// for Tokenizer::EncodePrompt: special tokens spelled out in them stay plain text.
struct RenderedPrompt {
  std::string text;
  std::vector<TextSpan> user_spans;
};

struct ChatOptions {
  bool add_generation_prompt = true;
  std::string tools_json;  ///< JSON array of tool schemas, or empty
  std::string
      kwargs_json;  ///< JSON object of further template variables (enable_thinking ...), or empty
};

/// A compiled chat template. Immutable; Render may be called from any thread.
class ChatTemplate {
 public:
  /// Compiles Jinja source; errors name line and column.
  static Result<std::unique_ptr<ChatTemplate>> FromSource(std::string_view source);
  /// Takes chat_template.jinja, or "chat_template" in tokenizer_config.json. kNotFound when the
  /// model has none.
  static Result<std::unique_ptr<ChatTemplate>> FromFolder(const std::string& folder);

  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;
  ~ChatTemplate();

  /// `messages_json`: a JSON array of {"role", "content", ...}, as the OpenAI API takes it.
  /// Errors: kInvalidArgument for messages that are no such array or that the template refuses.
  Result<RenderedPrompt> Render(std::string_view messages_json,
                                const ChatOptions& options = {}) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gale
