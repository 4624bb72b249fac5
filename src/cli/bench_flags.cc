#include "cli/bench_flags.h"

#include <fstream>

#include <fmt/format.h>

#include "cli/engine_flags.h"
#include "cli/json_text.h"
#include "cli/standard_io.h"

namespace gale::cli {

void BenchFlags::Common(BenchOptions& options, int min_repeats) const {
  command
      .add_option("--repeats", options.times.repeats,
                  fmt::format("Measured repeats, at least {}", min_repeats))
      ->type_name("N")
      ->check(WholeNumber(min_repeats, 1000))
      ->capture_default_str();
  command.add_option("--warmup", options.times.warmup, "Repeats before them that are not measured")
      ->type_name("N")
      ->check(WholeNumber(0))
      ->capture_default_str();
  command
      .add_option("--json", options.json,
                  "Also as JSON, to FILE; without one to standard output, and no table")
      ->type_name("[FILE]")
      ->expected(0, 1)
      ->default_str("-");
  AddEngineFlags(command, options.engine);
}

void BenchFlags::TopK(int& top_k) const {
  command.add_option("--top-k", top_k, "Draw among the likeliest N; 0 = greedy")
      ->type_name("N")
      ->check(WholeNumber(0))
      ->capture_default_str();
}

Status WriteBenchJson(const BenchOptions& options, const boost::json::value& record) {
  if (options.json.empty()) return {};
  const std::string text = JsonIndented(record, 6);
  if (!options.WantsText()) return WriteOut(text);
  std::ofstream file(options.json);
  file << text;
  file.close();
  if (file) return {};
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("--json: cannot write {}: give a file in a folder that exists, or - "
                               "for standard output",
                               options.json));
}

}  // namespace gale::cli
