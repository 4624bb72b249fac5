// gale bench throughput: tokens per second over many requests, and what the device's limits would
// have let through.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "cli/bench_flags.h"
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/load_plan.h"
#include "cli/offline_load.h"
#include "cli/standard_io.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

struct ThroughputOptions : BenchOptions {
  RandomLoad load = {.count = 64, .prompt_tokens = 128, .output_tokens = 128};
  std::string trace;
  double speed = 0;  ///< of the trace; 0: all at once
  PromptStyle style;
  int top_k = 0;
};

struct ThroughputRepeat {
  OfflineRun run;
  SteadyWindow window;
  DeviceSpeed limits;
  SerialRoofline roofline;
};

Result<std::vector<PlannedRequest>> MakePlan(const ThroughputOptions& options) {
  if (options.trace.empty()) return PlanRandom(options.load);
  constexpr double kAnySpeed = 1;
  auto plan = ReadTrace(options.trace, static_cast<size_t>(options.load.count),
                        options.speed > 0 ? options.speed : kAnySpeed);
  if (plan && options.speed == 0) {
    for (PlannedRequest& request : *plan) request.start_s = 0;
  }
  return plan;
}

Result<ThroughputRepeat> RunOnce(LlmEngine& engine, const std::vector<PlannedRequest>& plan,
                                 const PromptStyle& style, int top_k) {
  Result<OfflineRun> run = RunOffline(engine, plan, style, top_k);
  if (!run) return tl::unexpected(run.error());
  ThroughputRepeat repeat{.run = *std::move(run), .window = {}, .limits = {}, .roofline = {}};
  repeat.window = FindSteadyWindow(repeat.run.moments);
  const auto limits =
      MeasureDeviceSpeed(engine.config().device, engine.config().threads,
                         ProbeBytes(engine, StepWeightBytes(engine, repeat.window.batch)));
  if (!limits) return tl::unexpected(limits.error());
  repeat.limits = *limits;
  repeat.roofline = FindSerialRoofline(engine, repeat.window, repeat.limits);
  return repeat;
}

json::object ThroughputRecord(const std::vector<ThroughputRepeat>& repeats, size_t prompts) {
  json::object record = {{"prompts", prompts}};
  const auto add = [&](const char* name, auto&& value) {
    record[name] = SpreadRecord(SpreadOver(repeats, value));
  };
  using R = const ThroughputRepeat&;
  const auto per_s = [&](const char* name, auto&& count) {
    add(name, [&](R r) { return static_cast<double>(count(r)) / r.run.total_s; });
  };
  const auto per_steady_s = [&](const char* name, auto&& count) {
    add(name, [&](R r) { return count(r.window) / r.window.seconds; });
  };
  per_s("output_tokens_per_s", [](R r) { return r.run.output_tokens; });
  per_s("total_tokens_per_s", [](R r) { return r.run.prompt_tokens + r.run.output_tokens; });
  per_s("prompts_per_s", [&](R) { return prompts; });
  add("total_s", [](R r) { return r.run.total_s; });
  add("steady_s", [](R r) { return r.window.seconds; });
  per_steady_s("steady_output_tokens_per_s", [](const auto& w) { return w.output_tokens; });
  per_steady_s("steady_total_tokens_per_s",
               [](const auto& w) { return w.output_tokens + w.prompt_tokens; });
  add("steady_step_s", [](R r) { return r.window.seconds / std::max(r.window.steps, 1.0); });
  add("steady_step_tokens", [](R r) {
    return (r.window.output_tokens + r.window.prompt_tokens) / std::max(r.window.steps, 1.0);
  });
  per_steady_s("steady_busy_share", [](const auto& w) { return w.busy_s; });
  add("steady_batch", [](R r) { return r.window.batch; });
  add("max_batch", [](R r) { return r.window.max_batch; });
  add("steady_kv_use", [](R r) { return r.window.kv_use; });
  add("max_kv_use", [](R r) { return r.window.max_kv_use; });
  add("preemptions", [](R r) {
    return r.run.moments.back().stats.preemptions - r.run.moments.front().stats.preemptions;
  });
  add("limit_weights_s", [](R r) { return r.roofline.weights_s; });
  add("limit_kv_s", [](R r) { return r.roofline.kv_s; });
  add("limit_products_s", [](R r) { return r.roofline.products_s; });
  add("limit_output_tokens_per_s",
      [](R r) { return r.window.output_tokens / r.roofline.seconds(); });
  add("fraction_of_limit", [](R r) { return r.roofline.seconds() / r.window.seconds; });
  return record;
}

Status BenchThroughput(ThroughputOptions options) {
  const Result<std::vector<PlannedRequest>> plan = MakePlan(options);
  if (!plan) return tl::unexpected(plan.error());
  options.engine.max_queued_requests =
      std::max(options.engine.max_queued_requests, static_cast<int>(plan->size()));
  const Result<std::unique_ptr<LlmEngine>> engine = LoadEngine(options.engine);
  if (!engine) return tl::unexpected(engine.error());
  options.style.vocabulary = (*engine)->model_info().vocab_size;
  std::vector<ThroughputRepeat> repeats;
  std::vector<DeviceSpeed> limits;
  for (int i = 0; i < options.times.warmup + options.times.repeats; ++i) {
    ++options.style.seed;  // other prompts, of which the prefix cache has nothing
    auto repeat = RunOnce(**engine, *plan, options.style, options.top_k);
    if (!repeat) return tl::unexpected(repeat.error());
    if (i < options.times.warmup) continue;
    limits.push_back(repeat->limits);
    repeats.push_back(*std::move(repeat));
  }
  json::object record = RunRecord(**engine, options.times);
  for (const auto& group : {ThroughputRecord(repeats, plan->size()), LimitsRecord(limits)}) {
    record.insert(group.begin(), group.end());
  }
  record["void"] = WhyVoid((*engine)->device(), limits);
  if (options.WantsText()) {
    if (Status written = WriteOut(RecordText(record)); !written) return written;
  }
  return WriteBenchJson(options, record);
}

constexpr const char* kFooter = R"(
All requests are handed over at once, or come at a rate or when a trace has them; the engine
batches them as its limits allow (--max-num-seqs, --max-num-batched-tokens). Figures are the median
of the repeats, with the smallest and the largest:
  ..._per_s   over the whole run
  steady_...  from a tenth of the generated tokens to nine tenths: time, tokens per second, seconds
              and tokens of a step, share that a GPU was busy, running sequences, share of the KV
              cache that they hold
  limit_...   what that window's work takes at the limits below, one after the other: reading the
              weights in each step and the keys and values of what runs, multiplying (see
              bench latency for the limits); fraction_of_limit is their sum over the window's time

Examples:
  gale bench throughput --model models/gale-tales-10m --prompts 64 --output-tokens 128 --json
  gale bench throughput -m llama-3-8b --load-format dummy --prompts 3000 --prompt-tokens 1000 \
      --output-tokens 1000 --max-num-seqs 512 --max-num-batched-tokens 4096 --repeats 1 --warmup 0
  gale bench throughput -m Qwen/Qwen3-0.6B --trace AzureLLMInferenceTrace_conv.csv --speed 2)";

}  // namespace

void AddBenchThroughputCommand(CLI::App& bench, Action& action) {
  auto options = std::make_shared<ThroughputOptions>();
  CLI::App* command = bench.add_subcommand("throughput", "Tokens per second over many requests");
  const BenchFlags flags{*command};
  const auto number = [command](const char* name, double& value, const char* description) {
    return command->add_option(name, value, description)
        ->type_name("X")
        ->check(CLI::NonNegativeNumber);
  };
  flags.Count("--prompts", options->load.count, "Requests");
  flags.Count("--prompt-tokens", options->load.prompt_tokens, "Random tokens of each prompt");
  flags.Count("--output-tokens", options->load.output_tokens, "Tokens generated for each prompt");
  number("--length-spread", options->load.spread,
         "Lengths of both are drawn between 1 - X and 1 + X of those (default: all equal)")
      ->check(CLI::Range(0.0, 1.0));
  CLI::Option* rate =
      number("--rate", options->load.rate,
             "Requests per second, at random moments (Poisson; default: all at once)");
  CLI::Option* trace =
      command
          ->add_option("--trace", options->trace,
                       "Lengths from Azure's CSV or Mooncake's JSON lines, with shared prefixes")
          ->type_name("FILE")
          ->excludes(rate);
  number("--speed", options->speed,
         "Replays the trace's moments so many times as fast (default: all at once)")
      ->needs(trace);
  const auto cut = [command](const char* name, int& value) {
    command->add_option(name, value, "Cuts longer ones of a trace")
        ->type_name("N")
        ->check(WholeNumber(1));
  };
  cut("--max-prompt-tokens", options->style.max_prompt_tokens);
  cut("--max-output-tokens", options->style.max_output_tokens);
  flags.TopK(options->top_k);
  flags.Common(*options, 1);
  command->footer(kFooter);
  command->callback([options, &action] {
    options->load.seed = options->style.seed = options->engine.seed;
    action = [options] { return BenchThroughput(*options); };
  });
}

}  // namespace gale::cli
