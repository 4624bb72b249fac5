// gale bench latency and gale bench throughput: median and spread of repeated runs, beside the
// memory bandwidth measured between them.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "cli/build_info.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/figures.h"
#include "cli/json_text.h"
#include "cli/read_bandwidth.h"
#include "cli/standard_io.h"
#include "cli/whole_number.h"

namespace gale::cli {
namespace {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;

constexpr int kMinRepeats = 5;
constexpr size_t kMaxBandwidthBytes = size_t{1} << 30;

struct BenchOptions {
  int prompts = 1;
  int prompt_tokens = 128;
  int output_tokens = 128;
  int repeats = kMinRepeats;
  int warmup = 1;
  bool json = false;
  EngineConfig engine;
};

/// One repeat: all prompts at once, from the first request to the last reply's end.
struct Repeat {
  double total_s = 0;
  double first_token_s = 0;  ///< mean over the prompts
  double step_s = 0;         ///< mean time from token to token after the first
};

double Seconds(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Random ids, other ones in each repeat, so that no prompt is read from the prefix cache.
std::vector<RequestParams> RandomRequests(const BenchOptions& options, int vocab_size,
                                          std::mt19937_64& random) {
  std::uniform_int_distribution<TokenId> token(0, vocab_size - 1);
  std::vector<RequestParams> requests(static_cast<size_t>(options.prompts));
  for (RequestParams& request : requests) {
    std::vector<TokenId> prompt(static_cast<size_t>(options.prompt_tokens));
    std::generate(prompt.begin(), prompt.end(), [&] { return token(random); });
    request.prompt = std::move(prompt);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = options.output_tokens;
    request.sampling.ignore_eos = true;
  }
  return requests;
}

Result<Repeat> RunOnce(LlmEngine& engine, const BenchOptions& options, std::mt19937_64& random) {
  std::vector<RequestParams> requests =
      RandomRequests(options, engine.model_info().vocab_size, random);
  const Clock::time_point start = Clock::now();
  const std::vector<RequestOutput> outputs = engine.Generate(std::move(requests));
  Repeat repeat{.total_s = Seconds(start)};
  for (const RequestOutput& output : outputs) {
    if (output.error) return tl::unexpected(*output.error);
    const double decode_s = output.times.total_s - output.times.first_token_s;
    repeat.first_token_s += output.times.first_token_s / options.prompts;
    repeat.step_s += decode_s / std::max(1, options.output_tokens - 1) / options.prompts;
  }
  return repeat;
}

/// Bytes that one decode step of the whole batch must read: every weight but the rows of an untied
/// embedding table, and each sequence's keys and values at the middle of its reply.
double DecodeBytes(const LlmEngine& engine, const BenchOptions& options) {
  const ModelInfo& info = engine.model_info();
  const double element_bytes = engine.config().dtype == ModelDType::kF32 ? 4 : 2;
  const double checkpoint_element_bytes = info.dtype == "f32" ? 4 : 2;
  double weights = static_cast<double>(info.num_parameters);
  if (!info.tied_embeddings) weights -= static_cast<double>(info.vocab_size) * info.hidden_size;
  const double kv_per_token =
      static_cast<double>(info.kv_bytes_per_token) / checkpoint_element_bytes * element_bytes;
  return weights * element_bytes +
         kv_per_token * options.prompts * (options.prompt_tokens + options.output_tokens / 2.0);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

json::object Spread(const std::vector<double>& values) {
  return {{"median", Median(values)},
          {"min", *std::min_element(values.begin(), values.end())},
          {"max", *std::max_element(values.begin(), values.end())}};
}

template <class Function>
std::vector<double> Each(const std::vector<Repeat>& repeats, Function value) {
  std::vector<double> values;
  for (const Repeat& repeat : repeats) values.push_back(value(repeat));
  return values;
}

std::string CpuModel() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string CommandLine() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string arguments((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!arguments.empty()) arguments.pop_back();
  std::replace(arguments.begin(), arguments.end(), '\0', ' ');
  return arguments;
}

json::object RunRecord(const LlmEngine& engine, const BenchOptions& options) {
  const EngineConfig& config = engine.config();
  return {{"model", config.model},
          {"weights", config.load_format == LoadFormat::kDummy ? "random" : "checkpoint"},
          {"num_parameters", engine.model_info().num_parameters},
          {"dtype", config.dtype == ModelDType::kF32 ? "f32" : "bf16"},
          {"device", config.device},
          {"cpu", CpuModel()},
          {"threads", config.threads},
          {"numerics", config.numerics == Numerics::kFast ? "fast" : "batch-invariant"},
          {"overlap", config.overlap},
          {"seed", config.seed},
          {"prompts", options.prompts},
          {"prompt_tokens", options.prompt_tokens},
          {"output_tokens", options.output_tokens},
          {"warmup", options.warmup},
          {"repeats", options.repeats},
          {"commit", kBuildInfo.commit},
          {"build", fmt::format("{}, {}", kBuildInfo.compiler, kBuildInfo.build_type)},
          {"command", CommandLine()}};
}

json::object LatencyRecord(const std::vector<Repeat>& repeats) {
  return {{"first_token_s", Spread(Each(repeats, [](const Repeat& r) { return r.first_token_s; }))},
          {"token_s", Spread(Each(repeats, [](const Repeat& r) { return r.step_s; }))},
          {"total_s", Spread(Each(repeats, [](const Repeat& r) { return r.total_s; }))}};
}

json::object ThroughputRecord(const std::vector<Repeat>& repeats, const BenchOptions& options) {
  const auto per_second = [&](double count) {
    return Spread(Each(repeats, [&](const Repeat& r) { return count / r.total_s; }));
  };
  const double prompts = options.prompts;
  return {
      {"output_tokens_per_s", per_second(prompts * options.output_tokens)},
      {"total_tokens_per_s", per_second(prompts * (options.prompt_tokens + options.output_tokens))},
      {"prompts_per_s", per_second(prompts)},
      {"total_s", Spread(Each(repeats, [](const Repeat& r) { return r.total_s; }))}};
}

/// Decode speed against the time that reading its bytes alone would take.
json::object LimitRecord(const std::vector<double>& bandwidths, double bytes, double step_s) {
  return {{"read_bytes_per_s", Spread(bandwidths)},
          {"decode_step_bytes", bytes},
          {"decode_step_limit_s", bytes / Median(bandwidths)},
          {"decode_fraction_of_limit", bytes / Median(bandwidths) / step_s}};
}

std::string Text(const json::object& record) {
  std::string text;
  for (const auto& [key, value] : record) {
    const std::string name(key.data(), key.size());
    const json::object* spread = value.if_object();
    if (spread == nullptr) {
      std::string line = JsonLine(value, 5);
      if (value.is_string()) line = json::value_to<std::string>(value) + '\n';
      text += fmt::format("{:<26} {}", name, line);
      continue;
    }
    text += fmt::format(
        "{:<26} {:.5g}  ({:.5g} to {:.5g})\n", name, spread->at("median").to_number<double>(),
        spread->at("min").to_number<double>(), spread->at("max").to_number<double>());
  }
  return text;
}

Status Bench(const BenchOptions& options, bool latency) {
  Result<std::unique_ptr<LlmEngine>> engine = LoadEngine(options.engine);
  if (!engine) return tl::unexpected(engine.error());
  const double decode_bytes = DecodeBytes(**engine, options);
  const size_t bandwidth_bytes = std::min(static_cast<size_t>(decode_bytes), kMaxBandwidthBytes);
  std::mt19937_64 random(options.engine.seed);
  std::vector<Repeat> repeats;
  std::vector<double> bandwidths;
  for (int i = 0; i < options.warmup + options.repeats; ++i) {
    const Result<Repeat> repeat = RunOnce(**engine, options, random);
    if (!repeat) return tl::unexpected(repeat.error());
    if (i < options.warmup) continue;
    repeats.push_back(*repeat);
    bandwidths.push_back(MeasureReadBandwidth(bandwidth_bytes, (*engine)->config().threads));
  }

  json::object record = RunRecord(**engine, options);
  const json::object figures =
      latency ? LatencyRecord(repeats) : ThroughputRecord(repeats, options);
  record.insert(figures.begin(), figures.end());
  if (latency) {
    const double step_s = Median(Each(repeats, [](const Repeat& r) { return r.step_s; }));
    const json::object limit = LimitRecord(bandwidths, decode_bytes, step_s);
    record.insert(limit.begin(), limit.end());
  } else {
    record["read_bytes_per_s"] = Spread(bandwidths);
  }
  const ProcessMemory memory = ReadProcessMemory();
  record["mapped_bytes"] = memory.mapped_bytes;
  record["private_bytes"] = memory.private_bytes;
  return WriteOut(options.json ? JsonIndented(record, 5) : Text(record));
}

constexpr const char* kLatencyFooter = R"(
All prompts of a repeat start together and stay together: --batch 1 is one user's latency. Figures
are the median of the repeats, with the smallest and the largest:
  first_token_s             from the request to its first token
  token_s                   from token to token after that (one decode step of the batch)
  read_bytes_per_s          what as many threads read from memory, measured between repeats in a
                            buffer as large as what a decode step reads (at most 1 GiB)
  decode_fraction_of_limit  time to read a step's bytes at that speed, over token_s

Examples:
  gale bench latency --model models/gale-tales-10m --json
  gale bench latency --model qwen3-0.6b --load-format dummy --batch 4 --prompt-tokens 512)";

constexpr const char* kThroughputFooter = R"(
All prompts are handed over at once; the engine batches them as its limits allow (--max-num-seqs,
--max-num-batched-tokens). Figures are the median of the repeats, with the smallest and the largest.

Example:
  gale bench throughput --model models/gale-tales-10m --prompts 64 --output-tokens 128 --json)";

struct BenchCommand {
  const char* name;
  const char* description;
  const char* prompts_flag;
  int default_prompts;
  bool latency;
  const char* footer;
};

void AddBenchCommand(CLI::App& bench, Action& action, const BenchCommand& kind) {
  auto options = std::make_shared<BenchOptions>();
  options->prompts = kind.default_prompts;
  CLI::App* command = bench.add_subcommand(kind.name, kind.description);
  const auto count = [command](const char* name, int& value, const char* description) {
    return command->add_option(name, value, description)
        ->type_name("N")
        ->check(WholeNumber(1))
        ->capture_default_str();
  };
  count(kind.prompts_flag, options->prompts, "Prompts at once");
  count("--prompt-tokens", options->prompt_tokens, "Random tokens of each prompt");
  count("--output-tokens", options->output_tokens, "Tokens generated for each prompt");
  command->add_option("--repeats", options->repeats, "Measured repeats, at least 5")
      ->type_name("N")
      ->check(WholeNumber(kMinRepeats, 1000))
      ->capture_default_str();
  command->add_option("--warmup", options->warmup, "Repeats before them that are not measured")
      ->type_name("N")
      ->check(WholeNumber(0))
      ->capture_default_str();
  command->add_flag("--json", options->json, "As JSON");
  AddEngineFlags(*command, options->engine);
  command->footer(kind.footer);
  command->callback([options, &action, latency = kind.latency] {
    action = [options, latency] { return Bench(*options, latency); };
  });
}

}  // namespace

void AddBenchLatencyCommand(CLI::App& bench, Action& action) {
  AddBenchCommand(bench, action,
                  {"latency", "Time to the first token and from token to token", "--batch", 1, true,
                   kLatencyFooter});
}

void AddBenchThroughputCommand(CLI::App& bench, Action& action) {
  AddBenchCommand(bench, action,
                  {"throughput", "Tokens per second over many prompts", "--prompts", 64, false,
                   kThroughputFooter});
}

}  // namespace gale::cli
