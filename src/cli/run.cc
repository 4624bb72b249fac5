// gale run: completes one prompt as a stream, or a file of prompts as a batch.
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/chat_flags.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/figures.h"
#include "cli/json_text.h"
#include "cli/model_argument.h"
#include "cli/output_queue.h"
#include "cli/prompts.h"
#include "cli/standard_io.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

struct RunOptions {
  ModelAndText arguments;
  std::optional<std::string> prompt;
  std::string prompts_file;
  ChatFlags chat_flags;
  bool chat = false;
  bool parse_special = false;
  bool json = false;
  bool quiet = false;
  EngineConfig engine;
  SamplingOverrides sampling;
};

/// The prompts asked for: a file's, the argument, or standard input without its last line break.
Result<std::vector<Prompt>> CollectPrompts(const RunOptions& options) {
  if (!options.prompts_file.empty()) return ReadPromptFile(options.prompts_file);
  if (options.prompt) return std::vector<Prompt>{{*options.prompt, {}}};
  Result<std::string> text = ReadFile("-");
  if (!text) return tl::unexpected(text.error());
  if (text->ends_with('\n')) text->pop_back();
  return std::vector<Prompt>{{*std::move(text), {}}};
}

/// `prompter` is there with --chat.
Result<RequestParams> MakeRequest(const LlmEngine& engine, const RunOptions& options,
                                  const std::optional<ChatPrompter>& prompter,
                                  const Prompt& prompt) {
  RequestParams request;
  request.sampling =
      prompt.sampling.Over(options.sampling.Over(engine.model_info().default_sampling));
  // The engine would derive a seed from the request's id: a prompt's text would depend on its line.
  if (!request.sampling.seed) request.sampling.seed = options.engine.seed;
  if (!prompter) {
    request.prompt = prompt.text;
    request.parse_special = options.parse_special;
    return request;
  }
  const Result<RenderedPrompt> rendered =
      prompter->Render(json::array{json::object{{"role", "user"}, {"content", prompt.text}}});
  if (!rendered) return tl::unexpected(rendered.error());
  request.prompt = engine.tokenizer()->EncodePrompt(rendered->text, rendered->user_spans);
  return request;
}

/// Continuations that are generated, also those that are not returned.
int NumSequences(const SamplingParams& sampling) {
  return std::max({sampling.n, sampling.best_of.value_or(0), sampling.num_beams});
}

/// Writes the text as it comes; several samples one after the other, when all are done.
Result<Reply> StreamOne(LlmEngine& engine, RequestParams request) {
  const bool single = request.sampling.n == 1;
  OutputQueue queue;
  const Result<RequestId> id = engine.AddRequest(std::move(request), queue.Callback());
  if (!id) return tl::unexpected(id.error());
  Reply reply;
  Status written;
  do {
    RequestOutput output = queue.Pop();
    if (single && written) {
      for (const SampleOutput& news : output.samples) written = WriteOut(news.text);
      if (!written) engine.Cancel(*id);
    }
    reply.Add(std::move(output));
  } while (!reply.last.finished);
  if (!written) return tl::unexpected(written.error());
  if (reply.last.error) return tl::unexpected(*reply.last.error);

  std::string rest;
  for (size_t i = 0; !single && i < reply.samples.size(); ++i) {
    const std::string& text = reply.samples[i].text;
    rest += fmt::format("--- sample {} of {} ---\n{}{}", i + 1, reply.samples.size(), text,
                        text.ends_with('\n') ? "" : "\n");
  }
  if (single && (reply.samples.empty() || !reply.samples[0].text.ends_with('\n'))) rest = "\n";
  if (const Status status = WriteOut(rest); !status) return tl::unexpected(status.error());
  return reply;
}

json::array LogprobsRecord(const std::vector<PositionLogprobs>& positions) {
  const auto pair = [](const TokenLogprob& of) -> json::object {
    return {{"token", of.token}, {"logprob", of.logprob}};
  };
  json::array records;
  for (const PositionLogprobs& position : positions) {
    json::object record = pair(position.chosen);
    json::array& top = record["top"].emplace_array();
    for (const TokenLogprob& other : position.top) top.push_back(pair(other));
    records.push_back(std::move(record));
  }
  return records;
}

json::object ReplyRecord(size_t index, const Prompt& prompt, const Reply& reply) {
  json::object record = {{"index", index}, {"prompt", prompt.text}};
  if (reply.last.error) {
    record["error"] = {{"code", std::string(ErrorCodeName(reply.last.error->code))},
                       {"message", reply.last.error->message}};
    return record;
  }
  record["prompt_tokens"] = reply.last.prompt_tokens;
  json::array samples;
  for (const SampleReply& sample : reply.samples) {
    json::object& object = samples.emplace_back(json::object()).as_object();
    object["text"] = sample.text;
    object["tokens"] = json::value_from(sample.tokens);
    object["finish_reason"] = FinishReasonName(sample.finish_reason);
    if (sample.cumulative_logprob) object["cumulative_logprob"] = *sample.cumulative_logprob;
    if (!sample.logprobs.empty()) object["logprobs"] = LogprobsRecord(sample.logprobs);
  }
  record["samples"] = std::move(samples);
  if (!reply.last.prompt_logprobs.empty()) {
    record["prompt_logprobs"] = LogprobsRecord(reply.last.prompt_logprobs);
  }
  return record;
}

/// One JSON line for each prompt, in the prompts' order, as soon as all before it are out.
Result<Figures> RunBatch(LlmEngine& engine, const std::vector<Prompt>& prompts,
                         const std::vector<RequestParams>& requests) {
  const auto start = std::chrono::steady_clock::now();
  Figures figures;
  std::vector<std::optional<Reply>> done(requests.size());
  size_t next = 0;
  int failed = 0;
  const Status status = RunAll(engine, requests, [&](size_t index, Reply reply) -> Status {
    ++figures.prompts;
    figures.sequences += NumSequences(requests[index].sampling);
    figures.prompt_tokens += reply.last.prompt_tokens;
    figures.cached_tokens += reply.last.cached_tokens;
    figures.generated_tokens += reply.generated_tokens();
    if (index == 0) figures.first_token_s = reply.last.times.first_token_s;
    failed += reply.last.error.has_value() ? 1 : 0;
    done[index] = std::move(reply);
    for (; next < done.size() && done[next]; ++next) {
      const Status written = WriteOut(JsonLine(ReplyRecord(next, prompts[next], *done[next])));
      if (!written) return written;
      done[next]->samples.clear();
    }
    return {};
  });
  if (!status) return tl::unexpected(status.error());
  if (failed > 0) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("{} of {} prompts failed; their lines say why", failed, prompts.size()));
  }
  figures.total_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return figures;
}

Status Run(const RunOptions& options) {
  // A model that is not there is said before standard input is waited for.
  const Result<std::string> path = ResolveModel(options.engine.model, options.engine.load_format);
  if (!path) return tl::unexpected(path.error());
  const Result<std::vector<Prompt>> prompts = CollectPrompts(options);
  if (!prompts) return tl::unexpected(prompts.error());
  Result<std::unique_ptr<LlmEngine>> engine = LoadEngine(
      options.engine, {}, options.quiet ? LoadNotes::kNone : LoadNotes::kMemoryAndDevice);
  if (!engine) return tl::unexpected(engine.error());

  std::optional<ChatPrompter> prompter;
  if (options.chat) {
    Result<ChatPrompter> loaded = ChatPrompter::Load(options.chat_flags, (*engine)->config().model,
                                                     (*engine)->chat_template());
    if (!loaded) return tl::unexpected(loaded.error());
    prompter = *std::move(loaded);
  }
  std::vector<RequestParams> requests;
  for (const Prompt& prompt : *prompts) {
    Result<RequestParams> request = MakeRequest(**engine, options, prompter, prompt);
    if (!request) return tl::unexpected(request.error());
    requests.push_back(*std::move(request));
  }
  Figures figures;
  if (options.json || !options.prompts_file.empty()) {
    const Result<Figures> batch = RunBatch(**engine, *prompts, requests);
    if (!batch) return tl::unexpected(batch.error());
    figures = *batch;
  } else {
    const int num_sequences = NumSequences(requests[0].sampling);
    const Result<Reply> reply = StreamOne(**engine, std::move(requests[0]));
    if (!reply) return tl::unexpected(reply.error());
    figures = {.prompts = 1,
               .sequences = num_sequences,
               .prompt_tokens = reply->last.prompt_tokens,
               .cached_tokens = reply->last.cached_tokens,
               .generated_tokens = reply->generated_tokens(),
               .first_token_s = reply->last.times.first_token_s,
               .total_s = reply->last.times.total_s};
  }
  figures.TakeDrafts((*engine)->stats());
  if (!options.quiet) fmt::print(stderr, "{}", figures.Line());
  return {};
}

constexpr const char* kFooter = R"(
The prompt is completed as it is. To an instruction-tuned model, speak with --chat: the prompt then
becomes a user message in the model's chat template. (Base models often carry a template too, so
the template alone does not decide.)

Examples:
  gale run models/gale-tales-10m "Once upon a time"
  gale run Qwen/Qwen3-0.6B "Once upon a time"      from the Hugging Face cache
  gale run "Once upon a time" --model models/gale-tales-10m
  gale run --chat "What is 47 + 38?" --model models/gale-tales-10m --greedy
  gale run --chat "Hi" --model DIR --chat-template chatml --chat-template-kwargs '{"x": 1}'
  echo "The fox said" | gale run --model DIR --max-tokens 50 --seed 7
  gale run --prompts prompts.jsonl --model DIR > replies.jsonl
      each line {"prompt": "...", "temperature": 0.5, "stop": ["\n"]}; replies in the same order

The text goes to standard output; one line of figures goes to standard error (--quiet: none).)";

}  // namespace

void AddRunCommand(CLI::App& app, Action& action) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand("run", "Complete a prompt, or a file of prompts");
  options->arguments.AddTo(*command, options->engine.model, options->prompt,
                           "What to complete (none: standard input)");
  command
      ->add_option(
          "--prompts", options->prompts_file,
          "JSON lines {\"prompt\": ..., sampling ...}, run as a batch; - is standard input")
      ->type_name("FILE");
  CLI::Option* chat =
      command->add_flag("--chat", options->chat, "Send each prompt as a user message");
  AddChatFlags(*command, options->chat_flags, chat);
  command
      ->add_flag("--parse-special", options->parse_special,
                 "\"<|im_end|>\" and the like in the prompt are special tokens, not text")
      ->excludes(command->get_option("--chat"));
  command->add_flag("--json", options->json, "One JSON line with text and tokens, not a stream");
  command->add_flag("-q,--quiet", options->quiet, "No line of figures");
  AddSamplingFlags(*command, options->sampling);
  AddEngineFlags(*command, options->engine);
  command->footer(kFooter);
  command->callback([options, &action] {
    options->arguments.Resolve();
    if (options->prompt && !options->prompts_file.empty()) {
      throw CLI::ExcludesError("--prompts", "a prompt");
    }
    const bool has_input = options->prompt || !options->prompts_file.empty();
    if (!has_input && isatty(STDIN_FILENO) == 1 && ResolveModel(options->engine.model)) {
      throw CLI::ValidationError("prompt",
                                 fmt::format("give one behind the model, with --prompts or on a "
                                             "pipe (gale chat {} starts a conversation)",
                                             options->engine.model));
    }
    action = [options] { return Run(*options); };
  });
}

}  // namespace gale::cli
