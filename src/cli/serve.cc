// gale serve: a model behind OpenAI's HTTP API.
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>

#include "cli/build_info.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/model_argument.h"
#include "cli/whole_number.h"
#include "server/api_server.h"

namespace gale::cli {
namespace {

struct ServeOptions {
  EngineConfig engine;
  server::ServerConfig server;
  std::string chat_template;
  int max_body_mib = 32;
  bool no_access_log = false;
};

/// What clients may call the model: a folder by its last name, anything as it was given.
std::vector<std::string> DefaultNames(const std::string& model) {
  std::vector<std::string> names = {model};
  std::error_code ignored;
  if (std::filesystem::exists(model, ignored)) {
    const std::filesystem::path path = std::filesystem::canonical(model, ignored);
    if (!path.filename().empty()) names.insert(names.begin(), path.filename().string());
  }
  return names;
}

/// Each connection takes a descriptor.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Status Serve(ServeOptions options) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader of the log that goes does not end the server
  RaiseDescriptorLimit();
  server::ServerConfig& config = options.server;
  config.http.limits.max_body_bytes = static_cast<size_t>(options.max_body_mib) << 20;
  config.http.access_log = !options.no_access_log;
  config.api.version = kBuildInfo.version;
  if (config.api.model_names.empty()) config.api.model_names = DefaultNames(options.engine.model);

  auto server = server::ApiServer::Start(config);
  if (!server) return tl::unexpected(server.error());
  auto engine = LoadEngine(options.engine);
  if (!engine) return tl::unexpected(engine.error());
  if ((*engine)->tokenizer() == nullptr) {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{} has no tokenizer, which the API needs", options.engine.model));
  }
  std::unique_ptr<ChatTemplate> chat_template;
  if (!options.chat_template.empty()) {
    auto given = ChatTemplate::FromFileOrName(options.chat_template, (*engine)->config().model);
    if (!given) return tl::unexpected(given.error());
    chat_template = *std::move(given);
  }
  (*server)->Open(*std::move(engine), std::move(chat_template));
  const bool is_tls = !config.http.tls_certificate.empty();
  fmt::print(stderr, "serving {} on {}://{}:{}\n", config.api.model_names[0],
             is_tls ? "https" : "http", config.http.host, (*server)->port());
  return (*server)->ServeUntilSignal();
}

void AddHttpFlags(CLI::App& command, ServeOptions& options) {
  server::HttpServerConfig& http = options.server.http;
  constexpr const char* kGroup = "Server";
  command.add_option("--host", http.host, "Address to listen on; 0.0.0.0 or :: for all")
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--port", http.port, "0: any free one, told on standard error")
      ->type_name("N")
      ->check(WholeNumber(0, 65535))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--served-model-name", options.server.api.model_names,
                  "What clients call the model, several for several names (default: the folder's "
                  "name, and MODEL as given)")
      ->type_name("NAME")
      ->group(kGroup);
  command
      .add_option("--chat-template", options.chat_template,
                  fmt::format("Instead of the model's own: a Jinja file, or one of {}",
                              fmt::join(ChatTemplate::Names(), ", ")))
      ->type_name("FILE|NAME")
      ->group(kGroup);
  command
      .add_option("--api-key", options.server.access.keys,
                  "Asked for on every route but /health; may be given several times")
      ->type_name("KEY")
      ->envname("GALE_API_KEY")
      ->group(kGroup);
  command
      .add_option("--api-key-file", options.server.access.key_file,
                  "Lines KEY or NAME KEY; read again on SIGHUP")
      ->type_name("FILE")
      ->group(kGroup);
  command
      .add_option("--allowed-origin", options.server.access.allowed_origins,
                  "Web pages of this origin may call from browsers; * for all")
      ->type_name("ORIGIN")
      ->group(kGroup);
  CLI::Option* certificate =
      command
          .add_option("--tls-certificate", http.tls_certificate,
                      "PEM file with the certificate chain; read again on SIGHUP")
          ->type_name("FILE")
          ->group(kGroup);
  CLI::Option* key = command.add_option("--tls-key", http.tls_key, "PEM file with its private key")
                         ->type_name("FILE")
                         ->group(kGroup);
  certificate->needs(key);
  key->needs(certificate);
  command
      .add_option("--metrics-prefix", options.server.api.metrics_prefix,
                  "Of the names in /metrics; \"vllm:\" for dashboards made for vLLM")
      ->type_name("TEXT")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--max-queued-requests", options.engine.max_queued_requests,
                  "Unfinished ones beside --max-num-seqs; more are refused with 429")
      ->type_name("N")
      ->check(WholeNumber(1))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--max-queued-tokens", options.engine.max_queued_tokens,
                  "The same for the prompt tokens of unfinished requests; 0: no bound")
      ->type_name("N")
      ->check(WholeNumber(0))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_flag_callback(
          "--fcfs", [&options] { options.engine.fair = options.engine.take_turns = false; },
          "First come, first served; without it, API keys that wait share the tokens equally, and "
          "long answers let short ones go first")
      ->group(kGroup);
  command.add_option("--max-body", options.max_body_mib, "Largest request body, in MiB")
      ->type_name("N")
      ->check(WholeNumber(1, 4096))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--request-timeout", options.server.api.request_timeout_s,
                  "Requests without a timeout of their own end with 408 after so long; 0: never")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--drain-timeout", options.server.drain_timeout_s,
                  "After SIGTERM, running requests have so long to end")
      ->type_name("SECONDS")
      ->capture_default_str()
      ->group(kGroup);
  command.add_flag("--no-access-log", options.no_access_log, "No line for each request")
      ->group(kGroup);
}

constexpr const char* kFooter = R"(
Examples:
  gale serve models/gale-tales-10m
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \
       -d '{"messages": [{"role": "user", "content": "Tell me a story."}]}'
  gale serve Qwen/Qwen3-0.6B --host 0.0.0.0 --api-key-file keys.txt

SIGTERM and Ctrl-C let what runs end first (a second one does not); SIGHUP reads keys and
certificates again.)";

}  // namespace

void AddServeCommand(CLI::App& app, Action& action) {
  auto options = std::make_shared<ServeOptions>();
  options->engine.take_turns = true;
  options->engine.max_step_stretch = 3.6;
  CLI::App* command = app.add_subcommand("serve", "Serve a model through OpenAI's HTTP API");
  AddModelArgument(*command, options->engine.model);
  AddHttpFlags(*command, *options);
  AddEngineFlags(*command, options->engine);
  command->footer(kFooter);
  command->callback([options, &action] { action = [options] { return Serve(*options); }; });
}

}  // namespace gale::cli
