#include "cli/bench_report.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "cli/build_info.h"
#include "cli/json_text.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

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

Spread ReadSpread(const std::vector<DeviceSpeed>& limits) {
  return SpreadOver(limits, [](const DeviceSpeed& speed) { return speed.read_bytes_per_s; });
}
Spread ProductSpread(const std::vector<DeviceSpeed>& limits) {
  return SpreadOver(limits, [](const DeviceSpeed& speed) { return speed.product_flop_per_s; });
}
Spread LibrarySpread(const std::vector<DeviceSpeed>& limits) {
  return SpreadOver(limits, [](const DeviceSpeed& speed) { return speed.library_flop_per_s; });
}
Spread UploadSpread(const std::vector<DeviceSpeed>& limits) {
  return SpreadOver(limits, [](const DeviceSpeed& speed) { return speed.upload_bytes_per_s; });
}
Spread StepSpread(const CaseResult& result) {
  return SpreadOver(result.repeats, [](const Repeat& repeat) { return repeat.step_s; });
}
Spread FirstTokenSpread(const CaseResult& result) {
  return SpreadOver(result.repeats, [](const Repeat& repeat) { return repeat.first_token_s; });
}
Spread BusySpread(const CaseResult& result) {
  return SpreadOver(result.repeats, [](const Repeat& repeat) { return repeat.busy_s; });
}
Spread GapSpread(const CaseResult& result) {
  return SpreadOver(result.repeats, [](const Repeat& repeat) { return repeat.gap_s; });
}
Spread TotalSpread(const CaseResult& result) {
  return SpreadOver(result.repeats, [](const Repeat& repeat) { return repeat.total_s; });
}

/// Which of the steps ran in one piece.
struct StepShares {
  double fused = 0;
  double graph = 0;

  std::string Text() const {
    if (fused > 0.5) return "fused";
    return graph > 0.5 ? "graph" : "ops";
  }
};

StepShares Shares(const CaseResult& result) {
  const auto fused = [](const Repeat& repeat) { return repeat.fused_share; };
  const auto graph = [](const Repeat& repeat) { return repeat.graph_share; };
  return {SpreadOver(result.repeats, fused).median, SpreadOver(result.repeats, graph).median};
}

/// Seconds in which the step's bytes could be read.
double StepLimit(const CaseResult& result) {
  return result.step_bytes / ReadSpread(result.limits).median;
}

json::object CaseRecord(const BenchCase& what) {
  return {{"prompts", what.prompts},
          {"prompt_tokens", what.prompt_tokens},
          {"output_tokens", what.output_tokens},
          {"top_k", what.top_k}};
}

}  // namespace

json::object SpreadRecord(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

json::object RunRecord(const LlmEngine& engine, const BenchRepeats& times) {
  const EngineConfig& config = engine.config();
  return {{"model", config.model},
          {"weights", config.load_format == LoadFormat::kDummy ? "random" : "checkpoint"},
          {"num_parameters", engine.model_info().num_parameters},
          {"dtype", config.dtype == ModelDType::kF32 ? "f32" : "bf16"},
          {"device", engine.device()},
          {"cpu", CpuModel()},
          {"threads", config.threads},
          {"numerics", config.numerics == Numerics::kFast ? "fast" : "batch-invariant"},
          {"overlap", config.overlap},
          {"seed", config.seed},
          {"warmup", times.warmup},
          {"repeats", times.repeats},
          {"commit", kBuildInfo.commit},
          {"build", fmt::format("{}, {}", kBuildInfo.compiler, kBuildInfo.build_type)},
          {"command", CommandLine()}};
}

json::object LatencyRecord(const CaseResult& result) {
  json::object record = CaseRecord(result.what);
  const Spread step = StepSpread(result);
  record["first_token_s"] = SpreadRecord(FirstTokenSpread(result));
  record["token_s"] = SpreadRecord(step);
  record["total_s"] = SpreadRecord(TotalSpread(result));
  record["tokens_per_s"] = result.what.prompts / step.median;
  record["step_busy_s"] = SpreadRecord(BusySpread(result));
  record["step_gap_s"] = SpreadRecord(GapSpread(result));
  record["fused_share"] = Shares(result).fused;
  record["graph_share"] = Shares(result).graph;
  record["decode_step_bytes"] = result.step_bytes;
  record["decode_step_limit_s"] = StepLimit(result);
  record["decode_fraction_of_limit"] = StepLimit(result) / step.median;
  return record;
}

json::object LimitsRecord(const std::vector<DeviceSpeed>& limits) {
  json::object record = {{"read_bytes_per_s", SpreadRecord(ReadSpread(limits))},
                         {"product_flop_per_s", SpreadRecord(ProductSpread(limits))}};
  const Spread library = LibrarySpread(limits);
  const Spread upload = UploadSpread(limits);
  if (library.max > 0) record["library_flop_per_s"] = SpreadRecord(library);
  if (upload.max > 0) record["upload_bytes_per_s"] = SpreadRecord(upload);
  return record;
}

std::string LatencyHeader() {
  return fmt::format(
      "{:<16} {:>5} {:>4} {:>4} {:>8} {:>8} {:>17} {:>8} {:>6} {:>5} {:>9} {:>7} {:>7}\n", "model",
      "batch", "in", "out", "first ms", "step ms", "min to max", "busy ms", "gap us", "as", "tok/s",
      "GB/step", "of read");
}

std::string LatencyRow(const std::string& model, const CaseResult& result) {
  const Spread step = StepSpread(result);
  return fmt::format(
      "{:<16} {:>5} {:>4} {:>4} {:>8.3f} {:>8.4f} {:>17} {:>8.4f} {:>6.1f} {:>5} {:>9.1f} {:>7.3f} "
      "{:>7.3f}\n",
      std::filesystem::path(model).filename().string(), result.what.prompts,
      result.what.prompt_tokens, result.what.output_tokens, FirstTokenSpread(result).median * 1e3,
      step.median * 1e3, fmt::format("{:.4f}-{:.4f}", step.min * 1e3, step.max * 1e3),
      BusySpread(result).median * 1e3, GapSpread(result).median * 1e6, Shares(result).Text(),
      result.what.prompts / step.median, result.step_bytes / 1e9, StepLimit(result) / step.median);
}

std::string WhyVoid(const std::string& device, const std::vector<DeviceSpeed>& limits) {
  return TooSlow(device, {.read_bytes_per_s = ReadSpread(limits).median,
                          .product_flop_per_s = ProductSpread(limits).median});
}

std::string LimitsText(const std::string& device, const std::vector<DeviceSpeed>& limits) {
  const auto figure = [](const char* name, const Spread& spread, double unit, const char* word) {
    return fmt::format("{} {:.4g} {} ({:.4g} to {:.4g})", name, spread.median / unit, word,
                       spread.min / unit, spread.max / unit);
  };
  const Spread read = ReadSpread(limits);
  const Spread products = ProductSpread(limits);
  const Spread library = LibrarySpread(limits);
  const Spread upload = UploadSpread(limits);
  std::string text = figure("memory read", read, 1e9, "GB/s") + ", " +
                     figure("products", products, 1e12, "TFLOP/s");
  if (library.max > 0) text += ", " + figure("8192^3 by the library", library, 1e12, "TFLOP/s");
  if (upload.max > 0) text += ", " + figure("upload", upload, 1e9, "GB/s");
  const std::string slow = WhyVoid(device, limits);
  return text + (slow.empty() ? "\n" : fmt::format("\nVOID: {}\n", slow));
}

std::string RecordText(const json::object& record) {
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

}  // namespace gale::cli
