// gale bench load: how fast a model's weights come into the device's memory, and how soon after the
// first token does.
#include <chrono>
#include <memory>
#include <vector>

#include <boost/json.hpp>

#include "cli/bench_flags.h"
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/load_clock.h"
#include "cli/standard_io.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

struct LoadRepeat {
  LoadClock weights;
  double ready_s = 0;        ///< until the engine takes requests
  double first_token_s = 0;  ///< until the first token of a request that is there at once
  DeviceSpeed limits;
};

Result<LoadRepeat> LoadOnce(const EngineConfig& config, json::object& run) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const auto seconds = [start] {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  LoadRepeat repeat;
  std::string device;
  {
    const auto engine = LlmEngine::Create(
        config, [&](uint64_t, uint64_t) { repeat.weights.Progressed(); },
        [&](const MemoryReport& memory) { repeat.weights.Planned(memory); });
    if (!engine) return tl::unexpected(engine.error());
    repeat.ready_s = seconds();
    RequestParams request;
    request.prompt = std::vector<TokenId>(16, 1);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 1;
    const std::vector<RequestOutput> outputs = (*engine)->Generate({std::move(request)});
    if (outputs[0].error) return tl::unexpected(*outputs[0].error);
    repeat.first_token_s = seconds();
    if (run.empty()) run = RunRecord(**engine, {});
    device = (*engine)->config().device;
  }
  constexpr size_t kProbeBytes = size_t{1} << 30;
  const auto limits = MeasureDeviceSpeed(device, config.threads, kProbeBytes);
  if (!limits) return tl::unexpected(limits.error());
  repeat.limits = *limits;
  return repeat;
}

json::object LoadingRecord(const std::vector<LoadRepeat>& repeats) {
  using R = const LoadRepeat&;
  json::object record = {{"weight_bytes", repeats.front().weights.bytes()}};
  const auto add = [&](const char* name, auto&& value) {
    record[name] = SpreadRecord(SpreadOver(repeats, value));
  };
  add("weights_s", [](R r) { return r.weights.seconds(); });
  add("weight_bytes_per_s", [](R r) { return r.weights.bytes_per_s(); });
  if (repeats.front().limits.upload_bytes_per_s > 0) {
    add("fraction_of_upload",
        [](R r) { return r.weights.bytes_per_s() / r.limits.upload_bytes_per_s; });
  }
  add("ready_s", [](R r) { return r.ready_s; });
  add("first_token_s", [](R r) { return r.first_token_s; });
  return record;
}

Status BenchLoad(const BenchOptions& options) {
  std::vector<LoadRepeat> repeats;
  std::vector<DeviceSpeed> limits;
  json::object record;
  for (int i = 0; i < options.times.warmup + options.times.repeats; ++i) {
    const Result<LoadRepeat> repeat = LoadOnce(options.engine, record);
    if (!repeat) return tl::unexpected(repeat.error());
    if (i < options.times.warmup) continue;
    repeats.push_back(*repeat);
    limits.push_back(repeat->limits);
  }
  record["warmup"] = options.times.warmup;
  record["repeats"] = options.times.repeats;
  for (const auto& group : {LoadingRecord(repeats), LimitsRecord(limits)}) {
    record.insert(group.begin(), group.end());
  }
  if (options.WantsText()) {
    if (Status written = WriteOut(RecordText(record)); !written) return written;
  }
  return WriteBenchJson(options, record);
}

constexpr const char* kFooter = R"(
Loads the model anew for each repeat; from the second on its files are in the page cache, so a
warm-up leaves the disk out. weight_bytes are those that are copied into the device's memory (on the
CPU many are used where the files are mapped), fraction_of_upload is their rate over that of copies
from pinned host memory, measured between the repeats. ready_s and first_token_s begin with the
loading; after a warm-up the process, and on a GPU its context, are there by then.

Example:
  gale bench load --model Qwen/Qwen3-0.6B --device cuda --repeats 5)";

}  // namespace

void AddBenchLoadCommand(CLI::App& bench, Action& action) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = bench.add_subcommand("load", "Time to load a model, and to the first token");
  constexpr int kMinRepeats = 5;
  BenchFlags{*command}.Common(*options, kMinRepeats);
  command->footer(kFooter);
  command->callback([options, &action] { action = [options] { return BenchLoad(*options); }; });
}

}  // namespace gale::cli
