// gale eval perplexity: how well a model predicts a text, through the request path.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/json_text.h"
#include "cli/output_queue.h"
#include "cli/standard_io.h"
#include "cli/whole_number.h"
#include "gale/eval.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

constexpr int kDefaultWindow = 2048;

struct PerplexityOptions {
  std::string text_file;
  int window = 0;
  int stride = 0;
  bool no_special = false;
  bool json = false;
  EngineConfig engine;
};

struct Score {
  double nll = 0;  ///< nats, summed
  size_t num_tokens = 0;
  double seconds = 0;
};

Result<Score> ScoreWindows(LlmEngine& engine, const std::vector<TokenId>& tokens,
                           const std::vector<TextWindow>& windows) {
  std::vector<RequestParams> requests;
  for (const TextWindow& window : windows) {
    RequestParams& request = requests.emplace_back();
    request.prompt = std::vector<TokenId>(tokens.begin() + static_cast<ptrdiff_t>(window.begin),
                                          tokens.begin() + static_cast<ptrdiff_t>(window.end));
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 0;
    request.sampling.prompt_logprobs = 0;
  }
  Score score;
  const auto start = std::chrono::steady_clock::now();
  const Status status = RunAll(engine, requests, [&](size_t index, Reply reply) -> Status {
    if (reply.last.error) return tl::unexpected(*reply.last.error);
    const TextWindow& window = windows[index];
    for (size_t i = window.scored_begin; i < window.end; ++i) {
      score.nll -= reply.last.prompt_logprobs.at(i - window.begin - 1).chosen.logprob;
    }
    score.num_tokens += window.end - std::min(window.scored_begin, window.end);
    return {};
  });
  if (!status) return tl::unexpected(status.error());
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return score;
}

Status EvalPerplexity(const PerplexityOptions& options) {
  const Result<std::string> text = ReadFile(options.text_file);
  if (!text) return tl::unexpected(text.error());
  Result<std::unique_ptr<LlmEngine>> engine = LoadEngine(options.engine);
  if (!engine) return tl::unexpected(engine.error());
  const Tokenizer* tokenizer = (*engine)->tokenizer();
  if (tokenizer == nullptr) {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{} has no tokenizer", options.engine.model));
  }
  const std::vector<TokenId> tokens =
      tokenizer->Encode(*text, {.add_special_tokens = !options.no_special, .parse_special = true});
  const int context = (*engine)->config().max_model_len;
  const int window = options.window > 0 ? options.window : std::min(kDefaultWindow, context);
  const int stride = options.stride > 0 ? options.stride : window;
  if (window < 2 || window > context || stride > window) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("--window {} --stride {}: expected 2 <= window <= {} (the context) "
                    "and stride <= window",
                    window, stride, context));
  }
  const std::vector<TextWindow> windows =
      CutWindows(tokens.size(), static_cast<size_t>(window), static_cast<size_t>(stride));
  const Result<Score> score = ScoreWindows(**engine, tokens, windows);
  if (!score) return tl::unexpected(score.error());
  if (score->num_tokens == 0) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{} has {} tokens, perplexity needs at least 2", options.text_file,
                                 tokens.size()));
  }

  const double nll = score->nll / static_cast<double>(score->num_tokens);
  const double tokens_per_byte = static_cast<double>(tokens.size()) / text->size();
  const json::object record = {{"model", options.engine.model},
                               {"text", options.text_file},
                               {"bytes", text->size()},
                               {"tokens", tokens.size()},
                               {"scored_tokens", score->num_tokens},
                               {"windows", windows.size()},
                               {"window", window},
                               {"stride", stride},
                               {"nll_per_token", nll},
                               {"perplexity", std::exp(nll)},
                               {"bits_per_byte", nll / std::numbers::ln2 * tokens_per_byte},
                               {"seconds", score->seconds}};
  if (options.json) return WriteOut(JsonIndented(record));
  return WriteOut(
      fmt::format("perplexity     {:.4f}\nnll per token  {:.5f} nats over {} tokens\n"
                  "bits per byte  {:.5f}\nwindows        {} of {} tokens, {} apart\n",
                  std::exp(nll), nll, score->num_tokens, nll / std::numbers::ln2 * tokens_per_byte,
                  windows.size(), window, stride));
}

constexpr const char* kFooter = R"(
The text is tokenized as a whole; special tokens spelled out in it, such as "<|endoftext|>" between
documents, count as those. It is cut into windows, --stride tokens apart. Every token is scored
once, given the tokens before it in the first window that holds it. A window's first token has no
context, so with stride = window one token per window is left out; a smaller stride scores every
token but the first, with at least window - stride tokens of context, and costs more. These are the
windows of the Hugging Face documentation of perplexity.

  perplexity     exp of the mean negative log likelihood per scored token
  bits per byte  that mean in bits, times tokens per byte of the text: comparable across tokenizers

Example:
  gale eval perplexity --text book.txt --window 1024 --stride 512 --model DIR --json)";

}  // namespace

void AddEvalPerplexityCommand(CLI::App& eval, Action& action) {
  auto options = std::make_shared<PerplexityOptions>();
  CLI::App* command = eval.add_subcommand("perplexity", "How well a model predicts a text");
  command->add_option("--text", options->text_file, "File; - is standard input")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--window", options->window,
                   fmt::format("Tokens of one prompt; 0 = the context, at most {}", kDefaultWindow))
      ->type_name("N")
      ->check(WholeNumber(0));
  command->add_option("--stride", options->stride, "Tokens from window to window; 0 = the window")
      ->type_name("N")
      ->check(WholeNumber(0));
  command->add_flag("--no-special", options->no_special,
                    "Do not add what the tokenizer adds by itself, such as a begin token");
  command->add_flag("--json", options->json, "As JSON");
  AddEngineFlags(*command, options->engine);
  command->footer(kFooter);
  command->callback(
      [options, &action] { action = [options] { return EvalPerplexity(*options); }; });
}

}  // namespace gale::cli
