// Sends many streamed requests to an OpenAI-compatible server and notes when their tokens come; for
// `gale bench serve`.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "gale/status.h"

namespace gale::cli {

/// Where to: "http://127.0.0.1:8000", with or without "/v1" behind it.
struct LoadTarget {
  std::string host;
  std::string port;
  std::string base_path;  ///< "/v1"
  std::string key;        ///< "" for none

  /// Errors: kInvalidArgument for what is no http:// address.
  static Result<LoadTarget> Parse(const std::string& url);
};

struct LoadRequest {
  double start_s = 0;  ///< after the run's start; in a closed loop as soon as there is room
  std::string path;    ///< behind the base path: "/completions"
  std::string body;    ///< JSON that asks for a stream with usage
};

/// Times are in seconds after the run's start.
struct LoadResult {
  double sent_s = 0;
  std::vector<double> texts_s;  ///< when text came
  double end_s = 0;
  int prompt_tokens = 0;  ///< as the server counts
  int output_tokens = 0;
  std::string error;  ///< "" when it went well

  double first_s() const { return texts_s.empty() ? 0 : texts_s.front(); }
};

struct LoadOptions {
  int concurrency = 0;  ///< 0: each request starts at its time, whatever runs; else that many run
                        ///< at a time, over connections that are kept
  bool last_is_late = false;  ///< the last request is sent when so many others have begun to stream
};

/// Runs all requests and calls `on_done` after each, with how many are.
/// Errors: kNotFound when the server cannot be reached at all.
Result<std::vector<LoadResult>> RunLoad(const LoadTarget& target,
                                        const std::vector<LoadRequest>& requests,
                                        const LoadOptions& options,
                                        const std::function<void(size_t num_done)>& on_done);

/// The answer to a GET. Errors: kNotFound when the server cannot be reached or refuses.
Result<std::string> FetchText(const LoadTarget& target, const std::string& path);

}  // namespace gale::cli
