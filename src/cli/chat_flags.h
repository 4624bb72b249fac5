// The flags on how messages become a prompt, for every command that takes some.
#pragma once

#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <boost/json/array.hpp>

#include "gale/chat.h"

namespace gale::cli {

struct ChatFlags {
  std::string system;
  std::string chat_template;  ///< a file or a built-in name; empty: the model's own
  std::string kwargs;
  std::string tools;  ///< a file
};

/// --system, --chat-template, --chat-template-kwargs and --tools. With `needs`, they are errors
/// without that option.
void AddChatFlags(CLI::App& command, ChatFlags& flags, CLI::Option* needs = nullptr);

/// A template with what the flags say about its use.
class ChatPrompter {
 public:
  /// `own` is the model's template, or null; it must outlive the result. Errors: kUnsupported
  /// without any template; what is wrong with the files of the flags.
  static Result<ChatPrompter> Load(const ChatFlags& flags, const std::string& model,
                                   const ChatTemplate* own);
  /// The messages, behind the system message of the flags unless they begin with one. A last
  /// message of the assistant is left open for the model to continue.
  Result<RenderedPrompt> Render(const boost::json::array& messages) const;

  /// Replaces the system message; empty for none.
  void SetSystem(std::string text) { system_ = std::move(text); }

 private:
  std::shared_ptr<const ChatTemplate> template_;
  ChatOptions options_;
  std::string system_;
};

}  // namespace gale::cli
