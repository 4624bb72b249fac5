// Chat templates: finds a model's template and renders messages through the Jinja engine.
#include <filesystem>
#include <fstream>
#include <utility>

#include <fmt/format.h>
#include <simdjson.h>

#include "base/json.h"
#include "base/status_macros.h"
#include "gale/chat.h"
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

Status CheckMessages(const simdjson::dom::element& messages) {
  size_t index = 0;
  for (const simdjson::dom::element message : simdjson::dom::array(messages)) {
    std::string_view role;
    if (!message.is_object() || message["role"].get(role) != simdjson::SUCCESS) {
      return MakeError(ErrorCode::kInvalidArgument,
                       fmt::format("messages[{}]: expected an object with a \"role\"", index));
    }
    ++index;
  }
  return {};
}

}  // namespace

struct ChatTemplate::Impl {
  jinja::Body body;
  std::optional<jinja::Body> tool_body;  ///< used instead when tools are given
  std::vector<std::pair<std::string, std::string>> special_tokens;  ///< "bos_token" -> "<s>"

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

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::FromFolder(const std::string& folder) {
  const std::filesystem::path path(folder);
  auto impl = std::make_unique<Impl>();
  GALE_ASSIGN_OR_RETURN(const auto source, ReadFile(path / "chat_template.jinja"));
  GALE_ASSIGN_OR_RETURN(const auto config_text, ReadFile(path / "tokenizer_config.json"));
  bool found = source.has_value();
  if (source) {
    GALE_ASSIGN_OR_RETURN(impl->body, Compile(*source));
  }
  if (config_text) {
    GALE_ASSIGN_OR_RETURN(const JsonDocument document,
                          JsonDocument::Parse(*config_text, "tokenizer_config.json"));
    GALE_ASSIGN_OR_RETURN(const JsonObject config, document.root().Object());
    GALE_RETURN_IF_ERROR(impl->ReadSpecialTokens(config));
    const auto value = config.Find("chat_template");
    if (value && !found) {
      GALE_RETURN_IF_ERROR(impl->ReadTemplates(*value));
      found = true;
    }
  }
  if (!found) {
    return MakeError(
        ErrorCode::kNotFound,
        fmt::format("{}: the model has no chat template (neither chat_template.jinja nor "
                    "\"chat_template\" in tokenizer_config.json)",
                    folder));
  }
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(impl)));
}

Result<RenderedPrompt> ChatTemplate::Render(std::string_view messages_json,
                                            const ChatOptions& options) const {
  using Type = simdjson::dom::element_type;
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
    GALE_RETURN_IF_ERROR(CheckMessages(messages));
    set("messages", messages);
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
    const jinja::MarkedString prompt = interpreter.Render(*body);
    return RenderedPrompt{prompt.bytes(), prompt.marks()};
  } catch (const jinja::TemplateError& error) {
    return tl::unexpected(Describe(error, ErrorCode::kInvalidArgument));
  }
}

}  // namespace gale
