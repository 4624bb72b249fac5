#include "server/openai_protocol.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "server/body_reader.h"

namespace gale::server {
namespace {

namespace json = boost::json;

constexpr int kMaxTopLogprobs = 20;           ///< of chat; OpenAI's bound
constexpr int kMaxCompletionLogprobs = 20;    ///< OpenAI's is 5, other servers' clients use more
constexpr int kMaxChoices = 1024;             ///< of one request, over all its prompts
constexpr size_t kMaxInputs = 2048;           ///< to be embedded; OpenAI's bound
constexpr int kDefaultCompletionTokens = 16;  ///< as OpenAI's API has it

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }

/// Whether `value` asks for nothing.
bool IsEmpty(const json::value& value) {
  if (const json::array* array = value.if_array()) return array->empty();
  if (const json::object* object = value.if_object()) return object->empty();
  if (const json::string* text = value.if_string()) return text->empty();
  return value.is_bool() && !value.get_bool();
}

/// Fields whose effect this server lacks: an answer without it would be wrong in silence.
void RefuseUnsupported(BodyReader& body) {
  static constexpr const char* kFields[] = {
      "suffix",         "structured_outputs",    "guided_json",     "guided_regex", "guided_choice",
      "guided_grammar", "thinking_token_budget", "prompt_logprobs", "audio"};
  for (const char* name : kFields) {
    const json::value* value = body.Find(name);
    if (value != nullptr && !IsEmpty(*value)) {
      body.Fail(Unsupported(name, fmt::format("{} is not supported by this server", name)));
    }
  }
}

void ReadStreaming(BodyReader& body, GenerationRequest& request) {
  body.Read("stream", request.stream);
  const json::object* options = body.Object("stream_options");
  if (options == nullptr) return;
  if (!request.stream) {
    return body.Fail(InvalidField("stream_options", "stream_options needs \"stream\": true"));
  }
  BodyReader reader(*options);
  reader.Read("include_usage", request.include_usage);
  reader.Read("continuous_usage_stats", request.continuous_usage_stats);
  if (reader.error()) body.Fail(*reader.error());
}

/// An object of token ids, as JSON spells keys, and what is added to their logits.
void ReadLogitBias(BodyReader& body, std::vector<LogitBias>& out) {
  const json::object* biases = body.Object("logit_bias");
  if (biases == nullptr) return;
  for (const auto& [key, value] : *biases) {
    LogitBias bias;
    const std::string_view id(key.data(), key.size());
    const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), bias.token);
    if (error != std::errc() || end != id.data() + id.size() || !value.is_number()) {
      return body.Fail(InvalidField(
          "logit_bias",
          "logit_bias: expected an object of token ids and numbers, {\"50256\": -100}"));
    }
    bias.bias = static_cast<float>(value.to_number<double>());
    out.push_back(bias);
  }
}

/// vLLM's way to ask for beam search: as many beams as samples are looked at.
void ReadBeams(BodyReader& body, SamplingParams& sampling) {
  bool use_beam_search = false;
  body.Read("use_beam_search", use_beam_search);
  body.Read("length_penalty", sampling.length_penalty);
  if (const json::value* early = body.Find("early_stopping")) {
    const bool never = early->is_string() && View(early->get_string()) == "never";
    bool at_once = false;
    if (!never) body.Read("early_stopping", at_once);
    sampling.early_stopping = never     ? EarlyStopping::kNever
                              : at_once ? EarlyStopping::kYes
                                        : EarlyStopping::kNo;
  }
  if (!use_beam_search) return;
  sampling.num_beams = sampling.best_of.value_or(sampling.n);
  sampling.best_of.reset();
}

/// "off" for this request, or what the server speculates with.
void ReadSpeculative(BodyReader& body, Speculation& speculative) {
  std::optional<std::string> name;
  body.Read("speculative", name);
  if (!name) return;
  const Result<Speculation> method = ParseSpeculation(*name);
  if (!method) return body.Fail(InvalidField("speculative", method.error().message));
  speculative = *method;
}

/// What the engine checks, ranges above all, is left to it.
void ReadSampling(BodyReader& body, SamplingParams& sampling) {
  body.Read("temperature", sampling.temperature);
  body.Read("top_p", sampling.top_p);
  body.Read("top_k", sampling.top_k);
  if (sampling.top_k == -1) sampling.top_k = 0;  // vLLM's way to say "off"
  body.Read("min_p", sampling.min_p);
  body.Read("typical_p", sampling.typical_p);
  body.Read("top_n_sigma", sampling.top_n_sigma);
  body.Read("xtc_probability", sampling.xtc_probability);
  body.Read("xtc_threshold", sampling.xtc_threshold);
  body.Read("mirostat", sampling.mirostat);
  body.Read("mirostat_tau", sampling.mirostat_tau);
  body.Read("mirostat_eta", sampling.mirostat_eta);
  body.Read("seed", sampling.seed);
  body.Read("repetition_penalty", sampling.repetition_penalty);
  body.Read("presence_penalty", sampling.presence_penalty);
  body.Read("frequency_penalty", sampling.frequency_penalty);
  body.Read("dry_multiplier", sampling.dry_multiplier);
  body.Read("dry_base", sampling.dry_base);
  body.Read("dry_allowed_length", sampling.dry_allowed_length);
  body.ReadStrings("dry_sequence_breakers", sampling.dry_breakers);
  ReadLogitBias(body, sampling.logit_bias);
  body.Read("allowed_token_ids", sampling.allowed_token_ids);
  body.ReadStrings("bad_words", sampling.bad_words);
  body.Read("min_tokens", sampling.min_tokens);
  body.Read("n", sampling.n, 1, kMaxChoices);
  body.Read("best_of", sampling.best_of);
  ReadBeams(body, sampling);
  body.Read("ignore_eos", sampling.ignore_eos);
  body.ReadStrings("stop", sampling.stop);
  body.Read("stop_token_ids", sampling.stop_token_ids);
  body.Read("include_stop_str_in_output", sampling.include_stop);
  ReadSpeculative(body, sampling.speculative);
}

/// Seconds after which nobody wants the answer any more.
void ReadTimeout(BodyReader& body, float& timeout_s) {
  body.Read("timeout", timeout_s);
  if (timeout_s < 0) body.Fail(InvalidField("timeout", "timeout: expected seconds, 0 or more"));
}

/// The fields that both endpoints have.
void ReadCommon(BodyReader& body, GenerationRequest& request) {
  RefuseUnsupported(body);
  ReadSampling(body, request.sampling);
  body.Read("model", request.model);
  body.Read("priority", request.priority);
  body.Read("cache_salt", request.cache_salt);
  ReadTimeout(body, request.timeout_s);
  body.Read("return_token_ids", request.return_token_ids);
  bool skips_special = true;
  body.Read("skip_special_tokens", skips_special);
  if (!skips_special) {
    body.Fail(Unsupported("skip_special_tokens",
                          "skip_special_tokens: special tokens are never part of the text; ask "
                          "for return_token_ids"));
  }
  ReadStreaming(body, request);
}

void ReadMaxTokens(BodyReader& body, std::initializer_list<const char*> names, int min,
                   GenerationRequest& request) {
  for (const char* name : names) {
    if (body.Find(name) == nullptr) continue;
    body.Read(name, request.sampling.max_tokens, min, std::numeric_limits<int>::max());
    request.max_tokens_given = true;
    return;
  }
}

/// Generation along a grammar and calls of tools are decided here; the engine has no part in them
/// yet, so that asking for either is an error.
void RefuseGuidedChat(BodyReader& body) {
  if (const json::object* format = body.Object("response_format")) {
    const json::value* type = format->if_contains("type");
    if (type == nullptr || !type->is_string() || View(type->get_string()) != "text") {
      body.Fail(Unsupported("response_format",
                            "response_format: only {\"type\": \"text\"} is supported"));
    }
  }
  const json::value* choice = body.Find("tool_choice");
  const bool is_none =
      choice != nullptr && choice->is_string() && View(choice->get_string()) == "none";
  for (const char* name : {"tools", "functions"}) {
    const json::array* tools = body.Array(name);
    if (tools != nullptr && !tools->empty() && !is_none) {
      body.Fail(Unsupported(name, fmt::format("{}: calls of tools are not supported by this "
                                              "server; leave {} out or set tool_choice to "
                                              "\"none\"",
                                              name, name)));
    }
  }
}

/// The text of a message whose content is a list of parts.
ApiResult<std::string> JoinParts(const json::array& parts, size_t message) {
  std::string text;
  for (const json::value& part : parts) {
    const json::object* object = part.if_object();
    const json::value* type = object != nullptr ? object->if_contains("type") : nullptr;
    const std::string_view name =
        type != nullptr && type->is_string() ? View(type->get_string()) : "";
    const char* key = name == "refusal" ? "refusal" : "text";
    const bool is_text =
        name == "text" || name == "input_text" || name == "output_text" || name == "refusal";
    const json::value* content = is_text ? object->if_contains(key) : nullptr;
    if (name.empty() || (is_text && (content == nullptr || !content->is_string()))) {
      return tl::unexpected(
          InvalidField(fmt::format("messages[{}].content", message),
                       fmt::format("messages[{}].content: each part must be an object such as "
                                   "{{\"type\": \"text\", \"text\": \"...\"}}",
                                   message)));
    }
    if (!is_text) {
      return tl::unexpected(Unsupported(
          fmt::format("messages[{}].content", message),
          fmt::format("messages[{}].content: a part of type \"{}\"; this model takes text only",
                      message, name)));
    }
    if (!text.empty()) text += '\n';
    text += View(content->get_string());
  }
  return text;
}

/// A call's arguments are a string of JSON in the API, and templates want the object.
void UnwrapToolArguments(json::object& message) {
  json::value* calls = message.if_contains("tool_calls");
  if (calls == nullptr || !calls->is_array()) return;
  for (json::value& call : calls->get_array()) {
    json::object* object = call.if_object();
    json::value* function = object != nullptr ? object->if_contains("function") : nullptr;
    if (function == nullptr || !function->is_object()) continue;
    json::value* arguments = function->get_object().if_contains("arguments");
    if (arguments == nullptr || !arguments->is_string()) continue;
    boost::system::error_code error;
    json::value parsed = json::parse(arguments->get_string(), error);
    if (!error && parsed.is_object()) *arguments = std::move(parsed);
  }
}

/// Checks one message and brings it into the form that templates know.
std::optional<ApiError> NormalizeMessage(json::value& message, size_t index) {
  const std::string where = fmt::format("messages[{}]", index);
  json::object* object = message.if_object();
  json::value* role = object != nullptr ? object->if_contains("role") : nullptr;
  static constexpr std::array<std::string_view, 6> kRoles = {"system",    "developer", "user",
                                                             "assistant", "tool",      "function"};
  if (role == nullptr || !role->is_string() ||
      std::ranges::find(kRoles, View(role->get_string())) == kRoles.end()) {
    return InvalidField(where + ".role", where +
                                             ".role: expected one of system, developer, user, "
                                             "assistant, tool, function");
  }
  if (View(role->get_string()) == "developer") *role = "system";
  json::value* content = object->if_contains("content");
  if (content == nullptr || content->is_null()) {
    if (View(role->get_string()) != "assistant") {
      return InvalidField(where + ".content", where + ".content: expected a string or parts");
    }
  } else if (const json::array* parts = content->if_array()) {
    ApiResult<std::string> text = JoinParts(*parts, index);
    if (!text) return std::move(text).error();
    *content = *text;
  } else if (!content->is_string()) {
    return InvalidField(where + ".content", where + ".content: expected a string or parts");
  }
  UnwrapToolArguments(*object);
  return std::nullopt;
}

}  // namespace

ApiResult<std::string> ParseMessages(const json::object& body) {
  BodyReader reader(body);
  const json::array* given = reader.Array("messages");
  if (reader.error()) return tl::unexpected(*reader.error());
  if (given == nullptr || given->empty()) {
    return tl::unexpected(
        InvalidField("messages", "messages: expected an array of at least one message"));
  }
  json::array messages = *given;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (std::optional<ApiError> error = NormalizeMessage(messages[i], i)) {
      return tl::unexpected(*std::move(error));
    }
  }
  return json::serialize(messages);
}

ApiResult<ChatOptions> ParseChatOptions(const json::object& body) {
  BodyReader reader(body);
  ChatOptions options;
  reader.Read("continue_final_message", options.continue_final_message);
  options.add_generation_prompt = !options.continue_final_message;
  reader.Read("add_generation_prompt", options.add_generation_prompt);
  if (options.continue_final_message && options.add_generation_prompt) {
    reader.Fail(InvalidField("continue_final_message",
                             "continue_final_message needs \"add_generation_prompt\": false"));
  }
  if (reader.Find("chat_template") != nullptr) {
    reader.Fail(Unsupported("chat_template", "chat_template: the server's template is used"));
  }
  json::object variables;
  if (const json::object* given = reader.Object("chat_template_kwargs")) variables = *given;
  if (const json::array* documents = reader.Array("documents")) variables["documents"] = *documents;
  if (!variables.empty()) options.kwargs_json = json::serialize(variables);
  if (reader.error()) return tl::unexpected(*reader.error());
  return options;
}

ApiResult<std::vector<TextOrTokens>> ParseInputs(const json::object& body, std::string_view name) {
  const auto wrong = [name] {
    return tl::unexpected(InvalidField(
        std::string(name),
        fmt::format("{}: expected a string, an array of token ids, or an array of either", name)));
  };
  const json::value* value = body.if_contains(name);
  if (value == nullptr) return wrong();
  if (value->is_string()) return std::vector<TextOrTokens>{std::string(value->get_string())};
  if (!value->is_array() || value->get_array().empty()) return wrong();
  const json::array& items = value->get_array();

  const auto read_tokens = [&wrong](const json::array& ids) -> ApiResult<std::vector<TokenId>> {
    std::vector<TokenId> tokens;
    for (const json::value& id : ids) {
      if (!id.is_int64() || id.get_int64() < 0 ||
          id.get_int64() > std::numeric_limits<TokenId>::max()) {
        return wrong();
      }
      tokens.push_back(static_cast<TokenId>(id.get_int64()));
    }
    return tokens;
  };
  std::vector<TextOrTokens> inputs;
  if (items[0].is_number()) {
    ApiResult<std::vector<TokenId>> tokens = read_tokens(items);
    if (!tokens) return tl::unexpected(tokens.error());
    inputs.emplace_back(*std::move(tokens));
    return inputs;
  }
  for (const json::value& item : items) {
    if (item.is_string()) {
      inputs.emplace_back(std::string(item.get_string()));
    } else if (item.is_array()) {
      ApiResult<std::vector<TokenId>> tokens = read_tokens(item.get_array());
      if (!tokens) return tl::unexpected(tokens.error());
      inputs.emplace_back(*std::move(tokens));
    } else {
      return wrong();
    }
  }
  return inputs;
}

ApiResult<GenerationRequest> ParseChatRequest(const json::object& body,
                                              const SamplingParams& defaults) {
  GenerationRequest request;
  request.is_chat = true;
  request.sampling = defaults;
  BodyReader reader(body);
  ReadCommon(reader, request);
  RefuseGuidedChat(reader);
  ReadMaxTokens(reader, {"max_completion_tokens", "max_tokens"}, 1, request);
  bool logprobs = false;
  reader.Read("logprobs", logprobs);
  int top_logprobs = 0;
  reader.Read("top_logprobs", top_logprobs, 0, kMaxTopLogprobs);
  if (top_logprobs > 0 && !logprobs) {
    reader.Fail(InvalidField("top_logprobs", "top_logprobs needs \"logprobs\": true"));
  }
  if (logprobs) request.logprobs = request.sampling.logprobs = top_logprobs;
  if (reader.error()) return tl::unexpected(*reader.error());

  ApiResult<std::string> messages = ParseMessages(body);
  if (!messages) return tl::unexpected(messages.error());
  request.messages_json = *std::move(messages);
  ApiResult<ChatOptions> options = ParseChatOptions(body);
  if (!options) return tl::unexpected(options.error());
  request.chat = *std::move(options);
  return request;
}

ApiResult<GenerationRequest> ParseCompletionRequest(const json::object& body,
                                                    const SamplingParams& defaults) {
  GenerationRequest request;
  request.sampling = defaults;
  request.sampling.max_tokens = kDefaultCompletionTokens;
  BodyReader reader(body);
  ReadCommon(reader, request);
  ReadMaxTokens(reader, {"max_tokens"}, 0, request);
  reader.Read("echo", request.echo);
  reader.Read("add_special_tokens", request.add_special_tokens);
  if (reader.Find("logprobs") != nullptr) {
    reader.Read("logprobs", request.logprobs.emplace(), 0, kMaxCompletionLogprobs);
    request.sampling.logprobs = request.logprobs;
    if (request.echo) request.sampling.prompt_logprobs = request.logprobs;
    if (request.echo && request.stream) {
      reader.Fail(Unsupported("logprobs",
                              "logprobs with echo needs \"stream\": false: those of "
                              "the prompt are known at the end"));
    }
  }
  if (reader.error()) return tl::unexpected(*reader.error());
  ApiResult<std::vector<TextOrTokens>> prompts = ParseInputs(body, "prompt");
  if (!prompts) return tl::unexpected(prompts.error());
  request.prompts = *std::move(prompts);
  const size_t choices = request.prompts.size() * static_cast<size_t>(request.sampling.n);
  if (choices > kMaxChoices) {
    return tl::unexpected(InvalidField(
        "prompt", fmt::format("prompt: {} prompts with n = {} are {} choices; at most {} are "
                              "answered at once",
                              request.prompts.size(), request.sampling.n, choices, kMaxChoices)));
  }
  return request;
}

ApiResult<EmbeddingRequest> ParseEmbeddingRequest(const json::object& body, int hidden_size) {
  EmbeddingRequest request;
  BodyReader reader(body);
  std::string encoding = "float";
  reader.Read("model", request.model);
  reader.Read("encoding_format", encoding);
  reader.Read("dimensions", request.dimensions, 1, hidden_size);
  reader.Read("add_special_tokens", request.add_special_tokens);
  reader.Read("priority", request.priority);
  reader.Read("cache_salt", request.cache_salt);
  ReadTimeout(reader, request.timeout_s);
  request.is_base64 = encoding == "base64";
  if (!request.is_base64 && encoding != "float") {
    reader.Fail(InvalidField(
        "encoding_format",
        fmt::format("encoding_format: expected \"float\" or \"base64\", got \"{}\"", encoding)));
  }
  if (reader.error()) return tl::unexpected(*reader.error());
  ApiResult<std::vector<TextOrTokens>> inputs = ParseInputs(body, "input");
  if (!inputs) return tl::unexpected(inputs.error());
  if (inputs->size() > kMaxInputs) {
    return tl::unexpected(
        InvalidField("input", fmt::format("input: {} of them; at most {} are embedded at once",
                                          inputs->size(), kMaxInputs)));
  }
  request.inputs = *std::move(inputs);
  return request;
}

}  // namespace gale::server
