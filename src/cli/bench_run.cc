#include "cli/bench_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace gale::cli {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Random ids, other ones in each repeat, so that no prompt is read from the prefix cache.
std::vector<RequestParams> RandomRequests(const BenchCase& what, int vocab_size,
                                          std::mt19937_64& random) {
  std::uniform_int_distribution<TokenId> token(0, vocab_size - 1);
  std::vector<RequestParams> requests(static_cast<size_t>(what.prompts));
  for (RequestParams& request : requests) {
    std::vector<TokenId> prompt(static_cast<size_t>(what.prompt_tokens));
    std::generate(prompt.begin(), prompt.end(), [&] { return token(random); });
    request.prompt = std::move(prompt);
    request.sampling.temperature = what.top_k > 0 ? 1 : 0;
    request.sampling.top_k = what.top_k;
    request.sampling.max_tokens = what.output_tokens;
    request.sampling.ignore_eos = true;
  }
  return requests;
}

Result<Repeat> RunOnce(LlmEngine& engine, const BenchCase& what, std::mt19937_64& random) {
  std::vector<RequestParams> requests =
      RandomRequests(what, engine.model_info().vocab_size, random);
  const EngineStats before = engine.stats();
  const Clock::time_point start = Clock::now();
  const std::vector<RequestOutput> outputs = engine.Generate(std::move(requests));
  Repeat repeat;
  repeat.total_s = Seconds(start);
  std::vector<double> step_s;
  for (const RequestOutput& output : outputs) {
    if (output.error) return tl::unexpected(*output.error);
    const double decode_s = output.times.total_s - output.times.first_token_s;
    repeat.first_token_s += output.times.first_token_s / what.prompts;
    step_s.push_back(decode_s / std::max(1, what.output_tokens - 1));
  }
  // A prompt that came a step before the others has a step of theirs among its own.
  repeat.step_s = SpreadOf(std::move(step_s)).median;
  const EngineStats after = engine.stats();
  const auto steps = static_cast<double>(after.steps - before.steps);
  repeat.busy_s = (after.device_busy_s - before.device_busy_s) / steps;
  repeat.fused_share = static_cast<double>(after.fused_steps - before.fused_steps) / steps;
  repeat.graph_share = static_cast<double>(after.graph_steps - before.graph_steps) / steps;
  if (const uint64_t overlapped = after.overlapped_steps - before.overlapped_steps) {
    repeat.gap_s = (after.device_idle_s - before.device_idle_s) / static_cast<double>(overlapped);
  }
  return repeat;
}

/// The share of its experts that a layer needs for so many tokens, when routers pick at random.
double ShareOfExperts(const ModelInfo& info, double tokens) {
  if (info.num_experts == 0) return 1;
  const double missed = 1 - static_cast<double>(info.experts_per_token) / info.num_experts;
  return 1 - std::pow(missed, tokens);
}

double ElementBytes(const LlmEngine& engine) {
  return engine.config().dtype == ModelDType::kF32 ? 4 : 2;
}

/// Of a key or a value in the cache, its share of a scale included.
double CachedElementBytes(const LlmEngine& engine) {
  const double scale = 4.0 / engine.model_info().head_dim;
  switch (engine.config().kv_cache_dtype.value_or(KvFormat::kBf16)) {
    case KvFormat::kF32: return 4;
    case KvFormat::kBf16: return 2;
    case KvFormat::kFp8:
    case KvFormat::kInt8: return 1 + scale;
    case KvFormat::kInt4: return 0.5 + scale;
  }
  return 0;
}

/// The weights, and each sequence's keys and values at the middle of its reply, windows full.
double StepBytes(const LlmEngine& engine, const BenchCase& what) {
  const ModelInfo& info = engine.model_info();
  const double checkpoint_element_bytes = info.dtype == "f32" ? 4 : 2;
  const double kv_bytes = static_cast<double>(info.kv_bytes_per_token) *
                              (what.prompt_tokens + what.output_tokens / 2.0) +
                          static_cast<double>(info.kv_window_bytes);
  return StepWeightBytes(engine, what.prompts) +
         kv_bytes / checkpoint_element_bytes * CachedElementBytes(engine) * what.prompts;
}

/// Of a weight that is quantized on load, its share of scales included, which are two bytes where
/// kernels pack them; of the head or of other layers.
double QuantizedBytes(LoadQuantization quantize, bool is_head) {
  switch (quantize) {
    case LoadQuantization::kInt8: return 34.0 / 32;
    case LoadQuantization::kInt4: return is_head ? 34.0 / 32 : 18.0 / 32;
    case LoadQuantization::kInt4Group: return is_head ? 130.0 / 128 : 66.5 / 128;
    case LoadQuantization::kInt8Output:
    case LoadQuantization::kFp8:
    case LoadQuantization::kFp8Block: return 1;
    case LoadQuantization::kNone: break;
  }
  return 0;
}

}  // namespace

double StepWeightBytes(const LlmEngine& engine, double tokens) {
  const ModelInfo& info = engine.model_info();
  // Under two bytes each they are blocks of a quantized file, which stay as they are.
  const double stored = static_cast<double>(info.weight_bytes) / info.num_parameters;
  auto weights = static_cast<double>(info.num_parameters);
  weights -= static_cast<double>(info.expert_parameters) * (1 - ShareOfExperts(info, tokens));
  if (!info.tied_embeddings) weights -= static_cast<double>(info.vocab_size) * info.hidden_size;
  const LoadQuantization quantize = engine.config().quantize;
  if (quantize != LoadQuantization::kNone) {
    // Norms and routers are too few to count apart.
    const double head = static_cast<double>(info.vocab_size) * info.hidden_size;
    return (weights - head) * QuantizedBytes(quantize, false) +
           head * QuantizedBytes(quantize, true);
  }
  return weights * (stored < 2 ? stored : ElementBytes(engine));
}

size_t ProbeBytes(const LlmEngine& engine, double step_bytes) {
  constexpr size_t kMaxCpuBytes = size_t{1} << 30;
  constexpr size_t kGpuBytes = size_t{3} << 30;
  if (engine.config().device != "cpu") return kGpuBytes;
  return std::min(static_cast<size_t>(step_bytes), kMaxCpuBytes);
}

Spread SpreadOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

Result<CaseResult> RunCase(LlmEngine& engine, const BenchCase& what, const BenchRepeats& times,
                           std::mt19937_64& random) {
  CaseResult result{what, StepBytes(engine, what), {}, {}};
  for (int i = 0; i < times.warmup + times.repeats; ++i) {
    const Result<Repeat> repeat = RunOnce(engine, what, random);
    if (!repeat) return tl::unexpected(repeat.error());
    if (i < times.warmup) continue;
    const Result<DeviceSpeed> speed = MeasureDeviceSpeed(
        engine.config().device, engine.config().threads, ProbeBytes(engine, result.step_bytes));
    if (!speed) return tl::unexpected(speed.error());
    result.repeats.push_back(*repeat);
    result.limits.push_back(*speed);
  }
  return result;
}

}  // namespace gale::cli
