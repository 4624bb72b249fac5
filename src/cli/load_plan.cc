#include "cli/load_plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <fstream>
#include <optional>
#include <random>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace gale::cli {
namespace {

namespace json = boost::json;

constexpr int kFirstToken = 100;  ///< vocabularies tend to begin with special tokens

/// "2023-11-16 18:15:46.6805900,374,44"
std::optional<PlannedRequest> ParseAzureLine(const std::string& line) {
  std::tm date = {};
  const char* rest = strptime(line.c_str(), "%Y-%m-%d %H:%M:%S", &date);
  if (rest == nullptr) return std::nullopt;
  PlannedRequest request;
  double fraction = 0;
  const char* end = line.data() + line.size();
  const auto after_fraction = std::from_chars(rest, end, fraction);
  request.start_s = static_cast<double>(timegm(&date)) + fraction;
  if (after_fraction.ptr == end || *after_fraction.ptr != ',') return std::nullopt;
  const auto after_prompt = std::from_chars(after_fraction.ptr + 1, end, request.prompt_tokens);
  if (after_prompt.ptr == end || *after_prompt.ptr != ',') return std::nullopt;
  const auto after_output = std::from_chars(after_prompt.ptr + 1, end, request.output_tokens);
  if (after_output.ec != std::errc()) return std::nullopt;
  return request;
}

std::optional<PlannedRequest> ParseMooncakeLine(const std::string& line) {
  boost::system::error_code error;
  const json::value value = json::parse(line, error);
  if (error || !value.is_object()) return std::nullopt;
  const auto number = [&value](const char* name) -> std::optional<double> {
    const json::value* field = value.get_object().if_contains(name);
    if (field == nullptr || !field->is_number()) return std::nullopt;
    return field->to_number<double>();
  };
  const auto start_ms = number("timestamp");
  const auto input = number("input_length");
  const auto output = number("output_length");
  if (!start_ms || !input || !output) return std::nullopt;
  PlannedRequest request{.start_s = *start_ms / 1000,
                         .prompt_tokens = static_cast<int>(*input),
                         .output_tokens = static_cast<int>(*output)};
  if (const json::value* ids = value.get_object().if_contains("hash_ids"); ids && ids->is_array()) {
    for (const json::value& id : ids->get_array()) {
      if (id.is_int64()) request.block_ids.push_back(id.get_int64());
    }
  }
  return request;
}

/// A word for each number, so that prompts of a chat have about as many tokens as asked for.
std::string Words(const std::vector<int>& tokens) {
  static constexpr const char* kWords[] = {"the", "red", "old", "sea", "man", "sun", "day", "big",
                                           "dog", "and", "saw", "one", "new", "sky", "ran", "top"};
  std::string text;
  for (const int token : tokens) text += fmt::format("{} ", kWords[token % 16]);
  return text;
}

int AtMost(int value, int bound) { return bound > 0 ? std::min(value, bound) : value; }

}  // namespace

std::vector<int> PromptTokens(const PlannedRequest& request, size_t number,
                              const PromptStyle& style) {
  const int num_tokens = AtMost(request.prompt_tokens, style.max_prompt_tokens);
  std::vector<int> tokens;
  std::mt19937_64 shared(~style.seed);
  std::uniform_int_distribution<int> draw_shared(0, style.vocabulary - 1);
  for (int i = 0; i < std::min(request.shared_tokens, num_tokens); ++i) {
    tokens.push_back(draw_shared(shared));
  }
  for (size_t block = 0; static_cast<int>(tokens.size()) < num_tokens; ++block) {
    // By the block's id when the trace names one, else by the request.
    const bool is_shared = block < request.block_ids.size();
    std::seed_seq seeds{style.seed, uint64_t{is_shared},
                        is_shared ? static_cast<uint64_t>(request.block_ids[block]) : number,
                        is_shared ? uint64_t{0} : block};
    std::mt19937 random(seeds);
    std::uniform_int_distribution<int> draw(0, style.vocabulary - 1);
    const int count = std::min(kTraceBlockTokens, num_tokens - static_cast<int>(tokens.size()));
    for (int i = 0; i < count; ++i) tokens.push_back(draw(random));
  }
  return tokens;
}

int OutputTokens(const PlannedRequest& request, const PromptStyle& style) {
  return std::max(1, AtMost(request.output_tokens, style.max_output_tokens));
}

std::vector<PlannedRequest> PlanRandom(const RandomLoad& load) {
  std::mt19937_64 random(load.seed);
  std::exponential_distribution<double> gap(load.rate > 0 ? load.rate : 1);
  std::uniform_real_distribution<double> factor(1 - load.spread, 1 + load.spread);
  const auto length = [&](int mean) {
    return load.spread > 0 ? std::max(1, static_cast<int>(std::lround(mean * factor(random))))
                           : mean;
  };
  std::vector<PlannedRequest> plan;
  double now_s = 0;
  for (int i = 0; i < load.count; ++i) {
    plan.push_back({.start_s = now_s,
                    .prompt_tokens = length(load.prompt_tokens),
                    .output_tokens = length(load.output_tokens)});
    if (load.rate > 0) now_s += gap(random);
  }
  return plan;
}

Result<std::vector<PlannedRequest>> ReadTrace(const std::string& path, size_t limit, double speed) {
  std::ifstream file(path);
  if (!file) {
    return MakeError(ErrorCode::kNotFound, fmt::format("{}: cannot be read", path));
  }
  const bool is_csv = path.ends_with(".csv");
  std::vector<PlannedRequest> plan;
  size_t number = 0;
  for (std::string line; plan.size() < limit && std::getline(file, line);) {
    ++number;
    if (line.empty() || (is_csv && number == 1)) continue;
    std::optional<PlannedRequest> request = is_csv ? ParseAzureLine(line) : ParseMooncakeLine(line);
    if (!request || request->prompt_tokens < 1 || request->output_tokens < 0) {
      return MakeError(ErrorCode::kDataCorrupt,
                       fmt::format("{}:{}: expected {}, got {}", path, number,
                                   is_csv ? "TIMESTAMP,ContextTokens,GeneratedTokens"
                                          : "{\"timestamp\", \"input_length\", \"output_length\"}",
                                   line.substr(0, 80)));
    }
    plan.push_back(*std::move(request));
  }
  if (plan.empty()) {
    return MakeError(ErrorCode::kDataCorrupt, fmt::format("{}: no requests in it", path));
  }
  const double begin_s = plan.front().start_s;
  for (PlannedRequest& request : plan) request.start_s = (request.start_s - begin_s) / speed;
  std::ranges::stable_sort(plan, {}, &PlannedRequest::start_s);
  return plan;
}

std::vector<LoadRequest> MakeRequests(const std::vector<PlannedRequest>& plan,
                                      const PromptStyle& style) {
  std::vector<LoadRequest> requests;
  for (const PlannedRequest& planned : plan) {
    const std::vector<int> tokens = PromptTokens(planned, requests.size(), style);
    json::object body = {
        {"model", style.model}, {"stream", true},     {"stream_options", {{"include_usage", true}}},
        {"temperature", 0},     {"ignore_eos", true}, {"max_tokens", OutputTokens(planned, style)}};
    body["return_token_ids"] = true;  // they count, whatever text they make
    if (style.chat) {
      body["messages"] = json::array{json::object{{"role", "user"}, {"content", Words(tokens)}}};
    } else {
      json::array& ids = body["prompt"].emplace_array();
      for (const int token : tokens) ids.push_back(kFirstToken + token);
    }
    requests.push_back({.start_s = planned.start_s,
                        .path = style.chat ? "/chat/completions" : "/completions",
                        .body = json::serialize(body)});
  }
  return requests;
}

}  // namespace gale::cli
