#include "cli/engine_flags.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <limits>
#include <map>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/figures.h"
#include "cli/load_clock.h"
#include "cli/model_argument.h"
#include "cli/progress_bar.h"
#include "cli/whole_number.h"
#include "gale/eval.h"

namespace gale::cli {

namespace {

constexpr const char* kGroup = "Engine";

CLI::Option* AddCount(CLI::App& command, const char* name, int& value, const char* description) {
  return command.add_option(name, value, description)
      ->type_name("N")
      ->check(WholeNumber(0))
      ->group(kGroup);
}

/// A flag that takes one of a few words.
template <class T>
void AddChoice(CLI::App& command, const char* name, T& value,
               const std::map<std::string, T>& choices, const char* description) {
  std::string words;
  for (const auto& [word, unused] : choices) words += (words.empty() ? "" : ", ") + word;
  const auto parse = [&value, name, choices, words](const std::string& word) {
    const auto choice = choices.find(word);
    if (choice == choices.end()) {
      throw CLI::ValidationError(name, fmt::format("expected one of {}; got {}", words, word));
    }
    value = choice->second;
  };
  command.add_option_function<std::string>(name, parse, description)
      ->type_name("WORD")
      ->group(kGroup);
}

/// "512M", "2GiB", "1000000": K, M and G are powers of 1024.
size_t ParseByteSize(const char* name, const std::string& text) {
  const std::map<std::string, int> shifts = {{"", 0},     {"B", 0},   {"K", 10},  {"KB", 10},
                                             {"KIB", 10}, {"M", 20},  {"MB", 20}, {"MIB", 20},
                                             {"G", 30},   {"GB", 30}, {"GIB", 30}};
  size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit(end, text.data() + text.size());
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  const auto shift = shifts.find(unit);
  if (error != std::errc() || shift == shifts.end() || number > (SIZE_MAX >> shift->second)) {
    throw CLI::ValidationError(name,
                               fmt::format("expected a size such as 512M or 2GiB; got {}", text));
  }
  return number << shift->second;
}

void AddByteSize(CLI::App& command, const char* name, size_t& bytes, const char* description) {
  command
      .add_option_function<std::string>(
          name, [name, &bytes](const std::string& text) { bytes = ParseByteSize(name, text); },
          description)
      ->type_name("SIZE")
      ->group(kGroup);
}

/// "auto" is 0.
int ParseModelLen(const std::string& text) {
  if (text == "auto") return 0;
  const std::string fault = WholeNumber(0)(text);
  if (!fault.empty()) throw CLI::ValidationError("--max-model-len", fault + ", or auto");
  return std::stoi(text);
}

void WarnOfWrongKernels(const EngineConfig& config) {
  const Result<std::string> fault = CheckQuantizedKernels(config);
  // A model that cannot be read is reported by loading.
  if (fault && !fault->empty()) fmt::print(stderr, "gale: warning: {}\n", *fault);
}

void PrintMemory(const MemoryReport& memory) {
  fmt::print(stderr,
             "memory: weights {} mapped and {} private, KV cache {}, scratch {}; {} were free\n"
             "KV room for {} tokens = {} requests of {}\n",
             FormatBytes(memory.weights_mapped_bytes), FormatBytes(memory.weights_private_bytes),
             FormatBytes(memory.kv_bytes), FormatBytes(memory.scratch_bytes),
             FormatBytes(memory.free_bytes), memory.kv_tokens, memory.max_requests,
             memory.max_model_len);
}

}  // namespace

void AddDeviceFlags(CLI::App& command, EngineConfig& config) {
  command
      .add_option("--device", config.device,
                  fmt::format("Where to run: auto, {}", fmt::join(SupportedDevices(), ", ")))
      ->type_name("NAME")
      ->capture_default_str()
      ->group(kGroup);
  AddCount(command, "--threads", config.threads, "CPU threads; 0 = all this process may use");
}

void AddPrecisionFlags(CLI::App& command, EngineConfig& config) {
  AddChoice<ModelDType>(
      command, "--dtype", config.dtype,
      {{"auto", ModelDType::kAuto}, {"f32", ModelDType::kF32}, {"bf16", ModelDType::kBf16}},
      "Weights and arithmetic: f32, bf16 or auto, the model's own (default auto)");
  AddChoice<LoadQuantization>(
      command, "--quantize", config.quantize,
      {{"none", LoadQuantization::kNone},
       {"int8", LoadQuantization::kInt8},
       {"int4", LoadQuantization::kInt4},
       {"int8-output", LoadQuantization::kInt8Output},
       {"int4-g128", LoadQuantization::kInt4Group},
       {"fp8", LoadQuantization::kFp8},
       {"fp8-block", LoadQuantization::kFp8Block}},
      "Weights of linear layers as 8-bit or 4-bit numbers, made while the model loads, dummy ones "
      "too: int8 and int4, 32 to a scale; int4-g128, 128 to a scale and a zero, as AWQ and GPTQ "
      "have them; fp8 and int8-output, a scale for each output and one for each row that meets it; "
      "fp8-block, one for 128 x 128. The output head has 8 bits in any case (default none)");
  AddChoice<std::optional<KvFormat>>(
      command, "--kv-cache-dtype", config.kv_cache_dtype,
      {{"auto", std::nullopt},
       {"f32", KvFormat::kF32},
       {"bf16", KvFormat::kBf16},
       {"fp8", KvFormat::kFp8},
       {"int8", KvFormat::kInt8},
       {"int4", KvFormat::kInt4}},
      "Keys and values in the cache: auto, as the arithmetic has them; fp8, int8 and int4 have a "
      "scale for each token and head, and leave room for twice or four times as many tokens "
      "(default auto)");
}

void AddEngineFlags(CLI::App& command, EngineConfig& config) {
  if (command.get_option_no_throw("--model") == nullptr) AddModelArgument(command, config.model);
  AddDeviceFlags(command, config);
  AddPrecisionFlags(command, config);
  AddChoice<LoadFormat>(
      command, "--load-format", config.load_format,
      {{"auto", LoadFormat::kAuto}, {"dummy", LoadFormat::kDummy}},
      "dummy: seeded random weights of the model's shapes, to measure speed and memory without a "
      "checkpoint; the model may then be a config.json or a preset too (default auto)");
  command
      .add_option_function<std::string>(
          "--max-model-len",
          [&config](const std::string& text) { config.max_model_len = ParseModelLen(text); },
          "Tokens of prompt and reply together; auto or 0 = the model's own limit, or as many as "
          "fit into memory (default auto)")
      ->type_name("N")
      ->group(kGroup);
  AddByteSize(command, "--kv-cache-memory", config.kv_cache_bytes,
              "Memory for keys and values: 512M, 2GiB (powers of 1024)");
  command
      .add_option("--gpu-memory-utilization", config.gpu_memory_utilization,
                  "Share of a GPU's memory that weights, keys and values may fill, with what other "
                  "programs hold of it; for those of --kv-cache-memory it does not matter")
      ->type_name("SHARE")
      ->capture_default_str()
      ->group(kGroup);
  AddByteSize(command, "--kv-host-memory", config.host_kv_bytes,
              "The same on the host, for what that cache gives up: cached prefixes, and preempted "
              "sequences; they come back when they are needed (default: none)");
  AddCount(command, "--max-num-seqs", config.max_num_seqs, "Sequences that run at once")
      ->capture_default_str();
  AddCount(
      command, "--max-num-batched-tokens", config.max_num_batched_tokens,
      "Tokens computed in one step, over all sequences; 0 = what suits the device (default 0)");
  command
      .add_option("--max-step-stretch", config.max_step_stretch,
                  "While others decode, prompts are computed in chunks that make a step take so "
                  "many times what it takes without them, as measured; 0: as large as fits")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_flag_callback(
          "--no-prefix-cache", [&config] { config.enable_prefix_cache = false; },
          "Compute every prompt from its first token")
      ->group(kGroup);
  command
      .add_option_function<std::string>(
          "--speculative",
          [&config](const std::string& text) {
            const Result<SpeculativeConfig> parsed = ParseSpeculativeConfig(text);
            if (!parsed) throw CLI::ValidationError("--speculative", parsed.error().message);
            config.speculative.method = parsed->method;
            config.speculative.model = parsed->model;
          },
          "Guess tokens ahead, for the model to check several in a step; the text stays the same. "
          "ngram: what followed the last tokens when they came before; draft:MODEL: what a smaller "
          "model of the same vocabulary says; eagle:DIR, medusa:DIR: heads trained on the model's "
          "states; mtp: the model's own "
          "layer for it; auto: ngram; off (default off)")
      ->type_name("METHOD")
      ->group(kGroup);
  AddCount(command, "--draft-tokens", config.speculative.max_tokens,
           "Most tokens guessed at a time; how many follows from what pays; 0 = what suits the "
           "method (default 0)");
  command
      .add_flag_callback(
          "--no-overlap", [&config] { config.overlap = false; },
          "Read a step's tokens before the next step starts")
      ->group(kGroup);
  AddChoice<std::optional<Numerics>>(
      command, "--numerics", config.numerics,
      {{"auto", std::nullopt},
       {"fast", Numerics::kFast},
       {"batch-invariant", Numerics::kBatchInvariant}},
      "batch-invariant: a prompt's tokens never depend on what runs beside it; fast: they may, "
      "within rounding (default auto: batch-invariant on the CPU, where it costs nothing, else "
      "fast)");
  command
      .add_option("--device-timeout", config.device_timeout_s,
                  "A step that takes an accelerator longer is given up, and the device with it")
      ->type_name("SECONDS")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--seed", config.seed,
                  "Of the random draws: equal seeds, prompts and flags give equal text")
      ->type_name("N")
      ->check(WholeNumber(0, std::numeric_limits<int64_t>::max()))
      ->capture_default_str()
      ->group(kGroup);
}

Result<std::unique_ptr<LlmEngine>> LoadEngine(const EngineConfig& config,
                                              const std::function<void()>& poll, LoadNotes notes) {
  ProgressBar bar;
  LoadClock clock;
  const auto progress = [&](uint64_t done_bytes, uint64_t total_bytes) {
    clock.Progressed();
    bar.Update(done_bytes, total_bytes);
    if (poll) poll();
  };
  if (notes == LoadNotes::kNone) return LlmEngine::Create(config, progress);
  WarnOfWrongKernels(config);
  auto engine = LlmEngine::Create(config, progress, [&clock](const MemoryReport& memory) {
    PrintMemory(memory);
    clock.Planned(memory);
  });
  if (engine && config.device == "auto" && SupportedDevices().size() > 1) {
    fmt::print(stderr, "device: {}, {}\n", (*engine)->config().device, (*engine)->device());
  }
  if (engine && (*engine)->config().device != "cpu") {
    fmt::print(stderr, "weights: {} in {}, {:.1f} GB/s\n", FormatBytes(clock.bytes()),
               FormatSeconds(clock.seconds()), clock.bytes_per_s() / 1e9);
  }
  return engine;
}

}  // namespace gale::cli
