// gale eval compare: what one model's predictions lose against another's, for quantized weights,
// caches and everything else that should leave them as they are.
#include <memory>
#include <string>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/json_text.h"
#include "cli/progress_bar.h"
#include "cli/standard_io.h"
#include "cli/whole_number.h"
#include "gale/eval.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

struct CompareFlags {
  std::string text_file;
  bool no_special = false;
  bool json = false;
  CompareOptions compare;
};

json::object Record(const CompareFlags& flags, const ModelComparison& result) {
  const auto score = [](const EngineConfig& config, const TextScore& text) -> json::object {
    return {{"model", config.model},
            {"nll_per_token", text.nll_per_token},
            {"perplexity", text.perplexity}};
  };
  json::array worst;
  for (const WorstToken& token : result.worst) {
    worst.push_back({{"index", token.index},
                     {"kl", token.kl},
                     {"context", token.context},
                     {"token", token.token},
                     {"base_logprob", token.base_logprob},
                     {"quant_logprob", token.other_logprob},
                     {"base_top", token.base_top},
                     {"quant_top", token.other_top}});
  }
  return {{"text", flags.text_file},
          {"tokens", result.num_tokens},
          {"scored_tokens", result.num_scored},
          {"window", result.window},
          {"stride", result.stride},
          {"base", score(flags.compare.base, result.base)},
          {"quant", score(flags.compare.other, result.other)},
          {"perplexity_ratio", result.other.perplexity / result.base.perplexity},
          {"kl",
           {{"mean", result.kl_mean},
            {"median", result.kl_median},
            {"p99", result.kl_p99},
            {"max", result.kl_max}}},
          {"top1_agreement", result.top1_agreement},
          {"worst", std::move(worst)}};
}

std::string Quoted(const std::string& text) { return json::serialize(json::value(text)); }

std::string Table(const ModelComparison& result) {
  std::string table = fmt::format(
      "perplexity       {:.4f} -> {:.4f} ({:+.2f}%)\n"
      "KL divergence    mean {:.6f}, median {:.6f}, p99 {:.5f}, max {:.4f} nats\n"
      "top-1 agreement  {:.2f}% of {} tokens\n",
      result.base.perplexity, result.other.perplexity,
      100 * (result.other.perplexity / result.base.perplexity - 1), result.kl_mean,
      result.kl_median, result.kl_p99, result.kl_max, 100 * result.top1_agreement,
      result.num_scored);
  for (const WorstToken& token : result.worst) {
    table += fmt::format(
        "\nKL {:.4f} at token {}: ...{}\n  next {}: ln p {:.3f} -> {:.3f}; likeliest {} -> {}\n",
        token.kl, token.index, Quoted(token.context), Quoted(token.token), token.base_logprob,
        token.other_logprob, Quoted(token.base_top), Quoted(token.other_top));
  }
  return table;
}

Status EvalCompare(CompareFlags flags) {
  const Result<std::string> text = ReadFile(flags.text_file);
  if (!text) return tl::unexpected(text.error());
  flags.compare.base.device = flags.compare.other.device;
  flags.compare.base.threads = flags.compare.other.threads;
  flags.compare.add_special_tokens = !flags.no_special;
  Result<ModelComparison> result;
  {
    ProgressBar bar("comparing");
    result = CompareModels(flags.compare, *text, [&](uint64_t done, uint64_t total) {
      bar.Update(done * text->size() / total, text->size());
    });
  }
  if (!result) return tl::unexpected(result.error());
  return WriteOut(flags.json ? JsonIndented(Record(flags, *result)) : Table(*result));
}

constexpr const char* kFooter = R"(
Both models read the same tokens, in windows as those of gale eval perplexity. At every scored token
their distributions over the whole vocabulary are compared:

  KL divergence    of QUANT's distribution from BASE's, in nats: 0 where they are equal
  top-1 agreement  how often both think the same token likeliest
  worst tokens     those of the largest KL, with the text in front of them

BASE runs as its checkpoint says; the flags of the second group are QUANT's. QUANT may be BASE again
under such flags. The models need one vocabulary.

Examples:
  gale eval compare Qwen/Qwen3-0.6B OUT --text held-out.txt --window 1024
  gale eval compare DIR DIR --quantize int4 --text held-out.txt --json)";

}  // namespace

void AddEvalCompareCommand(CLI::App& eval, Action& action) {
  auto flags = std::make_shared<CompareFlags>();
  CompareOptions& compare = flags->compare;
  CLI::App* command =
      eval.add_subcommand("compare", "How far a model's predictions are from another's");
  command->add_option("BASE", compare.base.model, "The model to hold against")->required();
  command->add_option("QUANT", compare.other.model, "The model to measure")->required();
  command->add_option("--text", flags->text_file, "File; - is standard input")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--window", compare.window,
                   "Tokens that go through together; 0 = the context, at most 2048")
      ->type_name("N")
      ->check(WholeNumber(0));
  command->add_option("--stride", compare.stride, "Tokens from window to window; 0 = the window")
      ->type_name("N")
      ->check(WholeNumber(0));
  command->add_option("--worst", compare.num_worst, "Worst tokens to show")
      ->type_name("N")
      ->check(WholeNumber(0))
      ->capture_default_str();
  command->add_flag("--no-special", flags->no_special,
                    "Do not add what the tokenizer adds by itself, such as a begin token");
  command->add_flag("--json", flags->json, "As JSON");
  AddDeviceFlags(*command, compare.other);
  AddPrecisionFlags(*command, compare.other);
  command->footer(kFooter);
  command->callback([flags, &action] { action = [flags] { return EvalCompare(*flags); }; });
}

}  // namespace gale::cli
