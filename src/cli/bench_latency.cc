// gale bench latency: median and spread of repeated runs, beside the limits of the device measured
// between them.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "cli/bench_flags.h"
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/standard_io.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

constexpr int kMinRepeats = 5;

struct LatencyOptions : BenchOptions {
  std::vector<std::string> dummies;  ///< presets to measure one after the other, or empty
  std::vector<int> prompts = {1};
  std::vector<int> prompt_tokens = {23};
  int output_tokens = 200;
  int top_k = 20;
};

std::vector<EngineConfig> EngineConfigs(const LatencyOptions& options) {
  EngineConfig config = options.engine;
  const int prompts = *std::max_element(options.prompts.begin(), options.prompts.end());
  config.max_num_seqs = std::max(config.max_num_seqs, prompts);
  config.max_queued_requests = std::max(config.max_queued_requests, prompts);
  if (options.dummies.empty()) return {config};
  config.load_format = LoadFormat::kDummy;
  std::vector<EngineConfig> configs;
  for (const std::string& name : options.dummies) {
    config.model = name;
    configs.push_back(config);
  }
  return configs;
}

/// Calls run_case(engine, case) for every model, prompt length and batch.
template <class Function>
Status ForCases(const LatencyOptions& options, Function&& run_case) {
  for (const EngineConfig& config : EngineConfigs(options)) {
    const Result<std::unique_ptr<LlmEngine>> engine = LoadEngine(config);
    if (!engine) return tl::unexpected(engine.error());
    for (const int prompt_tokens : options.prompt_tokens) {
      for (const int prompts : options.prompts) {
        const BenchCase what{prompts, prompt_tokens, options.output_tokens, options.top_k};
        if (Status status = run_case(**engine, what); !status) return status;
      }
    }
  }
  return {};
}

Status BenchLatency(const LatencyOptions& options) {
  std::mt19937_64 random(options.engine.seed);
  std::vector<DeviceSpeed> limits;
  std::string device;
  json::object record;
  json::array cases;
  const Status ran = ForCases(options, [&](LlmEngine& engine, const BenchCase& what) -> Status {
    if (options.WantsText() && cases.empty()) {
      const Status written = WriteOut(engine.device() + "\n" + LatencyHeader());
      if (!written) return written;
    }
    const Result<CaseResult> result = RunCase(engine, what, options.times, random);
    if (!result) return tl::unexpected(result.error());
    limits.insert(limits.end(), result->limits.begin(), result->limits.end());
    device = engine.device();
    json::object figures = RunRecord(engine, options.times);
    for (const auto& group : {LatencyRecord(*result), LimitsRecord(result->limits)}) {
      figures.insert(group.begin(), group.end());
    }
    cases.push_back(std::move(figures));
    return options.WantsText() ? WriteOut(LatencyRow(engine.config().model, *result)) : Status();
  });
  if (!ran) return ran;
  record["cases"] = std::move(cases);
  record["limits"] = LimitsRecord(limits);
  record["void"] = WhyVoid(device, limits);
  if (options.WantsText()) {
    if (Status written = WriteOut(LimitsText(device, limits)); !written) return written;
  }
  return WriteBenchJson(options, record);
}

constexpr const char* kLatencyFooter = R"(
All prompts of a case start together and stay together: --batch-size 1 is one user's latency. Each
case is the median of the repeats; lists (1,8,16) make a table of cases in one process:
  first ms   from the request to its first token
  step ms    from token to token after that (one decode step of the batch), sampling included
  busy ms    a GPU's own time for a step, that of the prompt among them
  gap us     how long a GPU had nothing to do between two of these steps
  as         how most steps ran: by a fused decoder, as a captured graph, or op by op
  GB/step    weights, keys and values that a step must read (of experts, the share expected)
  of read    time to read that at the memory's speed, over the step's time
Below the table stand the limits of the device, measured between the repeats: the speed of its
memory, of its multiply-adds (bf16 on a GPU, with operands in shared memory) and of copies from
pinned host memory. A table from a device that is slower than its kind is marked VOID.

Examples:
  gale bench latency --model models/gale-tales-10m --json figures.json
  gale bench latency --dummy qwen3-0.6b,qwen2.5-1.5b --batch-size 1,8,16 --prompt-tokens 23,128)";

}  // namespace

void AddBenchLatencyCommand(CLI::App& bench, Action& action) {
  auto options = std::make_shared<LatencyOptions>();
  CLI::App* command =
      bench.add_subcommand("latency", "Time to the first token and from token to token");
  const BenchFlags flags{*command};
  flags.Count("--batch-size", options->prompts, "Prompts at once");
  flags.Count("--prompt-tokens", options->prompt_tokens, "Random tokens of each prompt");
  flags.Count("--output-tokens", options->output_tokens, "Tokens generated for each prompt");
  flags.TopK(options->top_k);
  flags.Common(*options, kMinRepeats);
  CLI::Option* model = command->get_option("--model")->required(false);
  CLI::Option* dummy = command
                           ->add_option("--dummy", options->dummies,
                                        "Presets with random weights, in place of --model")
                           ->type_name("NAME,...")
                           ->delimiter(',')
                           ->excludes(model);
  command->footer(kLatencyFooter);
  command->callback([options, model, dummy, &action] {
    if (model->count() + dummy->count() == 0) throw CLI::RequiredError("--model");
    action = [options] { return BenchLatency(*options); };
  });
}

}  // namespace gale::cli
