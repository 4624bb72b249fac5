// Chat messages to one prompt, through the model's own Jinja template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gale/status.h"
#include "gale/tokenizer.h"

namespace gale {

struct RenderedPrompt {
  std::string text;
  /// Where strings of the request (messages, tools, arguments) ended up, for
  /// Tokenizer::EncodePrompt: special tokens spelled out in them stay plain text.
  std::vector<TextSpan> user_spans;
  /// What the template marks with {% generation %}: the assistant's words, for training.
  std::vector<TextSpan> assistant_spans;
};

struct ChatOptions {
  /// The prompt ends with the beginning of a reply, as templates have it.
  bool add_generation_prompt = true;
  /// The prompt ends inside of the last message, behind its content, for the model to go on with.
  /// Needs add_generation_prompt = false.
  bool continue_final_message = false;
  std::string tools_json;  ///< JSON array of tool schemas, or empty
  /// JSON object of further template variables ({"enable_thinking": false}), or empty. They go
  /// before the model's special tokens (bos_token, eos_token, ...).
  std::string kwargs_json;
};

/// A compiled chat template, rendered as apply_chat_template of transformers does: Jinja with
/// trim_blocks, lstrip_blocks, loop controls, in its sandbox. Immutable; Render may be called from
/// any thread. A template reads nothing but its inputs and the clock; depth, steps and output are
/// bounded.
class ChatTemplate {
 public:
  /// Compiles Jinja source, up to 1 MiB. Errors: kDataCorrupt naming line and column.
  static Result<std::unique_ptr<ChatTemplate>> FromSource(std::string_view source);
  /// One of Names(), written for models that come without a template; bos and eos are spelled as
  /// its format has them. Errors: kNotFound listing the names.
  static Result<std::unique_ptr<ChatTemplate>> FromName(std::string_view name);
  /// The template of a file, with the special tokens of `folder`'s tokenizer_config.json when
  /// `folder` is not empty. `file_or_name`: a path, or one of Names() when there is no such file.
  /// Errors: kNotFound listing the names; as FromSource.
  static Result<std::unique_ptr<ChatTemplate>> FromFileOrName(const std::string& file_or_name,
                                                              const std::string& folder = "");
  /// Takes chat_template.jinja, or "chat_template" in tokenizer_config.json. Errors: kNotFound
  /// when the model has none, kDataCorrupt.
  static Result<std::unique_ptr<ChatTemplate>> FromFolder(const std::string& folder);
  /// The built-in templates: "chatml", "gemma", "llama2", "llama3", "mistral", "phi3", "plain",
  /// "zephyr". They know the roles system, user and assistant, and no tools.
  static std::vector<std::string_view> Names();

  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;
  ~ChatTemplate();

  /// `messages_json`: a JSON array of {"role": "user", "content": "..."}, as the OpenAI API takes
  /// it: content may be a list of {"type": "text", "text": ...}, an assistant may have
  /// "tool_calls" and "reasoning_content". As in transformers, a member that is null counts as
  /// absent, and reasoning may be called reasoning_content, reasoning or thinking.
  /// Errors: kInvalidArgument for messages that are no such array or that the template refuses,
  /// with line and column.
  Result<RenderedPrompt> Render(std::string_view messages_json,
                                const ChatOptions& options = {}) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gale
