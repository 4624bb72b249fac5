// gale bench speculative: what guessing ahead gains at every rate of right guesses and every batch,
// and what it gains on given prompts.
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/status_macros.h"
#include "cli/bench_flags.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/prompts.h"
#include "cli/standard_io.h"
#include "engine/engine_parts.h"
#include "engine/scripted_proposer.h"

namespace gale::cli {
namespace {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;

constexpr int kMinRepeats = 3;

struct SpeculativeOptions : BenchOptions {
  std::vector<int> prompts = {1, 4, 16};  ///< at once
  std::vector<double> acceptance = {0, 0.2, 0.4, 0.6, 0.8, 1};
  int prompt_tokens = 64;
  int output_tokens = 128;
  std::vector<std::string> methods;  ///< to compare on prompt_file
  std::string prompt_file;
  bool longest = false;  ///< of each method, whether it pays or not
};

/// One run of some requests: the tokens of all replies over the time from the first token of one to
/// the end of the last.
struct Run {
  double tokens_per_s = 0;
  double tokens_per_step = 0;  ///< of a sequence, drafts that were not tried included
  double accepted = 0;         ///< of the guessed tokens
  std::vector<std::vector<TokenId>> replies;
};

Result<Run> RunOnce(LlmEngine& engine, const std::vector<RequestParams>& requests) {
  const EngineStats before = engine.stats();
  const std::vector<RequestOutput> outputs = engine.Generate(requests);
  const EngineStats after = engine.stats();
  Run run;
  double decode_s = 0;
  double tokens = 0;
  for (const RequestOutput& output : outputs) {
    if (output.error) return tl::unexpected(*output.error);
    run.replies.push_back(output.samples[0].tokens);
    decode_s = std::max(decode_s, output.times.total_s - output.times.first_token_s);
    tokens += static_cast<double>(run.replies.back().size()) - 1;
  }
  run.tokens_per_s = tokens / std::max(decode_s, 1e-9);
  const auto guessed = static_cast<double>(after.draft_tokens - before.draft_tokens);
  const auto right =
      static_cast<double>(after.accepted_draft_tokens - before.accepted_draft_tokens);
  run.accepted = guessed > 0 ? right / guessed : 0;
  run.tokens_per_step = tokens > right ? tokens / (tokens - right) : 1;
  return run;
}

/// The median by speed of the repeats.
Result<Run> RunMedian(LlmEngine& engine, const std::vector<RequestParams>& requests,
                      const BenchRepeats& times) {
  std::vector<Run> runs;
  for (int i = 0; i < times.warmup + times.repeats; ++i) {
    GALE_ASSIGN_OR_RETURN(Run run, RunOnce(engine, requests));
    if (i >= times.warmup) runs.push_back(std::move(run));
  }
  std::ranges::sort(runs, {}, &Run::tokens_per_s);
  return std::move(runs[runs.size() / 2]);
}

std::vector<RequestParams> RandomRequests(const SpeculativeOptions& options, int count,
                                          int vocab_size) {
  std::mt19937_64 random(options.engine.seed);
  std::uniform_int_distribution<TokenId> token(0, vocab_size - 1);
  std::vector<RequestParams> requests(static_cast<size_t>(count));
  for (RequestParams& request : requests) {
    std::vector<TokenId> prompt(static_cast<size_t>(options.prompt_tokens));
    std::ranges::generate(prompt, [&] { return token(random); });
    request.prompt = std::move(prompt);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = options.output_tokens;
    request.sampling.ignore_eos = true;
  }
  return requests;
}

EngineConfig ConfigFor(const SpeculativeOptions& options, int prompts) {
  EngineConfig config = options.engine;
  config.max_num_seqs = std::max(config.max_num_seqs, prompts);
  config.max_queued_requests = std::max(config.max_queued_requests, prompts);
  config.enable_prefix_cache = false;  // every run computes its prompts
  return config;
}

Result<std::unique_ptr<LlmEngine>> StartScripted(const EngineConfig& config,
                                                 const DraftScript& script) {
  GALE_ASSIGN_OR_RETURN(
      EngineParts parts,
      LoadEngineParts(config, {}, {}, [&script](std::unique_ptr<DraftProposer> proposer) {
        return std::make_unique<ScriptedProposer>(std::move(proposer), script);
      }));
  return StartEngine(std::move(parts));
}

/// Speeds of one batch: without guesses, and at each acceptance with the longest drafts always and
/// as the controller has it.
struct BatchSweep {
  int prompts = 0;
  double off = 0;
  std::vector<Run> fixed;
  std::vector<Run> controlled;
};

/// The acceptance from which on the longest drafts gain, between the measured ones; over 1: never.
double BreakEven(const std::vector<double>& acceptance, const BatchSweep& sweep) {
  for (size_t i = 0; i < acceptance.size(); ++i) {
    const double gain = sweep.fixed[i].tokens_per_s - sweep.off;
    if (gain < 0) continue;
    if (i == 0) return acceptance[0];
    const double before = sweep.fixed[i - 1].tokens_per_s - sweep.off;
    return acceptance[i - 1] + (acceptance[i] - acceptance[i - 1]) * before / (before - gain);
  }
  return 2;
}

Status RunSweeps(const SpeculativeOptions& options, bool adaptive, DraftScript& script,
                 std::vector<BatchSweep>& sweeps) {
  EngineConfig config = ConfigFor(options, std::ranges::max(options.prompts));
  config.speculative.adaptive = adaptive;
  GALE_ASSIGN_OR_RETURN(const auto engine, StartScripted(config, script));
  for (BatchSweep& sweep : sweeps) {
    const auto requests = RandomRequests(options, sweep.prompts, engine->model_info().vocab_size);
    for (const double acceptance : options.acceptance) {
      script.acceptance = acceptance;
      GALE_ASSIGN_OR_RETURN(Run run, RunMedian(*engine, requests, options.times));
      (adaptive ? sweep.controlled : sweep.fixed).push_back(std::move(run));
    }
  }
  return {};
}

Status BenchSweep(const SpeculativeOptions& options) {
  std::vector<BatchSweep> sweeps;
  DraftScript script;
  std::string device;
  {
    EngineConfig config = ConfigFor(options, std::ranges::max(options.prompts));
    config.speculative = {};
    GALE_ASSIGN_OR_RETURN(const auto engine, LlmEngine::Create(config));
    device = engine->device();
    for (const int prompts : options.prompts) {
      const auto requests = RandomRequests(options, prompts, engine->model_info().vocab_size);
      GALE_ASSIGN_OR_RETURN(const Run run, RunMedian(*engine, requests, options.times));
      sweeps.push_back(
          {.prompts = prompts, .off = run.tokens_per_s, .fixed = {}, .controlled = {}});
      for (size_t i = 0; i < requests.size(); ++i) {
        script.replies[std::get<std::vector<TokenId>>(requests[i].prompt)] = run.replies[i];
      }
    }
  }
  for (const bool adaptive : {false, true}) {
    GALE_RETURN_IF_ERROR(RunSweeps(options, adaptive, script, sweeps));
  }

  json::array rows;
  std::string text =
      fmt::format("{}\n{:>6} {:>10} {:>12} {:>12} {:>8} {:>12} {:>8}\n", device, "batch",
                  "acceptance", "off tok/s", "longest", "gain", "controlled", "gain");
  for (const BatchSweep& sweep : sweeps) {
    for (size_t i = 0; i < options.acceptance.size(); ++i) {
      const double fixed = sweep.fixed[i].tokens_per_s;
      const double controlled = sweep.controlled[i].tokens_per_s;
      text += fmt::format("{:>6} {:>10.2f} {:>12.1f} {:>12.1f} {:>7.2f}x {:>12.1f} {:>7.2f}x\n",
                          sweep.prompts, options.acceptance[i], sweep.off, fixed, fixed / sweep.off,
                          controlled, controlled / sweep.off);
      rows.push_back({{"batch", sweep.prompts},
                      {"acceptance", options.acceptance[i]},
                      {"accepted", sweep.fixed[i].accepted},
                      {"off_tokens_per_s", sweep.off},
                      {"longest_tokens_per_s", fixed},
                      {"controlled_tokens_per_s", controlled}});
    }
    const double even = BreakEven(options.acceptance, sweep);
    text += even > 1
                ? fmt::format("batch {}: the longest drafts never pay\n", sweep.prompts)
                : fmt::format("batch {}: the longest drafts pay from an acceptance of {:.2f}\n",
                              sweep.prompts, even);
  }
  if (options.WantsText()) GALE_RETURN_IF_ERROR(WriteOut(text));
  return WriteBenchJson(options, json::object{{"device", device}, {"cases", std::move(rows)}});
}

/// Each method on the same prompts, one after the other, greedily.
Status BenchMethods(const SpeculativeOptions& options) {
  GALE_ASSIGN_OR_RETURN(const std::vector<Prompt> prompts, ReadPromptFile(options.prompt_file));
  json::array rows;
  double off = 0;
  for (const std::string& method : options.methods) {
    EngineConfig config = ConfigFor(options, 1);
    GALE_ASSIGN_OR_RETURN(config.speculative, ParseSpeculativeConfig(method));
    config.speculative.max_tokens = options.engine.speculative.max_tokens;
    config.speculative.adaptive = !options.longest;
    GALE_ASSIGN_OR_RETURN(const auto engine, LlmEngine::Create(config));
    if (engine->tokenizer() == nullptr) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: expected a model with a tokenizer.json, for --prompts", config.model));
    }
    double seconds = 0;
    double tokens = 0;
    double steps = 0;
    for (const Prompt& prompt : prompts) {
      RequestParams request;
      request.prompt = engine->tokenizer()->Encode(prompt.text, {.parse_special = true});
      request.sampling.temperature = 0;
      request.sampling.max_tokens = options.output_tokens;
      GALE_ASSIGN_OR_RETURN(const Run run, RunMedian(*engine, {request}, options.times));
      const double said = static_cast<double>(run.replies[0].size()) - 1;
      if (said < 1) continue;
      seconds += said / run.tokens_per_s;
      steps += said / run.tokens_per_step;
      tokens += said;
    }
    const double speed = tokens / seconds;
    if (rows.empty()) {
      off = speed;
      if (options.WantsText()) {
        GALE_RETURN_IF_ERROR(WriteOut(fmt::format("{}\n{:>12} {:>14} {:>8}  {}\n", engine->device(),
                                                  "tok/s", "tokens/step", "gain", "method")));
      }
    }
    if (options.WantsText()) {
      GALE_RETURN_IF_ERROR(WriteOut(fmt::format("{:>12.1f} {:>14.2f} {:>7.2f}x  {}\n", speed,
                                                tokens / steps, speed / off, method)));
    }
    rows.push_back({{"method", method},
                    {"tokens_per_s", speed},
                    {"tokens_per_step", tokens / steps},
                    {"gain", speed / off}});
  }
  return WriteBenchJson(options, json::object{{"cases", std::move(rows)}});
}

constexpr const char* kFooter = R"(
Without --prompts, random prompts are answered without guesses first, and then again with the given
--speculative method doing all its work, while its guesses are replaced by what is known to come or,
with the chance that --acceptance leaves, by something else: what a rate of right guesses gains,
whatever the text. "longest" drafts --draft-tokens every time, "controlled" as many as pay. Below
each batch stands the acceptance from which on the longest drafts gain.
With --prompts, a file of one {"prompt": "..."} a line in which special tokens may be spelled out,
--methods are compared on these prompts, one at a time and greedily; gains are over the first.

Examples:
  gale bench speculative -m models/gale-tales-10m --speculative ngram --draft-tokens 4
  gale bench speculative -m models/gale-tales-10m --prompts prompts.jsonl \
      --methods off ngram draft:models/gale-tales-draft eagle:models/gale-tales-eagle)";

}  // namespace

void AddBenchSpeculativeCommand(CLI::App& bench, Action& action) {
  auto options = std::make_shared<SpeculativeOptions>();
  CLI::App* command = bench.add_subcommand("speculative", "What guessing tokens ahead gains");
  const BenchFlags flags{*command};
  flags.Count("--batch-size", options->prompts, "Prompts at once");
  flags.Count("--prompt-tokens", options->prompt_tokens, "Random tokens of each prompt");
  flags.Count("--output-tokens", options->output_tokens, "Most tokens generated for each prompt");
  command
      ->add_option("--acceptance", options->acceptance,
                   "Chances of a guessed token to be right, ascending")
      ->type_name("P,...")
      ->check(CLI::Range(0.0, 1.0))
      ->delimiter(',')
      ->capture_default_str();
  CLI::Option* prompts =
      command->add_option("--prompts", options->prompt_file, "Prompts to compare --methods on")
          ->type_name("FILE");
  command
      ->add_option("--methods", options->methods, "As of --speculative; the first is compared to")
      ->type_name("METHOD...")
      ->needs(prompts);
  command
      ->add_flag("--longest", options->longest,
                 "With --prompts: --draft-tokens every time, not as many as pay")
      ->needs(prompts);
  flags.Common(*options, kMinRepeats);
  command->footer(kFooter);
  command->callback([options, &action] {
    if (!options->prompt_file.empty()) {
      if (options->methods.empty()) throw CLI::RequiredError("--methods");
      action = [options] { return BenchMethods(*options); };
      return;
    }
    if (options->engine.speculative.method == Speculation::kOff) {
      throw CLI::RequiredError("--speculative");
    }
    action = [options] { return BenchSweep(*options); };
  });
}

}  // namespace gale::cli
