// gale info: what a model is, from its headers and configuration alone.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/command.h"
#include "cli/figures.h"
#include "cli/json_text.h"
#include "cli/sampling_flags.h"
#include "cli/standard_io.h"
#include "gale/chat.h"
#include "gale/model_info.h"
#include "gale/tokenizer.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

struct InfoOptions {
  std::string model;
  bool json = false;
};

/// "yes", "none", or why there is one that cannot be used.
template <class T>
std::string Presence(const Result<std::unique_ptr<T>>& part) {
  if (part) return "yes";
  return part.error().code == ErrorCode::kNotFound ? "none" : part.error().message;
}

/// "greedy", or what is drawn from; and whatever else a model's authors advise.
std::string SamplingSummary(const SamplingParams& sampling) {
  std::string summary =
      sampling.temperature == 0
          ? "greedy"
          : fmt::format("temperature {}, top-k {}, top-p {}, min-p {}", sampling.temperature,
                        sampling.top_k, sampling.top_p, sampling.min_p);
  for (const auto& [name, value] : SamplingRecord(sampling)) {
    const std::string_view key(name.data(), name.size());
    if (key == "temperature" || key == "top_k" || key == "top_p" || key == "min_p") continue;
    if (key == "max_tokens" && sampling.max_tokens == SamplingParams().max_tokens) continue;
    summary += fmt::format(", {} {}", key, json::serialize(value));
  }
  return summary;
}

json::object ModelRecord(const std::string& model, const std::string& folder,
                         const ModelInfo& info) {
  return {{"model", model},
          {"architecture", info.architecture},
          {"dtype", info.dtype},
          {"num_parameters", info.num_parameters},
          {"expert_parameters", info.expert_parameters},
          {"num_experts", info.num_experts},
          {"experts_per_token", info.experts_per_token},
          {"weight_bytes", info.weight_bytes},
          {"kv_bytes_per_token", info.kv_bytes_per_token},
          {"kv_window_bytes", info.kv_window_bytes},
          {"num_layers", info.num_layers},
          {"hidden_size", info.hidden_size},
          {"intermediate_size", info.intermediate_size},
          {"num_heads", info.num_heads},
          {"num_kv_heads", info.num_kv_heads},
          {"head_dim", info.head_dim},
          {"window", info.window},
          {"num_window_layers", info.num_window_layers},
          {"vocab_size", info.vocab_size},
          {"max_position", info.max_position},
          {"tied_embeddings", info.tied_embeddings},
          {"eos_token_ids", json::value_from(info.eos_token_ids)},
          {"default_sampling", SamplingRecord(info.default_sampling)},
          {"has_tokenizer", Tokenizer::FromFolder(folder).has_value()},
          {"has_chat_template", ChatTemplate::FromFolder(folder).has_value()}};
}

/// Of layers that see everything and of those with a window.
std::string KvSummary(const ModelInfo& info) {
  const std::string windows =
      info.kv_window_bytes == 0
          ? ""
          : fmt::format(" and {} of windows", FormatBytes(info.kv_window_bytes));
  const uint64_t full =
      info.kv_bytes_per_token * static_cast<uint64_t>(info.max_position) + info.kv_window_bytes;
  return fmt::format("{} per token{}, {} for a full context", FormatBytes(info.kv_bytes_per_token),
                     windows, FormatBytes(full));
}

/// How many there are, how many a token goes through, and what that leaves of the parameters.
std::string ExpertSummary(const ModelInfo& info) {
  const uint64_t idle = info.expert_parameters / static_cast<uint64_t>(info.num_experts) *
                        static_cast<uint64_t>(info.num_experts - info.experts_per_token);
  return fmt::format("{} of {} for each token, {} parameters", info.experts_per_token,
                     info.num_experts, FormatCount(info.num_parameters - idle));
}

std::string ModelTable(const std::string& model, const std::string& folder, const ModelInfo& info) {
  std::string table;
  const auto row = [&table](std::string_view name, const std::string& value) {
    table += fmt::format("{:<18} {}\n", name, value);
  };
  row("model", model);
  row("architecture", info.architecture);
  row("parameters", FormatCount(info.num_parameters));
  if (info.num_experts > 0) row("experts", ExpertSummary(info));
  row("weights", fmt::format("{} in {}", FormatBytes(info.weight_bytes), info.dtype));
  row("layers", fmt::format("{}", info.num_layers));
  row("hidden", fmt::format("{}, mlp {}", info.hidden_size, info.intermediate_size));
  row("attention",
      fmt::format("{} query heads, {} kv heads, head_dim {}{}", info.num_heads, info.num_kv_heads,
                  info.head_dim,
                  info.window == 0 ? ""
                                   : fmt::format(", window {} in {} of {} layers", info.window,
                                                 info.num_window_layers, info.num_layers)));
  row("vocabulary", fmt::format("{}{}", info.vocab_size,
                                info.tied_embeddings ? ", embeddings shared with the output" : ""));
  row("context", fmt::format("{} tokens", info.max_position));
  row("kv cache", KvSummary(info));
  row("end tokens", fmt::format("{}", fmt::join(info.eos_token_ids, ", ")));
  row("default sampling", SamplingSummary(info.default_sampling));
  row("tokenizer", Presence(Tokenizer::FromFolder(folder)));
  row("chat template", Presence(ChatTemplate::FromFolder(folder)));
  return table;
}

Status PrintSupported(bool as_json) {
  if (as_json) {
    return WriteOut(
        JsonIndented(json::object{{"architectures", json::value_from(SupportedArchitectures())},
                                  {"presets", json::value_from(ModelPresets())}}));
  }
  return WriteOut(fmt::format("architectures  {}\npresets        {}\n",
                              fmt::join(SupportedArchitectures(), ", "),
                              fmt::join(ModelPresets(), ", ")));
}

Status Info(const InfoOptions& options) {
  if (options.model.empty()) return PrintSupported(options.json);
  const std::vector<std::string> presets = ModelPresets();
  const bool is_preset = !std::filesystem::exists(options.model) &&
                         std::find(presets.begin(), presets.end(), options.model) != presets.end();
  const Result<std::string> path = ResolveModel(options.model);
  if (!path) return tl::unexpected(path.error());
  const Result<ModelInfo> info =
      ReadModelInfo(*path, is_preset ? LoadFormat::kDummy : LoadFormat::kAuto);
  if (!info) return tl::unexpected(info.error());
  return WriteOut(options.json ? JsonIndented(ModelRecord(options.model, *path, *info))
                               : ModelTable(options.model, *path, *info));
}

constexpr const char* kFooter = R"(
Examples:
  gale info models/gale-tales-10m   shapes, memory, default sampling of a model folder
  gale info llama3-70b              the same of a preset (shapes without weights)
  gale info                         which architectures and presets there are)";

}  // namespace

void AddInfoCommand(CLI::App& app, Action& action) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command = app.add_subcommand("info", "Describe a model without loading it");
  command->add_option(
      "model", options->model,
      "Model folder, GGUF file, ORG/NAME[@REVISION] of the Hugging Face cache, or preset; "
      "none: what is supported");
  command->add_flag("--json", options->json, "As JSON");
  command->footer(kFooter);
  command->callback([options, &action] { action = [options] { return Info(*options); }; });
}

}  // namespace gale::cli
