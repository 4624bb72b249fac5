#include "cli/load_report.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include <fmt/format.h>

namespace gale::cli {
namespace {

namespace json = boost::json;

bool IsGood(const LoadResult& result, const Objective& objective) {
  const auto keeps = [](double value, double bound) { return bound == 0 || value <= bound; };
  const double after_first_s = result.end_s - result.first_s;
  const double per_token_s =
      result.output_tokens > 1 ? after_first_s / (result.output_tokens - 1) : 0;
  return result.error.empty() && keeps(result.first_s - result.sent_s, objective.first_token_s) &&
         keeps(per_token_s, objective.per_token_s) &&
         keeps(result.end_s - result.sent_s, objective.end_to_end_s);
}

std::string Milliseconds(const Percentiles& times) {
  return fmt::format("{:>8.1f} {:>8.1f} {:>8.1f}", times.p50 * 1e3, times.p90 * 1e3,
                     times.p99 * 1e3);
}

json::object MillisecondsJson(const Percentiles& times) {
  return {{"p50", times.p50 * 1e3}, {"p90", times.p90 * 1e3}, {"p99", times.p99 * 1e3}};
}

/// One picture of a plot: three lines of percentiles over the load.
class Panel {
 public:
  Panel(std::string title, double left, const std::vector<LoadSummary>& runs,
        Percentiles LoadSummary::* times)
      : title_(std::move(title)), left_(left), runs_(runs), times_(times) {
    for (const LoadSummary& run : runs) {
      most_load_ = std::max(most_load_, run.load_value);
      most_ms_ = std::max(most_ms_, (run.*times).p99 * 1e3);
    }
    most_load_ = NiceCeiling(most_load_);
    most_ms_ = NiceCeiling(most_ms_);
  }

  std::string Draw(const std::string& axis) const {
    std::string out = fmt::format(R"(<text x="{:.0f}" y="24" class="title">{}</text>)"
                                  R"(<text x="{:.0f}" y="318" text-anchor="middle">{}</text>)",
                                  left_, title_, left_ + kWidth / 2, axis);
    for (int i = 0; i <= 4; ++i) {
      const double share = i / 4.0;
      out += fmt::format(
          R"(<line x1="{0:.0f}" x2="{1:.0f}" y1="{2:.0f}" y2="{2:.0f}" class="grid"/>)"
          R"(<text x="{3:.0f}" y="{4:.0f}" text-anchor="end">{5:g}</text>)"
          R"(<text x="{6:.0f}" y="298" text-anchor="middle">{7:g}</text>)",
          left_, left_ + kWidth, Y(share * most_ms_), left_ - 6, Y(share * most_ms_) + 4,
          share * most_ms_, X(share * most_load_), share * most_load_);
    }
    out += Line("p50", "#1f8fb3", &Percentiles::p50);
    out += Line("p90", "#e08a3c", &Percentiles::p90);
    out += Line("p99", "#b3261e", &Percentiles::p99);
    return out;
  }

  static constexpr double kWidth = 320;

 private:
  static constexpr double kTop = 44;
  static constexpr double kHeight = 236;

  static double NiceCeiling(double value) {
    if (value <= 0) return 1;
    const double decade = std::pow(10, std::floor(std::log10(value)));
    for (const double factor : {1.0, 2.0, 4.0, 5.0, 8.0}) {
      if (value <= factor * decade) return factor * decade;
    }
    return 10 * decade;
  }
  double X(double load) const { return left_ + load / most_load_ * kWidth; }
  double Y(double ms) const { return kTop + kHeight * (1 - ms / most_ms_); }

  std::string Line(const char* name, const char* color, double Percentiles::* which) const {
    std::string points;
    std::string marks;
    double last_y = 0;
    for (const LoadSummary& run : runs_) {
      const double x = X(run.load_value);
      last_y = Y((run.*times_).*which * 1e3);
      points += fmt::format("{:.1f},{:.1f} ", x, last_y);
      marks +=
          fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"/>)", x, last_y, color);
    }
    return fmt::format(R"(<polyline points="{0}" fill="none" stroke="{1}" stroke-width="2"/>{2})"
                       R"(<text x="{3:.0f}" y="{4:.0f}" fill="{1}">{5}</text>)",
                       points, color, marks, X(runs_.back().load_value) + 6, last_y + 4, name);
  }

  std::string title_;
  double left_;
  const std::vector<LoadSummary>& runs_;
  Percentiles LoadSummary::* times_;
  double most_load_ = 0;
  double most_ms_ = 0;
};

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
    if (result.first_s > 0) first.push_back(result.first_s - result.sent_s);
    whole.push_back(result.end_s - result.sent_s);
    gaps.insert(gaps.end(), result.gaps_s.begin(), result.gaps_s.end());
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

std::string LoadPlot(const std::vector<LoadSummary>& runs, const std::string& axis) {
  constexpr double kPanelStep = 430;
  const std::pair<const char*, Percentiles LoadSummary::*> panels[] = {
      {"Time to first token, ms", &LoadSummary::first_token},
      {"Between tokens, ms", &LoadSummary::between_tokens},
      {"Whole request, ms", &LoadSummary::end_to_end}};
  std::string out = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:.0f} 330" font-family="sans-serif" )"
      R"(font-size="12"><style>.grid{{stroke:#ccc}}.title{{font-size:14px;font-weight:bold}}</style>)"
      R"(<rect width="100%" height="100%" fill="white"/>)",
      kPanelStep * static_cast<double>(std::size(panels)) + 30);
  double left = 60;
  for (const auto& [title, times] : panels) {
    out += Panel(title, left, runs, times).Draw(axis);
    left += kPanelStep;
  }
  return out + "</svg>\n";
}

}  // namespace gale::cli
