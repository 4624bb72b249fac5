// gale eval logprobs: what the model says about given token ids, position by position.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/json_text.h"
#include "cli/standard_io.h"
#include "cli/whole_number.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

struct LogprobsOptions {
  std::vector<TokenId> tokens;
  int top = 5;
  bool json = false;
  EngineConfig engine;
};

json::array TopRecord(const PositionLogprobs& position) {
  json::array top;
  for (const TokenLogprob& entry : position.top) {
    top.push_back({{"token", entry.token}, {"logprob", entry.logprob}});
  }
  return top;
}

json::object Record(const std::vector<TokenId>& tokens, const RequestOutput& prompt,
                    const PositionLogprobs& next) {
  json::array positions;
  positions.push_back({{"position", 0}, {"token", tokens[0]}, {"logprob", nullptr}});
  for (size_t i = 0; i < prompt.prompt_logprobs.size(); ++i) {
    const PositionLogprobs& position = prompt.prompt_logprobs[i];
    positions.push_back({{"position", i + 1},
                         {"token", tokens[i + 1]},
                         {"logprob", position.chosen.logprob},
                         {"top", TopRecord(position)}});
  }
  return {{"positions", std::move(positions)}, {"next", {{"top", TopRecord(next)}}}};
}

std::string TopText(const LlmEngine& engine, const PositionLogprobs& position) {
  std::string text;
  for (const TokenLogprob& entry : position.top) {
    const std::string piece(engine.tokenizer() ? engine.tokenizer()->IdToToken(entry.token) : "");
    text += fmt::format("  {} {} {:.4f}", entry.token, json::serialize(json::value(piece)),
                        entry.logprob);
  }
  return text;
}

std::string Table(const LlmEngine& engine, const std::vector<TokenId>& tokens,
                  const RequestOutput& prompt, const PositionLogprobs& next) {
  std::string table = fmt::format("position    token    logprob  likeliest\n{:>8} {:>8} {:>10}\n",
                                  0, tokens[0], "-");
  for (size_t i = 0; i < prompt.prompt_logprobs.size(); ++i) {
    const PositionLogprobs& position = prompt.prompt_logprobs[i];
    table += fmt::format("{:>8} {:>8} {:>10.5f}{}\n", i + 1, tokens[i + 1], position.chosen.logprob,
                         TopText(engine, position));
  }
  return table + fmt::format("{:>8} {:>8} {:>10}{}\n", "next", "", "", TopText(engine, next));
}

Status EvalLogprobs(const LogprobsOptions& options) {
  Result<std::unique_ptr<LlmEngine>> engine = LoadEngine(options.engine);
  if (!engine) return tl::unexpected(engine.error());
  RequestParams request;
  request.prompt = options.tokens;
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  request.sampling.max_tokens = 1;
  request.sampling.logprobs = options.top;
  request.sampling.prompt_logprobs = options.top;
  const std::vector<RequestOutput> outputs = (*engine)->Generate({std::move(request)});
  const RequestOutput& output = outputs.at(0);
  if (output.error) return tl::unexpected(*output.error);
  const PositionLogprobs& next = output.samples.at(0).logprobs.at(0);
  return WriteOut(options.json ? JsonLine(Record(options.tokens, output, next))
                               : Table(**engine, options.tokens, output, next));
}

constexpr const char* kFooter = R"(
Each position shows the token's natural logarithm of probability given the tokens before it, and the
likeliest tokens there; "next" is what the model expects after the last one. The distribution is the
model's own: temperature and filters play no part.

Example:
  gale eval logprobs --tokens 1,403,407,261 --top 3 --model DIR --json)";

}  // namespace

void AddEvalLogprobsCommand(CLI::App& eval, Action& action) {
  auto options = std::make_shared<LogprobsOptions>();
  CLI::App* command =
      eval.add_subcommand("logprobs", "Log probabilities of token ids given their prefixes");
  command->add_option("--tokens", options->tokens, "Token ids")
      ->type_name("ID,ID,...")
      ->delimiter(',')
      ->check(WholeNumber(0))
      ->required();
  command->add_option("--top", options->top, "How many of the likeliest tokens to show")
      ->type_name("K")
      ->check(WholeNumber(0, 20))
      ->capture_default_str();
  command->add_flag("--json", options->json, "As one JSON line");
  AddEngineFlags(*command, options->engine);
  command->footer(kFooter);
  command->callback([options, &action] { action = [options] { return EvalLogprobs(*options); }; });
}

}  // namespace gale::cli
