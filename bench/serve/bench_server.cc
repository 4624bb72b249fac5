// What serving costs the processor per streamed token: the whole server around an executor that
// computes nothing, loaded by `gale bench serve` in a process of its own.
// Usage: bench_server GALE MODEL [STREAMS [TOKENS [STEP_US]]]   MODEL gives tokenizer and template
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "engine/engine_parts.h"
#include "server/api_server.h"

namespace gale {
namespace {

constexpr int kVocab = 8000;
constexpr int kFirstToken = 300;

/// Draws the next token of its own for every sequence, once per step's time.
class NullExecutor final : public Executor {
 public:
  explicit NullExecutor(std::chrono::microseconds step) : step_(step) {}

  StepHandle Launch(const SchedulerOutput& plan) override {
    ModelRunnerOutput output;
    output.step = plan.step;
    for (const ScheduledSeq& scheduled : plan.seqs) {
      SeqOutput& seq = output.seqs.emplace_back();
      seq.id = scheduled.id;
      const auto mixed = static_cast<TokenId>((plan.step * 31 + scheduled.id * 17) % 7000);
      if (scheduled.sample) seq.tokens.push_back(kFirstToken + mixed);
    }
    done_.push_back(std::move(output));
    return {plan.step};
  }
  void Sample(StepHandle, const SamplingInputs&) override {}
  Result<ModelRunnerOutput> Collect(StepHandle) override {
    next_ = std::max(next_ + step_, Clock::now());
    std::this_thread::sleep_until(next_);
    ModelRunnerOutput output = std::move(done_.front());
    done_.pop_front();
    return output;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const std::chrono::microseconds step_;
  Clock::time_point next_ = Clock::now();
  std::deque<ModelRunnerOutput> done_;
};

Result<std::unique_ptr<LlmEngine>> NullEngine(const std::string& model, int streams,
                                              std::chrono::microseconds step) {
  auto tokenizer = Tokenizer::FromFolder(model);
  if (!tokenizer) return tl::unexpected(tokenizer.error());
  EngineParts parts;
  parts.config.model = model;
  parts.config.max_model_len = 2048;
  parts.config.max_num_seqs = streams;
  parts.config.max_num_batched_tokens = 8192;
  parts.info.vocab_size = kVocab;
  parts.tokenizer = *std::move(tokenizer);
  parts.executor = std::make_unique<NullExecutor>(step);
  parts.kv.groups.push_back({.num_layers = 1, .block_tokens = 16, .bytes_per_block = 1});
  parts.num_blocks = streams * 128 + 1;
  return StartEngine(std::move(parts));
}

struct CpuTime {
  double user_s = 0;
  double system_s = 0;
};

/// Of this process's threads, by their names.
std::map<std::string, CpuTime> ThreadTimes() {
  std::map<std::string, CpuTime> times;
  const auto tick = static_cast<double>(sysconf(_SC_CLK_TCK));
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "stat");
    std::string line;
    std::getline(file, line);
    const size_t open = line.find('(');
    const size_t close = line.rfind(')');
    std::istringstream rest(line.substr(close + 2));
    std::string skipped;
    for (int i = 0; i < 11; ++i) rest >> skipped;
    double user = 0;
    double system = 0;
    rest >> user >> system;
    CpuTime& time = times[line.substr(open + 1, close - open - 1)];
    time.user_s += user / tick;
    time.system_s += system / tick;
  }
  return times;
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: {} GALE MODEL [STREAMS [TOKENS [STEP_US]]]\n", argv[0]);
    return 2;
  }
  const int streams = argc > 3 ? std::atoi(argv[3]) : 1024;
  const int tokens = argc > 4 ? std::atoi(argv[4]) : 256;
  const std::chrono::microseconds step(argc > 5 ? std::atoi(argv[5]) : streams * 20);
  server::ServerConfig config;
  config.http.port = 0;
  config.http.access_log = false;
  config.api.model_names = {"null"};
  auto server = server::ApiServer::Start(config);
  auto engine = NullEngine(argv[2], streams, step);
  if (!server || !engine) {
    fmt::print(stderr, "{}\n", (server ? engine.error() : server.error()).message);
    return 1;
  }
  LlmEngine& running = **engine;
  (*server)->Open(*std::move(engine));
  const std::string command = fmt::format(
      "{} bench serve --url http://127.0.0.1:{} --concurrency {} --requests {} "
      "--prompt-tokens 16 --output-tokens {}",
      argv[1], (*server)->port(), streams, streams, tokens);
  if (std::system(command.c_str()) != 0) return 1;
  const double count = static_cast<double>(running.stats().generated_tokens);
  fmt::print("{:<16} {:>12} {:>12}   microseconds per streamed token, {:.0f} of them\n", "thread",
             "user", "system", count);
  CpuTime all;
  for (const auto& [name, time] : ThreadTimes()) {
    fmt::print("{:<16} {:>12.2f} {:>12.2f}\n", name, time.user_s * 1e6 / count,
               time.system_s * 1e6 / count);
    all.user_s += time.user_s;
    all.system_s += time.system_s;
  }
  fmt::print("{:<16} {:>12.2f} {:>12.2f}\n", "all", all.user_s * 1e6 / count,
             all.system_s * 1e6 / count);
  std::raise(SIGTERM);
  return (*server)->ServeUntilSignal() ? 0 : 1;
}

}  // namespace
}  // namespace gale

int main(int argc, char** argv) { return gale::Main(argc, argv); }
