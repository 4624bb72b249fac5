// Chat templates: finds a model's template and renders messages through the Jinja engine.
#include <filesystem>
#include <fstream>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <simdjson.h>

#include "base/gguf.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/status_macros.h"
#include "gale/chat.h"
#include "text/builtin_templates.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/json.h"
#include "text/jinja/parser.h"
#include "text/utf8.h"

namespace gale {
namespace {

// The longest of the field have about 20 KB.
constexpr size_t kMaxTemplateBytes = 1 << 20;
constexpr size_t kMaxFileBytes = 64 << 20;
constexpr size_t kMaxJsonDepth = 100;

Error Describe(const jinja::TemplateError& error, ErrorCode code) {
  const jinja::Position at = error.position();
  if (at.line == 0) return {code, fmt::format("chat template: {}", error.what())};
  return {code,
          fmt::format("chat template, line {}, column {}: {}", at.line, at.column, error.what())};
}

Result<jinja::Body> Compile(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("chat template: has {} bytes, at most {} are read", source.size(),
                                 kMaxTemplateBytes));
  }
  if (!text::IsValidUtf8(source)) {
    return MakeError(ErrorCode::kDataCorrupt, "chat template: not valid UTF-8");
  }
  try {
    return jinja::Parse(source);
  } catch (const jinja::TemplateError& error) {
    return tl::unexpected(Describe(error, ErrorCode::kDataCorrupt));
  }
}

/// The text of a file in a model folder; nothing when there is no such file.
Result<std::optional<std::string>> ReadFile(const std::filesystem::path& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return std::optional<std::string>();
  if (size > kMaxFileBytes) {
    return MakeError(ErrorCode::kDataCorrupt, fmt::format("{}: has {} bytes, at most {} are read",
                                                          path.string(), size, kMaxFileBytes));
  }
  std::string text(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    return MakeError(ErrorCode::kNotFound, fmt::format("{}: cannot be read", path.string()));
  }
  return std::optional(std::move(text));
}

/// A special token in tokenizer_config.json: its text, or an object with the text as "content".
Result<std::string> TokenText(const JsonValue& value) {
  if (!value.is_object()) {
    GALE_ASSIGN_OR_RETURN(const std::string_view text, value.String());
    return std::string(text);
  }
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value.Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue content, object.Get("content"));
  GALE_ASSIGN_OR_RETURN(const std::string_view text, content.String());
  return std::string(text);
}

/// A JSON text of a request.
Result<simdjson::dom::element> ParseInput(simdjson::dom::parser* parser, std::string_view json,
                                          std::string_view what, simdjson::dom::element_type type) {
  const bool wants_array = type == simdjson::dom::element_type::ARRAY;
  simdjson::dom::element element;
  auto error = parser->allocate(std::max<size_t>(json.size(), 1), kMaxJsonDepth);
  if (error == simdjson::SUCCESS) error = parser->parse(json.data(), json.size()).get(element);
  if (error != simdjson::SUCCESS) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{}: not valid JSON: {}", what, simdjson::error_message(error)));
  }
  if (element.type() != type) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{}: expected a JSON {}", what, wants_array ? "array" : "object"));
  }
  return element;
}

/// The messages as transformers hands them to a template: members that are null are left out, and
/// reasoning is there under each of the names that templates know.
Result<jinja::Value> ReadMessages(jinja::Heap& heap, const simdjson::dom::element& messages) {
  static constexpr std::string_view kReasoningNames[] = {"reasoning_content", "thinking",
                                                         "reasoning"};
  std::vector<jinja::Value> items;
  for (const simdjson::dom::element message : simdjson::dom::array(messages)) {
    std::string_view role;
    if (!message.is_object() || message["role"].get(role) != simdjson::SUCCESS) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          fmt::format("messages[{}]: expected an object with a \"role\"", items.size()));
    }
    const jinja::Value given = jinja::FromJson(heap, message);
    jinja::Value reasoning;
    for (const std::string_view name : kReasoningNames) {
      const jinja::Value* value = given.AsDict().Find(name);
      if (reasoning.is_undefined() && value != nullptr && !value->is_none()) reasoning = *value;
    }
    jinja::Dict* dict = heap.NewDict();
    if (!reasoning.is_undefined()) dict->Set(jinja::Value::String("thinking"), reasoning);
    for (const auto& [key, value] : given.AsDict().entries()) {
      if (!value.is_none()) dict->Set(key, value);
    }
    if (!reasoning.is_undefined()) dict->Set(jinja::Value::String("reasoning_content"), reasoning);
    items.push_back(jinja::Value::Of(dict));
  }
  return jinja::Value::Of(heap.NewList(std::move(items)));
}

// Behind the content of the message to continue while the template runs, as transformers has it.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Marks the end of the last message's content. Returns that content.
Result<std::string> TagFinalMessage(const jinja::Value& messages) {
  const auto& items = messages.AsList().items;
  if (items.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "continue_final_message: there are no messages");
  }
  const auto tagged = [](const jinja::Value& text) {
    jinja::MarkedString result = text.AsString();
    result.Append(jinja::MarkedString::User(std::string(kContinueTag)));
    return jinja::Value::String(std::move(result));
  };
  jinja::Dict& message = items.back().AsDict();
  const jinja::Value* content = message.Find("content");
  if (content != nullptr && content->is_string()) {
    const std::string text = content->bytes();
    message.Set(jinja::Value::String("content"), tagged(*content));
    return text;
  }
  if (content != nullptr && content->is_list()) {
    const auto& parts = content->AsList().items;
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      const jinja::Value* text = part->is_dict() ? part->AsDict().Find("text") : nullptr;
      if (text == nullptr || !text->is_string()) continue;
      const std::string bytes = text->bytes();
      part->AsDict().Set(jinja::Value::String("text"), tagged(*text));
      return bytes;
    }
  }
  return MakeError(ErrorCode::kInvalidArgument,
                   "continue_final_message: the last message has no text to continue");
}

std::string_view StripSpace(std::string_view text) {
  while (!text.empty()) {
    if (!jinja::IsSpace(text::CodePointAt(text, 0))) break;
    text.remove_prefix(text::Utf8Size(text[0]));
  }
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while ((static_cast<uint8_t>(text[last]) & 0xC0) == 0x80) --last;
    if (!jinja::IsSpace(text::CodePointAt(text, last))) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

/// Cuts the prompt where the final message's content ends.
Result<jinja::MarkedString> CutAtTag(const jinja::MarkedString& prompt,
                                     const std::string& content) {
  const std::string_view bytes = prompt.bytes();
  const size_t tag = bytes.rfind(StripSpace(kContinueTag));
  if (tag == bytes.npos || bytes.find(StripSpace(content)) == bytes.npos) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "continue_final_message: the template leaves out or changes the last message, "
                     "so there is nothing to continue");
  }
  // A template that trims has cut the tag's own space, and would have cut the content's.
  const bool kept = bytes.substr(tag).starts_with(kContinueTag);
  const std::string_view before = bytes.substr(0, tag);
  const std::string_view left = StripSpace(before);
  const size_t trimmed =
      left.empty() ? 0 : static_cast<size_t>(left.data() - bytes.data()) + left.size();
  return prompt.Slice(0, kept ? tag : trimmed);
}

}  // namespace

struct ChatTemplate::Impl {
  jinja::Body body;
  std::optional<jinja::Body> tool_body;  ///< used instead when tools are given
  std::vector<std::pair<std::string, std::string>> special_tokens;  ///< "bos_token" -> "<s>"

  /// Reads the files of a model folder: its special tokens, and its template unless there is one.
  Status ReadFolder(const std::string& folder, bool has_template);
  /// As ReadFolder, for a GGUF file.
  Status ReadGguf(const std::string& path, bool has_template);
  /// Reads "chat_template": a source, or a list of {name, template}.
  Status ReadTemplates(const JsonValue& value);
  Status ReadSpecialTokens(const JsonObject& config);
};

Status ChatTemplate::Impl::ReadTemplates(const JsonValue& value) {
  if (!value.is_array()) {
    GALE_ASSIGN_OR_RETURN(const std::string_view source, value.String());
    GALE_ASSIGN_OR_RETURN(body, Compile(source));
    return {};
  }
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, value.Items());
  bool has_default = false;
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(const JsonObject entry, item.Object());
    GALE_ASSIGN_OR_RETURN(const JsonValue name_value, entry.Get("name"));
    GALE_ASSIGN_OR_RETURN(const std::string_view name, name_value.String());
    if (name != "default" && name != "tool_use") continue;
    GALE_ASSIGN_OR_RETURN(const JsonValue source_value, entry.Get("template"));
    GALE_ASSIGN_OR_RETURN(const std::string_view source, source_value.String());
    GALE_ASSIGN_OR_RETURN(jinja::Body compiled, Compile(source));
    if (name == "default") {
      body = std::move(compiled);
      has_default = true;
    } else {
      tool_body = std::move(compiled);
    }
  }
  if (!has_default) return tl::unexpected(value.Wrong("a template named \"default\""));
  return {};
}

Status ChatTemplate::Impl::ReadSpecialTokens(const JsonObject& config) {
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    if (const auto value = config.Find(name)) {
      GALE_ASSIGN_OR_RETURN(std::string text, TokenText(*value));
      special_tokens.emplace_back(name, std::move(text));
    }
  }
  return {};
}

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::FromSource(std::string_view source) {
  auto impl = std::make_unique<Impl>();
  GALE_ASSIGN_OR_RETURN(impl->body, Compile(source));
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(impl)));
}

std::vector<std::string_view> ChatTemplate::Names() {
  std::vector<std::string_view> names;
  for (const BuiltinTemplate& builtin : BuiltinTemplates()) names.push_back(builtin.name);
  return names;
}

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::FromName(std::string_view name) {
  for (const BuiltinTemplate& builtin : BuiltinTemplates()) {
    if (builtin.name == name) return FromSource(builtin.source);
  }
  return MakeError(ErrorCode::kNotFound,
                   fmt::format("there is no built-in chat template \"{}\"; there are {}", name,
                               fmt::join(Names(), ", ")));
}

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::FromFileOrName(const std::string& file_or_name,
                                                                   const std::string& folder) {
  GALE_ASSIGN_OR_RETURN(const auto source, ReadFile(file_or_name));
  auto chat = source ? FromSource(*source) : FromName(file_or_name);
  if (!chat && source) {
    return MakeError(chat.error().code, fmt::format("{}: {}", file_or_name, chat.error().message));
  }
  if (!chat) {
    return MakeError(ErrorCode::kNotFound,
                     fmt::format("{}: no such file, and no built-in chat template; these are {}",
                                 file_or_name, fmt::join(Names(), ", ")));
  }
  if (!folder.empty()) {
    GALE_RETURN_IF_ERROR((*chat)->impl_->ReadFolder(folder, /*has_template=*/true));
  }
  return chat;
}

Status ChatTemplate::Impl::ReadGguf(const std::string& path, bool has_template) {
  GALE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  GALE_ASSIGN_OR_RETURN(const Gguf gguf, Gguf::Parse(file.bytes(), path));
  constexpr std::string_view kTemplate = "tokenizer.chat_template";
  if (!has_template && !gguf.Has(kTemplate)) {
    return MakeError(ErrorCode::kNotFound,
                     fmt::format("{}: the model has no chat template ({})", path, kTemplate));
  }
  if (!has_template) {
    GALE_ASSIGN_OR_RETURN(const std::string_view source, gguf.String(kTemplate));
    GALE_ASSIGN_OR_RETURN(body, Compile(source));
  }
  constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
  if (!gguf.Has(kTokens)) return {};
  GALE_ASSIGN_OR_RETURN(const auto tokens, gguf.Strings(kTokens));
  for (const auto& [name, key] : {std::pair("bos_token", "tokenizer.ggml.bos_token_id"),
                                  std::pair("eos_token", "tokenizer.ggml.eos_token_id"),
                                  std::pair("unk_token", "tokenizer.ggml.unknown_token_id"),
                                  std::pair("pad_token", "tokenizer.ggml.padding_token_id")}) {
    if (!gguf.Has(key)) continue;
    GALE_ASSIGN_OR_RETURN(const int64_t id,
                          gguf.Int(key, 0, static_cast<int64_t>(tokens.size()) - 1));
    special_tokens.emplace_back(name, tokens[static_cast<size_t>(id)]);
  }
  return {};
}

Status ChatTemplate::Impl::ReadFolder(const std::string& folder, bool has_template) {
  const std::filesystem::path path(folder);
  if (folder.ends_with(".gguf") && std::filesystem::is_regular_file(path)) {
    return ReadGguf(folder, has_template);
  }
  if (!has_template) {
    GALE_ASSIGN_OR_RETURN(const auto source, ReadFile(path / "chat_template.jinja"));
    if (source) {
      GALE_ASSIGN_OR_RETURN(body, Compile(*source));
      has_template = true;
    }
  }
  GALE_ASSIGN_OR_RETURN(const auto config_text, ReadFile(path / "tokenizer_config.json"));
  if (config_text) {
    GALE_ASSIGN_OR_RETURN(const JsonDocument document,
                          JsonDocument::Parse(*config_text, "tokenizer_config.json"));
    GALE_ASSIGN_OR_RETURN(const JsonObject config, document.root().Object());
    GALE_RETURN_IF_ERROR(ReadSpecialTokens(config));
    const auto value = config.Find("chat_template");
    if (value && !has_template) {
      GALE_RETURN_IF_ERROR(ReadTemplates(*value));
      has_template = true;
    }
  }
  if (has_template) return {};
  return MakeError(
      ErrorCode::kNotFound,
      fmt::format("{}: the model has no chat template (neither chat_template.jinja nor "
                  "\"chat_template\" in tokenizer_config.json)",
                  folder));
}

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::FromFolder(const std::string& folder) {
  auto impl = std::make_unique<Impl>();
  GALE_RETURN_IF_ERROR(impl->ReadFolder(folder, /*has_template=*/false));
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(impl)));
}

Result<RenderedPrompt> ChatTemplate::Render(std::string_view messages_json,
                                            const ChatOptions& options) const {
  using Type = simdjson::dom::element_type;
  if (options.continue_final_message && options.add_generation_prompt) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "continue_final_message goes on with the last message, so it cannot go with "
                     "add_generation_prompt, which begins a new one");
  }
  simdjson::dom::parser parser;
  jinja::Interpreter interpreter{jinja::Limits()};
  jinja::Scope& globals = interpreter.globals();
  const auto set = [&](std::string_view name, const simdjson::dom::element& element) {
    globals.Set(name, jinja::FromJson(interpreter.heap(), element));
  };
  try {
    jinja::AddGlobalFunctions(interpreter);
    for (const auto& [name, text] : impl_->special_tokens) {
      globals.Set(name, jinja::Value::String(text));
    }
    globals.Set("add_generation_prompt", jinja::Value::Bool(options.add_generation_prompt));
    // As transformers does, `tools` and `documents` are none when there are not any.
    globals.Set("tools", jinja::Value::None());
    globals.Set("documents", jinja::Value::None());

    GALE_ASSIGN_OR_RETURN(const auto messages,
                          ParseInput(&parser, messages_json, "messages", Type::ARRAY));
    GALE_ASSIGN_OR_RETURN(const jinja::Value chat, ReadMessages(interpreter.heap(), messages));
    std::string final_content;
    if (options.continue_final_message) {
      GALE_ASSIGN_OR_RETURN(final_content, TagFinalMessage(chat));
    }
    globals.Set("messages", chat);
    const jinja::Body* body = &impl_->body;
    if (!options.tools_json.empty()) {
      GALE_ASSIGN_OR_RETURN(const auto tools,
                            ParseInput(&parser, options.tools_json, "tools", Type::ARRAY));
      set("tools", tools);
      if (impl_->tool_body) body = &*impl_->tool_body;
    }
    if (!options.kwargs_json.empty()) {
      GALE_ASSIGN_OR_RETURN(const auto kwargs, ParseInput(&parser, options.kwargs_json,
                                                          "chat template arguments", Type::OBJECT));
      for (const auto [name, value] : simdjson::dom::object(kwargs)) set(name, value);
    }
    jinja::MarkedString prompt = interpreter.Render(*body);
    if (options.continue_final_message) {
      GALE_ASSIGN_OR_RETURN(prompt, CutAtTag(prompt, final_content));
    }
    std::vector<TextSpan> generations;
    for (const TextSpan& span : interpreter.generations()) {
      const TextSpan inside{span.begin, std::min(span.end, prompt.size())};
      if (inside.begin < inside.end) generations.push_back(inside);
    }
    return RenderedPrompt{prompt.bytes(), prompt.marks(), std::move(generations)};
  } catch (const jinja::TemplateError& error) {
    return tl::unexpected(Describe(error, ErrorCode::kInvalidArgument));
  }
}

}  // namespace gale
