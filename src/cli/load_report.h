// What `gale bench serve` found: percentiles, tables and records.
#pragma once

#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "cli/load_client.h"

namespace gale::cli {

/// Seconds.
struct Percentiles {
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;

  /// Of the smallest value that so many percent do not exceed; zeros for no values.
  static Percentiles Of(std::vector<double> values);
};

/// What a request must keep to count as good; 0: no bound.
struct Objective {
  double first_token_s = 0;
  double per_token_s = 0;  ///< mean after the first
  double end_to_end_s = 0;
};

/// One run: a rate, a concurrency, or a trace.
struct LoadSummary {
  std::string load;  ///< "4 requests/s"
  double load_value = 0;
  int requests = 0;
  int failed = 0;
  std::string first_error;
  double duration_s = 0;
  double requests_per_s = 0;
  double prompt_tokens_per_s = 0;
  double output_tokens_per_s = 0;
  Percentiles first_token;
  Percentiles between_tokens;
  Percentiles end_to_end;
  double good_share = 0;  ///< of all requests, failed ones too
  double good_per_s = 0;
};
LoadSummary Summarize(std::string load, double load_value, const std::vector<LoadResult>& results,
                      const Objective& objective);

std::string LoadTable(const std::vector<LoadSummary>& runs);
boost::json::object LoadRecord(const LoadSummary& run);

/// A long prompt that came while others streamed.
struct LateSummary {
  std::string error;  ///< "" when it went well
  int prompt_tokens = 0;
  double alone_s = 0;        ///< to the first token of one like it, on an idle server
  double first_token_s = 0;  ///< to its first token
  Percentiles before;        ///< between the others' tokens, until it came
  Percentiles meanwhile;     ///< and from then until its first token
};
LateSummary SummarizeLate(const std::vector<LoadResult>& others, const LoadResult& alone,
                          const LoadResult& late);
std::string LateText(const LateSummary& late);
boost::json::object LateRecord(const LateSummary& late);

}  // namespace gale::cli
