#include "server/openai_handlers.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "server/body_reader.h"
#include "server/embedding_reply.h"
#include "server/generation_reply.h"
#include "server/openai_answer.h"
#include "server/web_page.h"

namespace gale::server {
namespace {

namespace json = boost::json;

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

HttpResponse JsonResponse(const json::object& body) { return {.body = json::serialize(body)}; }

}  // namespace

struct OpenAiHandlers::Route {
  enum class Where { kIoThread, kTextPool };
  std::string_view method;
  std::string_view path;  ///< with a "/" at its end: everything below it
  void (OpenAiHandlers::*handler)(const Exchange&);
  Where where = Where::kIoThread;
  bool needs_engine = true;
  bool is_open = false;  ///< to everybody, without a key

  bool Matches(std::string_view asked) const {
    return path.size() > 1 && path.ends_with('/')
               ? asked.size() > path.size() && asked.starts_with(path)
               : asked == path;
  }
};

const std::vector<OpenAiHandlers::Route>& OpenAiHandlers::Routes() {
  using Handlers = OpenAiHandlers;
  constexpr auto kPool = Route::Where::kTextPool;
  constexpr auto kIo = Route::Where::kIoThread;
  static const std::vector<Route> routes = {
      {"POST", "/v1/chat/completions", &Handlers::ChatCompletions, kPool},
      {"POST", "/v1/completions", &Handlers::Completions, kPool},
      {"POST", "/v1/embeddings", &Handlers::Embeddings, kPool},
      {"GET", "/v1/models", &Handlers::ListModels},
      {"GET", "/v1/models/", &Handlers::RetrieveModel},
      {"POST", "/tokenize", &Handlers::Tokenize, kPool},
      {"POST", "/detokenize", &Handlers::Detokenize, kPool},
      {"GET", "/", &Handlers::WebFile, kIo, /*needs_engine=*/false, /*is_open=*/true},
      {"GET", "/web/", &Handlers::WebFile, kIo, /*needs_engine=*/false, /*is_open=*/true},
      {"GET", "/openapi.json", &Handlers::WebFile, kIo, /*needs_engine=*/false},
      {"GET", "/metrics", &Handlers::Metrics, kIo, /*needs_engine=*/false},
      {"GET", "/version", &Handlers::Version, kIo, /*needs_engine=*/false},
      {"GET", "/health", &Handlers::Health, kIo, /*needs_engine=*/false, /*is_open=*/true},
  };
  return routes;
}

OpenAiHandlers::OpenAiHandlers(ApiConfig config, const AccessControl& access,
                               ServerMetrics& metrics)
    : config_(std::move(config)),
      access_(access),
      metrics_(metrics),
      created_(UnixSeconds()),
      text_pool_(static_cast<size_t>(config_.text_threads)) {}

OpenAiHandlers::~OpenAiHandlers() { Stop(); }

void OpenAiHandlers::SetEngine(std::shared_ptr<LlmEngine> engine) {
  std::atomic_store(&engine_, std::move(engine));
}

void OpenAiHandlers::Stop() { text_pool_.join(); }

void OpenAiHandlers::Handle(const Exchange& exchange) {
  const HttpRequest& request = exchange->request();
  access_.AddCorsHeaders(*exchange);
  if (request.method == "OPTIONS") {
    exchange->Send({.status = 204, .content_type = ""});
    return;
  }
  std::vector<std::string_view> methods;
  for (const Route& route : Routes()) {
    if (!route.Matches(request.path)) continue;
    exchange->SetRoute(route.path);
    const bool is_head = request.method == "HEAD" && route.method == "GET";
    if (request.method == route.method || is_head) return Dispatch(route, exchange);
    methods.push_back(route.method);
  }
  if (!access_.Admit(request)) return Refuse(exchange);
  ApiError error{.status = 404,
                 .message = fmt::format("There is no {} {}", request.method, request.path)};
  if (!methods.empty()) {
    error.status = 405;
    error.message =
        fmt::format("{} takes {}, not {}", request.path, fmt::join(methods, ", "), request.method);
    exchange->AddHeader("Allow", fmt::format("{}", fmt::join(methods, ", ")));
  }
  exchange->Send(ErrorResponse(error));
}

void OpenAiHandlers::Refuse(const Exchange& exchange) {
  exchange->Send(ErrorResponse({.status = 401,
                                .message = "Incorrect API key provided: send one as "
                                           "\"Authorization: Bearer KEY\"",
                                .code = "invalid_api_key"}));
}

void OpenAiHandlers::Dispatch(const Route& route, const Exchange& exchange) {
  if (!route.is_open) {
    std::optional<std::string> key_name = access_.Admit(exchange->request());
    if (!key_name) return Refuse(exchange);
    exchange->SetKeyName(*std::move(key_name));
  }
  if (route.needs_engine) {
    if (engine() == nullptr) {
      metrics_.CountRejection("loading");
      exchange->Send(ErrorResponse(Unavailable("The model is still loading; try again")));
      return;
    }
    if (draining_) {
      metrics_.CountRejection("draining");
      exchange->Send(ErrorResponse(Unavailable("The server is shutting down; try again")));
      return;
    }
  }
  if (route.where == Route::Where::kIoThread) return (this->*route.handler)(exchange);

  // Before any work on it: a full queue costs nothing but this line.
  if (Status room = engine()->CheckQueue(num_preparing_ + 1); !room) {
    metrics_.CountRejection("queue_full");
    exchange->Send(ErrorResponse(FromEngine(room.error(), /*was_queued=*/false)));
    return;
  }
  ++num_preparing_;
  boost::asio::post(text_pool_, [this, handler = route.handler, exchange] {
    try {
      (this->*handler)(exchange);
    } catch (const std::exception& exception) {  // out of memory: this request's end, not ours
      exchange->Send(
          ErrorResponse({.status = 500, .message = exception.what(), .type = "server_error"}));
    }
    --num_preparing_;
  });
}

void OpenAiHandlers::Health(const Exchange& exchange) {
  const auto loaded = engine();
  const char* status = draining_                 ? "draining"
                       : loaded == nullptr       ? "loading"
                       : loaded->stats().failing ? "failing"
                                                 : "ok";
  const bool ok = std::string_view(status) == "ok";
  exchange->Send(
      {.status = ok ? 200 : 503, .body = json::serialize(json::object{{"status", status}})});
}

void OpenAiHandlers::Version(const Exchange& exchange) {
  exchange->Send(JsonResponse({{"version", config_.version}}));
}

void OpenAiHandlers::WebFile(const Exchange& exchange) { ServeWebFile(*exchange); }

void OpenAiHandlers::Metrics(const Exchange& exchange) {
  exchange->Send(
      {.body = metrics_.Page(config_.metrics_prefix, config_.model_names[0], engine().get()),
       .content_type = "text/plain; version=0.0.4; charset=utf-8"});
}

json::object OpenAiHandlers::ModelJson() const {
  return {{"id", config_.model_names[0]},
          {"object", "model"},
          {"created", created_},
          {"owned_by", "gale"},
          {"root", engine()->config().model},
          {"parent", nullptr},
          {"max_model_len", engine()->config().max_model_len}};
}

void OpenAiHandlers::ListModels(const Exchange& exchange) {
  exchange->Send(JsonResponse({{"object", "list"}, {"data", json::array{ModelJson()}}}));
}

void OpenAiHandlers::RetrieveModel(const Exchange& exchange) {
  const std::string name = exchange->request().path.substr(std::string_view("/v1/models/").size());
  if (ApiResult<void> known = CheckModel(name); !known) {
    exchange->Send(ErrorResponse(known.error()));
    return;
  }
  json::object model = ModelJson();
  model["id"] = name;
  exchange->Send(JsonResponse(model));
}

ApiResult<void> OpenAiHandlers::CheckModel(const std::string& name) const {
  if (name.empty() || std::ranges::find(config_.model_names, name) != config_.model_names.end()) {
    return {};
  }
  return tl::unexpected(
      ApiError{.status = 404,
               .message = fmt::format("The model `{}` does not exist; this server has {}", name,
                                      config_.model_names[0]),
               .code = "model_not_found",
               .param = "model"});
}

void OpenAiHandlers::ChatCompletions(const Exchange& exchange) {
  Generate(exchange, &ParseChatRequest);
}

void OpenAiHandlers::Completions(const Exchange& exchange) {
  Generate(exchange, &ParseCompletionRequest);
}

void OpenAiHandlers::Generate(const Exchange& exchange, Parse parse) {
  const auto refuse = [&exchange](const ApiError& error) { exchange->Send(ErrorResponse(error)); };
  const auto engine = this->engine();
  const ApiResult<json::object> body = ParseBody(exchange->request().body);
  if (!body) return refuse(body.error());
  ApiResult<GenerationRequest> request = parse(*body, engine->model_info().default_sampling);
  if (!request) return refuse(request.error());
  if (ApiResult<void> known = CheckModel(request->model); !known) return refuse(known.error());
  LimitTime(request->timeout_s);

  std::vector<GenerationReply::Prompt> prompts;
  size_t longest = 0;
  if (request->is_chat) {
    ApiResult<std::vector<TokenId>> tokens = RenderChat(request->messages_json, request->chat);
    if (!tokens) return refuse(tokens.error());
    prompts.push_back({.tokens = *std::move(tokens)});
  }
  for (TextOrTokens& given : request->prompts) {
    GenerationReply::Prompt& prompt = prompts.emplace_back();
    if (auto* text = std::get_if<std::string>(&given)) {
      prompt.tokens =
          engine->tokenizer()->Encode(*text, {.add_special_tokens = request->add_special_tokens});
      if (request->echo) prompt.echo = std::move(*text);
    } else {
      prompt.tokens = std::get<std::vector<TokenId>>(std::move(given));
      if (request->echo) prompt.echo = engine->tokenizer()->Decode(prompt.tokens);
    }
  }
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.tokens.size());
  if (ApiResult<void> fits = FitMaxTokens(*request, longest); !fits) return refuse(fits.error());

  AnswerHead head{.id = fmt::format("{}-{:x}-{}", request->is_chat ? "chatcmpl" : "cmpl", created_,
                                    ++next_answer_),
                  .created = UnixSeconds(),
                  .model = request->model.empty() ? config_.model_names[0] : request->model,
                  .fingerprint = "gale-" + config_.version,
                  .is_chat = request->is_chat};
  std::make_shared<GenerationReply>(*engine, metrics_, exchange, std::move(head),
                                    *std::move(request), std::move(prompts))
      ->Start();
}

ApiResult<std::vector<TokenId>> OpenAiHandlers::RenderChat(const std::string& messages_json,
                                                           const ChatOptions& options) const {
  const auto engine = this->engine();
  const ChatTemplate* chat_template =
      chat_template_ != nullptr ? chat_template_.get() : engine->chat_template();
  if (chat_template == nullptr) {
    return tl::unexpected(ApiError{.message = "This model has no chat template; use "
                                              "/v1/completions, or start the server with "
                                              "--chat-template"});
  }
  const Result<RenderedPrompt> rendered = chat_template->Render(messages_json, options);
  if (!rendered) return tl::unexpected(InvalidField("messages", rendered.error().message));
  return engine->tokenizer()->EncodePrompt(rendered->text, rendered->user_spans);
}

/// A completion that would not fit is an error; one whose length was left open ends with the
/// context.
ApiResult<void> OpenAiHandlers::FitMaxTokens(GenerationRequest& request,
                                             size_t longest_prompt) const {
  const int context = engine()->config().max_model_len;
  const int prompt = static_cast<int>(std::min<size_t>(longest_prompt, 1 << 30));
  int& max_tokens = request.sampling.max_tokens;
  if (!request.max_tokens_given && prompt < context) {
    max_tokens = request.is_chat ? context - prompt : std::min(max_tokens, context - prompt);
  } else if (!request.max_tokens_given) {
    max_tokens = 1;
  }
  if (int64_t{prompt} + max_tokens <= context) return {};
  return tl::unexpected(TooLong(prompt, max_tokens, request.is_chat ? "messages" : "prompt"));
}

ApiError OpenAiHandlers::TooLong(int num_tokens, int num_generated, const char* field) const {
  const int context = engine()->config().max_model_len;
  ApiError error{
      .message = fmt::format(
          "This model's maximum context length is {} tokens. However, you requested {} tokens ({} "
          "in the {}, {} in the completion). Please reduce the length of the {} or completion.",
          context, int64_t{num_tokens} + num_generated, num_tokens, field, num_generated, field),
      .code = "context_length_exceeded",
      .param = field};
  error.prompt_and_context_tokens = {num_tokens, context};
  return error;
}

void OpenAiHandlers::LimitTime(float& timeout_s) const {
  if (timeout_s == 0) timeout_s = static_cast<float>(config_.request_timeout_s);
}

void OpenAiHandlers::Embeddings(const Exchange& exchange) {
  const auto refuse = [&exchange](const ApiError& error) { exchange->Send(ErrorResponse(error)); };
  const auto engine = this->engine();
  const ApiResult<json::object> body = ParseBody(exchange->request().body);
  if (!body) return refuse(body.error());
  ApiResult<EmbeddingRequest> request =
      ParseEmbeddingRequest(*body, engine->model_info().hidden_size);
  if (!request) return refuse(request.error());
  if (ApiResult<void> known = CheckModel(request->model); !known) return refuse(known.error());
  if (request->model.empty()) request->model = config_.model_names[0];
  LimitTime(request->timeout_s);
  std::vector<std::vector<TokenId>> inputs;
  for (TextOrTokens& given : request->inputs) {
    auto* tokens = std::get_if<std::vector<TokenId>>(&given);
    inputs.push_back(tokens != nullptr ? std::move(*tokens)
                                       : engine->tokenizer()->Encode(
                                             std::get<std::string>(given),
                                             {.add_special_tokens = request->add_special_tokens}));
    const size_t num_tokens = inputs.back().size();
    if (num_tokens > static_cast<size_t>(engine->config().max_model_len)) {
      return refuse(TooLong(static_cast<int>(num_tokens), 0, "input"));
    }
  }
  std::make_shared<EmbeddingReply>(*engine, metrics_, exchange, *std::move(request),
                                   std::move(inputs))
      ->Start();
}

void OpenAiHandlers::Tokenize(const Exchange& exchange) {
  const auto refuse = [&exchange](const ApiError& error) { exchange->Send(ErrorResponse(error)); };
  const ApiResult<json::object> body = ParseBody(exchange->request().body);
  if (!body) return refuse(body.error());
  BodyReader reader(*body);
  std::string model;
  std::string prompt;
  bool add_special_tokens = true;
  bool return_token_strs = false;
  reader.Read("model", model);
  reader.Read("prompt", prompt);
  reader.Read("add_special_tokens", add_special_tokens);
  reader.Read("return_token_strs", return_token_strs);
  const bool has_messages = reader.Find("messages") != nullptr;
  if (!has_messages && reader.Find("prompt") == nullptr) {
    reader.Fail(InvalidField("prompt", "expected either prompt, a string, or messages"));
  }
  if (reader.error()) return refuse(*reader.error());
  if (ApiResult<void> known = CheckModel(model); !known) return refuse(known.error());

  const auto engine = this->engine();
  std::vector<TokenId> tokens;
  if (has_messages) {
    const ApiResult<std::string> messages = ParseMessages(*body);
    if (!messages) return refuse(messages.error());
    const ApiResult<ChatOptions> options = ParseChatOptions(*body);
    if (!options) return refuse(options.error());
    ApiResult<std::vector<TokenId>> rendered = RenderChat(*messages, *options);
    if (!rendered) return refuse(rendered.error());
    tokens = *std::move(rendered);
  } else {
    tokens = engine->tokenizer()->Encode(prompt, {.add_special_tokens = add_special_tokens});
  }
  json::value token_strs = nullptr;
  if (return_token_strs) {
    json::array& list = token_strs.emplace_array();
    for (const TokenId token : tokens)
      list.push_back(json::value(TokenText(*engine->tokenizer(), token)));
  }
  exchange->Send(JsonResponse({{"count", tokens.size()},
                               {"max_model_len", engine->config().max_model_len},
                               {"tokens", json::value_from(tokens)},
                               {"token_strs", std::move(token_strs)}}));
}

void OpenAiHandlers::Detokenize(const Exchange& exchange) {
  const auto refuse = [&exchange](const ApiError& error) { exchange->Send(ErrorResponse(error)); };
  const ApiResult<json::object> body = ParseBody(exchange->request().body);
  if (!body) return refuse(body.error());
  BodyReader reader(*body);
  std::string model;
  std::vector<TokenId> tokens;
  reader.Read("model", model);
  reader.Read("tokens", tokens);
  if (reader.Find("tokens") == nullptr) {
    reader.Fail(InvalidField("tokens", "tokens: expected an array of token ids"));
  }
  if (reader.error()) return refuse(*reader.error());
  if (ApiResult<void> known = CheckModel(model); !known) return refuse(known.error());
  exchange->Send(
      JsonResponse({{"prompt", engine()->tokenizer()->Decode(tokens, /*skip_special=*/false)}}));
}

}  // namespace gale::server
