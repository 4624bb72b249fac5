// gale chat: a conversation, turn by turn, in a terminal or over a pipe.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/chat_flags.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/output_queue.h"
#include "cli/prompts.h"
#include "cli/standard_io.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

constexpr int kInterruptedExitCode = 128 + SIGINT;

struct ChatCommandOptions {
  ChatFlags chat_flags;
  EngineConfig engine;
  SamplingOverrides sampling;
};

/// Ctrl-C as something to wait for beside tokens and input. Threads started after it are never
/// interrupted, so it must stand before the engine.
class Interrupts {
 public:
  Interrupts() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    fd_ = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "signalfd");
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  ~Interrupts() { close(fd_); }

  int fd() const { return fd_; }
  /// Whether Ctrl-C came since the last call.
  bool Take() {
    signalfd_siginfo info;
    bool any = false;
    while (read(fd_, &info, sizeof(info)) == sizeof(info)) any = true;
    return any;
  }

 private:
  int fd_;
};

class Conversation {
 public:
  Conversation(const ChatCommandOptions& options, LlmEngine& engine, ChatPrompter prompter,
               Interrupts& interrupts)
      : options_(options),
        engine_(engine),
        prompter_(std::move(prompter)),
        interrupts_(interrupts) {}

  /// One turn: the reply is written as it comes and becomes part of the history. A message that the
  /// template refuses or the context cannot hold is left out, with a word on what to do.
  Status Say(const std::string& text);
  void Reset() { turns_.clear(); }
  void SetSystem(std::string text) { prompter_.SetSystem(std::move(text)); }

 private:
  Status LeaveOut(const std::string& reason);
  Result<Reply> Stream(RequestParams request);

  const ChatCommandOptions& options_;
  LlmEngine& engine_;
  ChatPrompter prompter_;
  Interrupts& interrupts_;
  json::array turns_;
};

Status Conversation::Say(const std::string& text) {
  turns_.push_back({{"role", "user"}, {"content", text}});
  const Result<RenderedPrompt> rendered = prompter_.Render(turns_);
  if (!rendered) return LeaveOut(rendered.error().message);
  std::vector<TokenId> tokens =
      engine_.tokenizer()->EncodePrompt(rendered->text, rendered->user_spans);

  const auto num_tokens = static_cast<int>(tokens.size());
  const int context = engine_.config().max_model_len;
  if (num_tokens >= context) {
    return LeaveOut(
        fmt::format("with this message the conversation takes {} tokens, the context holds {}",
                    num_tokens, context));
  }
  RequestParams request;
  request.prompt = std::move(tokens);
  request.sampling = engine_.model_info().default_sampling;
  request.sampling.max_tokens = context - num_tokens;
  request.sampling = options_.sampling.Over(std::move(request.sampling));
  const Result<Reply> reply = Stream(std::move(request));
  if (!reply) return tl::unexpected(reply.error());

  const SampleReply sample = reply->samples.empty() ? SampleReply{} : reply->samples[0];
  turns_.push_back({{"role", "assistant"}, {"content", sample.text}});
  if (sample.finish_reason == FinishReason::kCancelled) {
    fmt::print(stderr, "gale: reply stopped\n");
  } else if (sample.finish_reason == FinishReason::kLength) {
    fmt::print(stderr, "gale: reply cut off after {} tokens ({})\n", sample.tokens.size(),
               options_.sampling.Has("max_tokens") ? "--max-tokens" : "the context is full");
  }
  return {};
}

Status Conversation::LeaveOut(const std::string& reason) {
  turns_.pop_back();
  fmt::print(stderr, "gale: {}; the message was left out. /reset starts afresh.\n", reason);
  return {};
}

Result<Reply> Conversation::Stream(RequestParams request) {
  OutputQueue queue;
  const Result<RequestId> id = engine_.AddRequest(std::move(request), queue.Callback());
  if (!id) return tl::unexpected(id.error());
  Reply reply;
  Status written;
  while (!reply.last.finished) {
    std::array<pollfd, 2> sources = {pollfd{queue.fd(), POLLIN, 0}, {interrupts_.fd(), POLLIN, 0}};
    poll(sources.data(), sources.size(), -1);
    if (interrupts_.Take()) engine_.Cancel(*id);
    if (sources[0].revents == 0) continue;
    RequestOutput output = queue.Pop();
    for (const SampleOutput& news : output.samples) {
      if (written) written = WriteOut(news.text);
    }
    if (!written) engine_.Cancel(*id);
    reply.Add(std::move(output));
  }
  if (written) written = WriteOut("\n");
  if (!written) return tl::unexpected(written.error());
  if (reply.last.error) return tl::unexpected(*reply.last.error);
  return reply;
}

constexpr const char* kHelp =
    "/system TEXT  set the system message (no TEXT: remove it)\n"
    "/reset        forget the conversation, keep the system message\n"
    "/quit         leave (so do Ctrl-D, and Ctrl-C twice)\n"
    "Ctrl-C        stop the reply; what came of it stays in the conversation\n";

/// Runs a line that starts with '/'. False when it asks to leave.
bool RunSlashCommand(const std::string& line, Conversation& conversation) {
  const size_t space = line.find(' ');
  const std::string name = line.substr(0, space);
  const std::string argument = space == std::string::npos ? "" : line.substr(space + 1);
  if (name == "/quit") return false;
  if (name == "/reset") {
    conversation.Reset();
  } else if (name == "/system") {
    conversation.SetSystem(argument);
  } else if (name == "/help") {
    fmt::print(stderr, "{}", kHelp);
  } else {
    fmt::print(stderr, "gale: unknown command {}; /help lists them\n", name);
  }
  return true;
}

Status Converse(Conversation& conversation, Interrupts& interrupts) {
  const bool interactive = isatty(STDIN_FILENO) == 1;
  if (interactive) fmt::print(stderr, "/help lists the commands, /quit leaves.\n");
  LineReader lines;
  bool asked_to_leave = false;
  while (true) {
    if (interactive) fmt::print(stderr, "> ");
    bool interrupted = false;
    const std::optional<std::string> line = lines.Next(interrupts.fd(), interrupted);
    if (interrupted) {
      interrupts.Take();
      if (asked_to_leave) return {};
      asked_to_leave = true;
      fmt::print(stderr, "\ngale: Ctrl-C again leaves\n");
      continue;
    }
    if (!line) return {};
    asked_to_leave = false;
    if (line->find_first_not_of(" \t\r") == std::string::npos) continue;
    if (line->starts_with('/')) {
      if (!RunSlashCommand(*line, conversation)) return {};
    } else if (const Status status = conversation.Say(*line); !status) {
      return status;
    }
  }
}

Status Chat(const ChatCommandOptions& options) {
  Interrupts interrupts;
  Result<std::unique_ptr<LlmEngine>> engine = LoadEngine(options.engine, [&interrupts] {
    if (interrupts.Take()) std::_Exit(kInterruptedExitCode);
  });
  if (!engine) return tl::unexpected(engine.error());
  Result<ChatPrompter> prompter =
      ChatPrompter::Load(options.chat_flags, (*engine)->config().model, (*engine)->chat_template());
  if (!prompter) return tl::unexpected(prompter.error());
  Conversation conversation(options, **engine, *std::move(prompter), interrupts);
  return Converse(conversation, interrupts);
}

constexpr const char* kFooter = R"(
In the conversation:
  /system TEXT   set the system message       /reset   forget the conversation
  /help          list the commands            /quit    leave (so do Ctrl-D, and Ctrl-C twice)
  Ctrl-C         stop the reply, not the program

Examples:
  gale chat models/gale-tales-10m
  gale chat Qwen/Qwen3-0.6B --system "Answer in one sentence." --temperature 0.7
  printf 'Hello!\nTell me more.\n' | gale chat --model DIR --greedy)";

}  // namespace

void AddChatCommand(CLI::App& app, Action& action) {
  auto options = std::make_shared<ChatCommandOptions>();
  CLI::App* command = app.add_subcommand("chat", "Talk with a model, turn by turn");
  AddChatFlags(*command, options->chat_flags);
  AddSamplingFlags(*command, options->sampling);
  AddEngineFlags(*command, options->engine);
  command->footer(kFooter);
  command->callback([options, &action] {
    if (options->sampling.Over({}).n != 1) {
      throw CLI::ValidationError("-n", "a conversation has one reply");
    }
    action = [options] { return Chat(*options); };
  });
}

}  // namespace gale::cli
