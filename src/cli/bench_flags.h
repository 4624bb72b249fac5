// Flags and files that the bench commands share.
#pragma once

#include <string>
#include <type_traits>

#include <CLI/CLI.hpp>
#include <boost/json/value.hpp>

#include "cli/bench_run.h"
#include "cli/whole_number.h"
#include "gale/engine_config.h"

namespace gale::cli {

struct BenchOptions {
  EngineConfig engine;
  BenchRepeats times;
  std::string json;  ///< a file, "-", or empty: text on standard output

  bool WantsText() const { return json != "-"; }
};

/// Flags of one bench command.
struct BenchFlags {
  CLI::App& command;

  /// A positive number, or a list of them.
  template <class T>
  CLI::Option* Count(const char* name, T& value, const char* description) const {
    CLI::Option* option = command.add_option(name, value, description)
                              ->type_name("N")
                              ->check(WholeNumber(1))
                              ->capture_default_str();
    if constexpr (!std::is_same_v<T, int>) option->delimiter(',')->type_name("N,...");
    return option;
  }
  /// --repeats, at least `min_repeats`, --warmup, --json and those of the engine.
  void Common(BenchOptions& options, int min_repeats) const;
  void TopK(int& top_k) const;
};

/// To options.json, if that is given.
Status WriteBenchJson(const BenchOptions& options, const boost::json::value& record);

}  // namespace gale::cli
