// How much faster speculation makes given prompts, one at a time, and that it alters nothing: every
// prompt runs with and without, in turns, in one engine.
//
//   bench_prompts MODEL METHOD PROMPTS.jsonl [--rounds=N] [--tokens=N] [--temperature=T]
//
// METHOD as of --speculative; PROMPTS as prompts.py writes them. Prints, for each kind, the ratio
// of tokens a second behind the first token (median of a prompt's rounds; then median and worst of
// the prompts), and the time of all of them; ends with 1 where a token differs.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "gale/llm_engine.h"

namespace gale {
namespace {

namespace json = boost::json;

struct Prompt {
  std::string kind;
  RequestParams request;
};

struct Options {
  std::string model;
  std::string method;
  std::string prompts;
  int rounds = 3;
  int max_tokens = 200;
  float temperature = 0;
};

struct Kind {
  std::vector<double> ratios;
  double plain_s = 0;
  double speculative_s = 0;
  int64_t tokens = 0;
};

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

std::vector<Prompt> ReadPrompts(const LlmEngine& engine, const Options& options) {
  std::vector<Prompt> prompts;
  std::ifstream file(options.prompts);
  for (std::string line; std::getline(file, line);) {
    const json::object record = json::parse(line).as_object();
    Prompt& prompt = prompts.emplace_back();
    prompt.kind = json::value_to<std::string>(record.at("kind"));
    const auto text = json::value_to<std::string>(record.at("prompt"));
    if (record.at("chat").as_bool()) {
      const json::array messages = {{{"role", "user"}, {"content", text}}};
      const auto rendered = engine.chat_template()->Render(json::serialize(messages));
      prompt.request.prompt =
          engine.tokenizer()->EncodePrompt(rendered->text, rendered->user_spans);
    } else {
      prompt.request.prompt = text;
    }
    prompt.request.sampling.temperature = options.temperature;
    prompt.request.sampling.seed = prompts.size();
    prompt.request.sampling.max_tokens = options.max_tokens;
  }
  return prompts;
}

double DecodeSeconds(const RequestOutput& output) {
  return output.times.total_s - output.times.first_token_s;
}

/// False: a token differs.
bool Measure(LlmEngine& engine, const Prompt& prompt, int rounds, Kind& kind) {
  std::vector<double> plain;
  std::vector<double> speculative;
  bool equal = true;
  for (int round = 0; round < rounds; ++round) {
    RequestParams request = prompt.request;
    request.sampling.speculative = Speculation::kOff;
    const RequestOutput without = engine.Generate({request})[0];
    request.sampling.speculative = Speculation::kAuto;
    const RequestOutput with = engine.Generate({request})[0];
    equal = equal && without.samples[0].tokens == with.samples[0].tokens;
    if (without.samples[0].tokens.size() < 2) continue;
    plain.push_back(DecodeSeconds(without));
    speculative.push_back(DecodeSeconds(with));
    if (round == 0) kind.tokens += static_cast<int64_t>(with.samples[0].tokens.size());
  }
  if (plain.empty()) return equal;
  kind.plain_s += Median(plain);
  kind.speculative_s += Median(speculative);
  kind.ratios.push_back(Median(plain) / Median(speculative));
  return equal;
}

int Run(const Options& options) {
  EngineConfig config;
  config.model = options.model;
  config.max_num_seqs = 1;
  const auto method = ParseSpeculativeConfig(options.method);
  if (!method) {
    fmt::print(stderr, "{}\n", method.error().message);
    return 2;
  }
  config.speculative = *method;
  const auto engine = LlmEngine::Create(config);
  if (!engine) {
    fmt::print(stderr, "{}\n", engine.error().message);
    return 2;
  }
  const std::vector<Prompt> prompts = ReadPrompts(**engine, options);
  std::map<std::string, Kind> kinds;
  int num_different = 0;
  for (const Prompt& prompt : prompts) {
    num_different += Measure(**engine, prompt, options.rounds, kinds[prompt.kind]) ? 0 : 1;
  }
  for (auto& [name, kind] : kinds) {
    if (kind.ratios.empty()) continue;
    std::ranges::sort(kind.ratios);
    fmt::print(
        "{:10} {:4} prompts {:6} tokens  {:7.1f} -> {:7.1f} tokens/s = {:.3f}  median {:.3f}  "
        "worst {:.3f}\n",
        name, kind.ratios.size(), kind.tokens, kind.tokens / kind.plain_s,
        kind.tokens / kind.speculative_s, kind.plain_s / kind.speculative_s, Median(kind.ratios),
        kind.ratios.front());
  }
  const EngineStats stats = (*engine)->stats();
  fmt::print("{} of {} prompts with other tokens; {} drafts, {} of {} tokens right\n",
             num_different, prompts.size(), stats.drafts, stats.accepted_draft_tokens,
             stats.draft_tokens);
  return num_different == 0 ? 0 : 1;
}

}  // namespace
}  // namespace gale

int main(int argc, char** argv) {
  gale::Options options;
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&](const char* flag) { return argument.substr(std::string(flag).size()); };
    if (argument.starts_with("--rounds=")) {
      options.rounds = std::atoi(value("--rounds=").c_str());
    } else if (argument.starts_with("--tokens=")) {
      options.max_tokens = std::atoi(value("--tokens=").c_str());
    } else if (argument.starts_with("--temperature=")) {
      options.temperature = std::strtof(value("--temperature=").c_str(), nullptr);
    } else {
      names.push_back(argument);
    }
  }
  if (names.size() != 3 || options.rounds < 1) {
    fmt::print(stderr,
               "usage: bench_prompts MODEL METHOD PROMPTS.jsonl [--rounds=N] [--tokens=N] "
               "[--temperature=T]\n");
    return 2;
  }
  options.model = names[0];
  options.method = names[1];
  options.prompts = names[2];
  return gale::Run(options);
}
