// The subcommands of `gale`. Each file adds its flags to the parser and sets what to run.
// A wrong command line throws CLI::ParseError (exit code 2); what fails later is a Status (1).
#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "gale/status.h"

namespace gale::cli {

/// What the command line asks for; set by the callback of the subcommand that was given.
using Action = std::function<Status()>;

void AddRunCommand(CLI::App& app, Action& action);
void AddChatCommand(CLI::App& app, Action& action);
void AddServeCommand(CLI::App& app, Action& action);
void AddTokenizeCommand(CLI::App& app, Action& action);
void AddPullCommand(CLI::App& app, Action& action);
void AddQuantizeCommand(CLI::App& app, Action& action);
void AddInfoCommand(CLI::App& app, Action& action);
void AddDoctorCommand(CLI::App& app, Action& action);
void AddCompletionCommand(CLI::App& app, Action& action);
void AddVersionCommand(CLI::App& app, Action& action);
void AddEvalPerplexityCommand(CLI::App& eval, Action& action);
void AddEvalLogprobsCommand(CLI::App& eval, Action& action);
void AddEvalCompareCommand(CLI::App& eval, Action& action);
void AddBenchLatencyCommand(CLI::App& bench, Action& action);
void AddBenchLoadCommand(CLI::App& bench, Action& action);
void AddBenchThroughputCommand(CLI::App& bench, Action& action);
void AddBenchServeCommand(CLI::App& bench, Action& action);
void AddBenchSpeculativeCommand(CLI::App& bench, Action& action);  ///< bench/engine

/// What `gale --version` prints: version, commit, compiler, back ends, architectures.
std::string VersionText();

}  // namespace gale::cli
