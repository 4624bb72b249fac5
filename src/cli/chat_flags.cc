#include "cli/chat_flags.h"

#include <utility>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/standard_io.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

bool HasRole(const json::array& messages, size_t index, std::string_view role) {
  if (index >= messages.size() || !messages[index].is_object()) return false;
  const json::value* value = messages[index].get_object().if_contains("role");
  return value != nullptr && value->is_string() &&
         std::string_view(value->get_string().data(), value->get_string().size()) == role;
}

}  // namespace

void AddChatFlags(CLI::App& command, ChatFlags& flags, CLI::Option* needs) {
  CLI::Option* added[] = {
      command.add_option("--system", flags.system, "System message before the others")
          ->type_name("TEXT"),
      command
          .add_option("--chat-template", flags.chat_template,
                      fmt::format("Instead of the model's own: a Jinja file, or one of {}",
                                  fmt::join(ChatTemplate::Names(), ", ")))
          ->type_name("FILE|NAME"),
      command
          .add_option("--chat-template-kwargs,--template-args", flags.kwargs,
                      "Further variables of the chat template: {\"enable_thinking\": false}")
          ->type_name("JSON"),
      command
          .add_option("--tools", flags.tools,
                      "JSON array of tools (functions with schemas) to tell the model of")
          ->type_name("FILE")};
  for (CLI::Option* option : added) {
    if (needs != nullptr) option->needs(needs);
  }
}

Result<ChatPrompter> ChatPrompter::Load(const ChatFlags& flags, const std::string& model,
                                        const ChatTemplate* own) {
  ChatPrompter prompter;
  if (!flags.chat_template.empty()) {
    auto given = ChatTemplate::FromFileOrName(flags.chat_template, model);
    if (!given) return tl::unexpected(given.error());
    prompter.template_ = *std::move(given);
  } else if (own != nullptr) {
    prompter.template_ = std::shared_ptr<const ChatTemplate>(std::shared_ptr<void>(), own);
  } else {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{} has no chat template; give one with --chat-template (a file, "
                                 "or one of {}), or complete text with gale run without --chat",
                                 model, fmt::join(ChatTemplate::Names(), ", ")));
  }
  prompter.options_.kwargs_json = flags.kwargs;
  if (!flags.tools.empty()) {
    Result<std::string> tools = ReadFile(flags.tools);
    if (!tools) return tl::unexpected(tools.error());
    prompter.options_.tools_json = *std::move(tools);
  }
  prompter.system_ = flags.system;
  return prompter;
}

Result<RenderedPrompt> ChatPrompter::Render(const json::array& messages) const {
  json::array all;
  if (!system_.empty() && !HasRole(messages, 0, "system")) {
    all.push_back({{"role", "system"}, {"content", system_}});
  }
  all.insert(all.end(), messages.begin(), messages.end());
  ChatOptions options = options_;
  options.continue_final_message = !all.empty() && HasRole(all, all.size() - 1, "assistant");
  options.add_generation_prompt = !options.continue_final_message;
  return template_->Render(json::serialize(all), options);
}

}  // namespace gale::cli
