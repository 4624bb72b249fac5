// gale bench serve: how fast an OpenAI-compatible server answers under load.
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/json_text.h"
#include "cli/load_plan.h"
#include "cli/load_plot.h"
#include "cli/load_report.h"
#include "cli/standard_io.h"
#include "cli/whole_number.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

constexpr const char* kStandardOutput = "-";

struct BenchServeOptions {
  std::string url = "http://127.0.0.1:8000";
  std::string key;
  PromptStyle style;
  int num_requests = 100;
  int prompt_tokens = 128;
  int output_tokens = 64;
  std::vector<double> rates;
  std::vector<int> concurrencies;
  std::string trace;
  double speed = 1;
  Objective objective;
  int shared_prompt_tokens = 0;
  int late_prompt_tokens = 0;
  std::string json;
  std::vector<std::string> plots;
};

/// One point of the sweep.
struct Load {
  std::string name;
  double value = 0;
  int concurrency = 0;
  std::vector<PlannedRequest> plan;
};

Result<std::vector<Load>> PlanLoads(const BenchServeOptions& options) {
  const auto plan = [&options](double rate) {
    auto requests = PlanRandom({.count = options.num_requests,
                                .rate = rate,
                                .prompt_tokens = options.prompt_tokens,
                                .output_tokens = options.output_tokens,
                                .seed = options.style.seed});
    for (PlannedRequest& request : requests) request.shared_tokens = options.shared_prompt_tokens;
    return requests;
  };
  std::vector<Load> loads;
  if (!options.trace.empty()) {
    auto trace = ReadTrace(options.trace, static_cast<size_t>(options.num_requests), options.speed);
    if (!trace) return tl::unexpected(trace.error());
    loads.push_back({"trace", options.speed, 0, *std::move(trace)});
  }
  for (const double rate : options.rates) {
    loads.push_back({fmt::format("{:g} requests/s", rate), rate, 0, plan(rate)});
  }
  for (const int users : options.concurrencies) {
    loads.push_back({fmt::format("{} users", users), static_cast<double>(users), users, plan(0)});
  }
  return loads;
}

/// "12/100 requests" on a terminal.
class Progress {
 public:
  explicit Progress(const Load& load) : load_(load), enabled_(isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (enabled_) fmt::print(stderr, "\r\x1b[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Update(size_t num_done) const {
    if (!enabled_) return;
    constexpr size_t kCells = 30;
    const size_t all = load_.plan.size();
    const size_t cells = num_done * kCells / all;
    fmt::print(stderr, "\r{} [{}{}] {}/{} requests", load_.name, std::string(cells, '#'),
               std::string(kCells - cells, '.'), num_done, all);
  }

 private:
  const Load& load_;
  bool enabled_;
};

/// The first model that the server lists.
Result<std::string> FindModel(const LoadTarget& target) {
  const Result<std::string> page = FetchText(target, "/models");
  if (!page) return tl::unexpected(page.error());
  boost::system::error_code error;
  const json::value list = json::parse(*page, error);
  const json::value* id = error ? nullptr : list.find_pointer("/data/0/id", error);
  if (id == nullptr || !id->is_string()) {
    return MakeError(ErrorCode::kDataCorrupt, "the server lists no models; name one with --model");
  }
  return std::string(id->get_string());
}

Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (file) return {};
  return MakeError(ErrorCode::kResourceExhausted, fmt::format("{}: cannot be written", path));
}

/// What all prompts have in common is in the server's cache once one of them has been answered.
Status FillCache(const LoadTarget& target, const BenchServeOptions& options) {
  const std::vector<PlannedRequest> plan = {{.prompt_tokens = options.shared_prompt_tokens,
                                             .output_tokens = 1,
                                             .shared_tokens = options.shared_prompt_tokens}};
  const auto done =
      RunLoad(target, MakeRequests(plan, options.style), {.concurrency = 1}, [](size_t) {});
  if (!done) return tl::unexpected(done.error());
  return {};
}

/// Sends one prompt of that length alone, and one when all users stream; `others`: theirs.
Result<LateSummary> RunLate(const LoadTarget& target, const BenchServeOptions& options,
                            const Load& load, std::vector<LoadResult>& others) {
  PromptStyle style = options.style;
  const PlannedRequest late{.prompt_tokens = options.late_prompt_tokens, .output_tokens = 1};
  ++style.seed;  // two different prompts
  const auto alone =
      RunLoad(target, MakeRequests({late}, style), {.concurrency = 1}, [](size_t) {});
  if (!alone) return tl::unexpected(alone.error());
  std::vector<PlannedRequest> plan = load.plan;
  plan.resize(static_cast<size_t>(load.concurrency), load.plan.front());
  plan.push_back(late);
  auto results = RunLoad(target, MakeRequests(plan, options.style),
                         {.concurrency = load.concurrency, .last_is_late = true}, [](size_t) {});
  if (!results) return tl::unexpected(results.error());
  const LoadResult last = std::move(results->back());
  results->pop_back();
  others = *std::move(results);
  return SummarizeLate(others, alone->front(), last);
}

json::object Record(const BenchServeOptions& options, const std::vector<LoadSummary>& runs,
                    const std::optional<LateSummary>& late) {
  json::array list;
  for (const LoadSummary& run : runs) list.push_back(LoadRecord(run));
  json::object record = {{"url", options.url},
                         {"model", options.style.model},
                         {"endpoint", options.style.chat ? "chat" : "completions"},
                         {"seed", options.style.seed},
                         {"slo_ms",
                          {{"first_token", options.objective.first_token_s * 1e3},
                           {"per_token", options.objective.per_token_s * 1e3},
                           {"end_to_end", options.objective.end_to_end_s * 1e3}}}};
  if (options.trace.empty()) {
    record["prompt_tokens"] = options.prompt_tokens;
    record["output_tokens"] = options.output_tokens;
  } else {
    record["trace"] = options.trace;
    record["speed"] = options.speed;
  }
  if (options.shared_prompt_tokens > 0) {
    record["shared_prompt_tokens"] = options.shared_prompt_tokens;
  }
  if (late) record["late_prompt"] = LateRecord(*late);
  record["runs"] = std::move(list);
  return record;
}

Status BenchServe(BenchServeOptions options) {
  if (options.late_prompt_tokens > 0 && options.concurrencies.size() != 1) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "--late-prompt-tokens needs one --concurrency: the prompt comes when so many "
                     "users stream");
  }
  Result<LoadTarget> target = LoadTarget::Parse(options.url);
  if (!target) return tl::unexpected(target.error());
  target->key = options.key;
  if (options.style.model.empty()) {
    Result<std::string> model = FindModel(*target);
    if (!model) return tl::unexpected(model.error());
    options.style.model = *std::move(model);
  }
  const Result<std::vector<Load>> loads = PlanLoads(options);
  if (!loads) return tl::unexpected(loads.error());
  if (options.shared_prompt_tokens > 0) {
    if (Status status = FillCache(*target, options); !status) return status;
  }
  std::vector<LoadSummary> runs;
  std::optional<LateSummary> late;
  for (const Load& load : *loads) {
    if (options.late_prompt_tokens > 0) {
      std::vector<LoadResult> others;
      Result<LateSummary> summary = RunLate(*target, options, load, others);
      if (!summary) return tl::unexpected(summary.error());
      late = *std::move(summary);
      runs.push_back(Summarize(load.name, load.value, others, options.objective));
      continue;
    }
    const std::vector<LoadRequest> requests = MakeRequests(load.plan, options.style);
    const Progress progress(load);
    const auto results = RunLoad(*target, requests, {.concurrency = load.concurrency},
                                 [&progress](size_t num_done) { progress.Update(num_done); });
    if (!results) return tl::unexpected(results.error());
    runs.push_back(Summarize(load.name, load.value, *results, options.objective));
  }
  for (const std::string& path : options.plots) {
    const char* axis = !options.rates.empty()           ? "requests per second"
                       : !options.concurrencies.empty() ? "users at a time"
                                                        : "speed of the trace";
    if (Status status = WriteFile(path, LoadPlot(runs, axis, path)); !status) return status;
  }
  if (!options.json.empty()) {
    const std::string text = JsonIndented(Record(options, runs, late)) + "\n";
    if (options.json == kStandardOutput) return WriteOut(text);
    if (Status status = WriteFile(options.json, text); !status) return status;
  }
  return WriteOut(LoadTable(runs) + (late ? LateText(*late) : ""));
}

constexpr const char* kFooter = R"(
Every request is a stream with as many tokens as it asks for (ignore_eos, which servers other than
Gale and vLLM may not know). Times are the client's: to the first text, from text to text, to the end.
"good" is the share of all requests that keep every bound given with --slo-...

Examples:
  gale bench serve --rate 1,2,4,8 --requests 200 --plot latency.svg
  gale bench serve --concurrency 1,8,64 --prompt-tokens 32 --output-tokens 128 --json
  gale bench serve --trace AzureLLMInferenceTrace_conv.csv --requests 500 --speed 0.5
  gale bench serve --concurrency 64 --prompt-tokens 2048 --shared-prompt-tokens 1843
  gale bench serve --concurrency 64 --prompt-tokens 1024 --late-prompt-tokens 32768
  gale bench serve --url http://gpu7:8000 --rate 20 --slo-first-token 500 --slo-per-token 50)";

}  // namespace

void AddBenchServeCommand(CLI::App& bench, Action& action) {
  auto options = std::make_shared<BenchServeOptions>();
  CLI::App* command = bench.add_subcommand("serve", "A server's latency under load");
  const auto count = [command](const char* name, int& value, const char* description) {
    return command->add_option(name, value, description)
        ->type_name("N")
        ->check(WholeNumber(1))
        ->capture_default_str();
  };
  const auto milliseconds = [command](const char* name, double& seconds, const char* description) {
    command
        ->add_option_function<double>(
            name, [&seconds](double value) { seconds = value / 1e3; }, description)
        ->type_name("MS")
        ->check(CLI::PositiveNumber);
  };
  command->add_option("--url", options->url, "Of any server with OpenAI's API")
      ->capture_default_str();
  command->add_option("--api-key", options->key, "Sent with every request")
      ->envname("OPENAI_API_KEY");
  command->add_option("-m,--model", options->style.model,
                      "What the server calls it (default: the first that it lists)");
  CLI::Option_group* loads = command->add_option_group("Load", "One of these");
  loads
      ->add_option("--rate", options->rates,
                   "Requests per second, at random moments (Poisson), whatever runs; one run each")
      ->type_name("N,...")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  loads
      ->add_option("--concurrency", options->concurrencies,
                   "Users who each wait for their answer before they ask again; one run each")
      ->type_name("N,...")
      ->delimiter(',')
      ->check(WholeNumber(1));
  loads
      ->add_option("--trace", options->trace,
                   "Replays Azure's CSV or Mooncake's JSON lines, with shared prefixes")
      ->type_name("FILE");
  loads->require_option(1);
  command->add_option("--speed", options->speed, "Of the trace; 2 is twice as fast")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  count("--requests", options->num_requests, "Requests of each run");
  count("--prompt-tokens", options->prompt_tokens, "Random tokens of each prompt");
  command
      ->add_option(
          "--shared-prompt-tokens", options->shared_prompt_tokens,
          "The first so many of each prompt are the same, and in the server's cache before "
          "the first run")
      ->type_name("N")
      ->check(WholeNumber(1));
  command
      ->add_option("--late-prompt-tokens", options->late_prompt_tokens,
                   "With one --concurrency: once all users stream, one more prompt of so many "
                   "tokens comes; tells how long it waits, and what the others notice")
      ->type_name("N")
      ->check(WholeNumber(1));
  count("--output-tokens", options->output_tokens, "Tokens of each answer");
  count("--max-prompt-tokens", options->style.max_prompt_tokens, "Cuts longer ones of a trace");
  count("--max-output-tokens", options->style.max_output_tokens, "Cuts longer ones of a trace");
  count("--vocabulary", options->style.vocabulary, "Random token ids are 100 and so many up");
  command->add_flag("--chat", options->style.chat,
                    "Messages of random words to /chat/completions, in place of token ids to "
                    "/completions");
  milliseconds("--slo-first-token", options->objective.first_token_s, "Bound on the first token");
  milliseconds("--slo-per-token", options->objective.per_token_s, "Bound on the mean after it");
  milliseconds("--slo-e2e", options->objective.end_to_end_s, "Bound on the whole request");
  command->add_option("--seed", options->style.seed, "Of prompts and moments")
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--json", options->json,
                   "Also as JSON, to FILE; without one to standard output, and no table")
      ->type_name("[FILE]")
      ->expected(0, 1)
      ->default_str(kStandardOutput);
  command
      ->add_option("--plot", options->plots,
                   "Latencies over the load, as a picture: FILE.svg or FILE.png, or both")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([options, &action] { action = [options] { return BenchServe(*options); }; });
}

}  // namespace gale::cli
