#include "cli/load_report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace gale::cli {
namespace {

namespace json = boost::json;

bool IsGood(const LoadResult& result, const Objective& objective) {
  const auto keeps = [](double value, double bound) { return bound == 0 || value <= bound; };
  const double after_first_s = result.end_s - result.first_s();
  const double per_token_s =
      result.output_tokens > 1 ? after_first_s / (result.output_tokens - 1) : 0;
  return result.error.empty() && keeps(result.first_s() - result.sent_s, objective.first_token_s) &&
         keeps(per_token_s, objective.per_token_s) &&
         keeps(result.end_s - result.sent_s, objective.end_to_end_s);
}

/// Those that ended in (begin_s, end_s].
void AddGaps(const LoadResult& result, double begin_s, double end_s, std::vector<double>& gaps) {
  for (size_t i = 1; i < result.texts_s.size(); ++i) {
    const double at_s = result.texts_s[i];
    if (at_s > begin_s && at_s <= end_s) gaps.push_back(at_s - result.texts_s[i - 1]);
  }
}

std::string Milliseconds(const Percentiles& times) {
  return fmt::format("{:>8.1f} {:>8.1f} {:>8.1f}", times.p50 * 1e3, times.p90 * 1e3,
                     times.p99 * 1e3);
}

json::object MillisecondsJson(const Percentiles& times) {
  return {{"p50", times.p50 * 1e3}, {"p90", times.p90 * 1e3}, {"p99", times.p99 * 1e3}};
}

}  // namespace

Percentiles Percentiles::Of(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  const auto at = [&values](double share) {
    const double rank = std::ceil(share * static_cast<double>(values.size()));
    return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
  };
  return {at(0.5), at(0.9), at(0.99)};
}

LoadSummary Summarize(std::string load, double load_value, const std::vector<LoadResult>& results,
                      const Objective& objective) {
  LoadSummary run;
  run.load = std::move(load);
  run.load_value = load_value;
  std::vector<double> first;
  std::vector<double> gaps;
  std::vector<double> whole;
  double prompt_tokens = 0;
  double output_tokens = 0;
  int good = 0;
  for (const LoadResult& result : results) {
    ++run.requests;
    run.duration_s = std::max(run.duration_s, result.end_s);
    good += IsGood(result, objective) ? 1 : 0;
    if (!result.error.empty()) {
      ++run.failed;
      if (run.first_error.empty()) run.first_error = result.error;
      continue;
    }
    if (!result.texts_s.empty()) first.push_back(result.first_s() - result.sent_s);
    whole.push_back(result.end_s - result.sent_s);
    AddGaps(result, 0, result.end_s, gaps);
    prompt_tokens += result.prompt_tokens;
    output_tokens += result.output_tokens;
  }
  run.first_token = Percentiles::Of(std::move(first));
  run.between_tokens = Percentiles::Of(std::move(gaps));
  run.end_to_end = Percentiles::Of(std::move(whole));
  if (run.requests == 0 || run.duration_s == 0) return run;
  run.requests_per_s = (run.requests - run.failed) / run.duration_s;
  run.prompt_tokens_per_s = prompt_tokens / run.duration_s;
  run.output_tokens_per_s = output_tokens / run.duration_s;
  run.good_share = static_cast<double>(good) / run.requests;
  run.good_per_s = good / run.duration_s;
  return run;
}

LateSummary SummarizeLate(const std::vector<LoadResult>& others, const LoadResult& alone,
                          const LoadResult& late) {
  LateSummary summary;
  for (const LoadResult* result : {&alone, &late}) {
    if (!result->error.empty()) summary.error = result->error;
    if (result->error.empty() && result->texts_s.empty()) summary.error = "no token came";
  }
  if (!summary.error.empty()) return summary;
  summary.prompt_tokens = late.prompt_tokens;
  summary.alone_s = alone.first_s() - alone.sent_s;
  summary.first_token_s = late.first_s() - late.sent_s;
  std::vector<double> before;
  std::vector<double> meanwhile;
  for (const LoadResult& other : others) {
    AddGaps(other, 0, late.sent_s, before);
    AddGaps(other, late.sent_s, late.first_s(), meanwhile);
  }
  summary.before = Percentiles::Of(std::move(before));
  summary.meanwhile = Percentiles::Of(std::move(meanwhile));
  return summary;
}

std::string LateText(const LateSummary& late) {
  if (!late.error.empty()) return fmt::format("the late prompt failed: {}\n", late.error);
  const auto ratio = [](double a, double b) { return b > 0 ? a / b : 0; };
  return fmt::format(
      "late prompt of {} tokens: first token after {:.1f} ms, {:.2f} times the {:.1f} ms alone\n"
      "others between tokens: p50 {:.1f} ms before; meanwhile p50 {:.1f} and p99 {:.1f} ms, {:.2f} "
      "times that p50\n",
      late.prompt_tokens, late.first_token_s * 1e3, ratio(late.first_token_s, late.alone_s),
      late.alone_s * 1e3, late.before.p50 * 1e3, late.meanwhile.p50 * 1e3, late.meanwhile.p99 * 1e3,
      ratio(late.meanwhile.p99, late.meanwhile.p50));
}

json::object LateRecord(const LateSummary& late) {
  if (!late.error.empty()) return {{"error", late.error}};
  return {{"prompt_tokens", late.prompt_tokens},
          {"first_token_ms", late.first_token_s * 1e3},
          {"first_token_alone_ms", late.alone_s * 1e3},
          {"between_tokens_before_ms", MillisecondsJson(late.before)},
          {"between_tokens_meanwhile_ms", MillisecondsJson(late.meanwhile)}};
}

std::string LoadTable(const std::vector<LoadSummary>& runs) {
  std::string out = fmt::format(
      "{:<16} {:>6} {:>6} {:>8} {:>9} {:>26} {:>26} {:>26} {:>7}\n{:<16} {:>6} {:>6} {:>8} {:>9} "
      "{:>26} {:>26} {:>26} {:>7}\n",
      "load", "done", "failed", "req/s", "tokens/s", "first token, ms", "between tokens, ms",
      "whole request, ms", "good", "", "", "", "", "", "p50      p90      p99",
      "p50      p90      p99", "p50      p90      p99", "");
  for (const LoadSummary& run : runs) {
    out += fmt::format("{:<16} {:>6} {:>6} {:>8.2f} {:>9.1f} {} {} {} {:>6.1f}%\n", run.load,
                       run.requests - run.failed, run.failed, run.requests_per_s,
                       run.output_tokens_per_s, Milliseconds(run.first_token),
                       Milliseconds(run.between_tokens), Milliseconds(run.end_to_end),
                       run.good_share * 100);
    if (run.failed > 0) out += fmt::format("  the first failure: {}\n", run.first_error);
  }
  return out;
}

json::object LoadRecord(const LoadSummary& run) {
  return {{"load", run.load},
          {"load_value", run.load_value},
          {"requests", run.requests},
          {"failed", run.failed},
          {"duration_s", run.duration_s},
          {"requests_per_s", run.requests_per_s},
          {"prompt_tokens_per_s", run.prompt_tokens_per_s},
          {"output_tokens_per_s", run.output_tokens_per_s},
          {"first_token_ms", MillisecondsJson(run.first_token)},
          {"between_tokens_ms", MillisecondsJson(run.between_tokens)},
          {"end_to_end_ms", MillisecondsJson(run.end_to_end)},
          {"good_share", run.good_share},
          {"good_per_s", run.good_per_s}};
}

}  // namespace gale::cli
