// The program `gale`: parses the command line and runs the one subcommand that it names.
#include <cstdio>
#include <exception>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/help_formatter.h"
#include "cli/standard_io.h"
#include "cli/usage.h"

namespace gale::cli {
namespace {

constexpr int kRuntimeError = 1;
constexpr int kUsageError = 2;

constexpr const char* kFooter = R"(
Examples:
  gale run models/gale-tales-10m "Once upon a time"
  gale pull Qwen/Qwen3-0.6B
  gale chat Qwen/Qwen3-0.6B
  gale info models/gale-tales-10m
  gale doctor

gale COMMAND --help shows a command's flags and more examples.
Exit codes: 0 done, 1 failed, 2 wrong command line.)";

void AddCommands(CLI::App& app, Action& action) {
  AddRunCommand(app, action);
  AddChatCommand(app, action);
  AddServeCommand(app, action);
  AddTokenizeCommand(app, action);
  AddPullCommand(app, action);
  AddQuantizeCommand(app, action);
  AddInfoCommand(app, action);
  AddDoctorCommand(app, action);
  AddCompletionCommand(app, action);
  AddVersionCommand(app, action);
  CLI::App* eval = app.add_subcommand("eval", "Measure what a model predicts");
  AddEvalPerplexityCommand(*eval, action);
  AddEvalLogprobsCommand(*eval, action);
  AddEvalCompareCommand(*eval, action);
  CLI::App* bench = app.add_subcommand("bench", "Measure speed");
  AddBenchLatencyCommand(*bench, action);
  AddBenchThroughputCommand(*bench, action);
  AddBenchLoadCommand(*bench, action);
  AddBenchServeCommand(*bench, action);
  AddBenchSpeculativeCommand(*bench, action);
}

int Fail(int exit_code, const std::string& message) {
  fmt::print(stderr, "gale: {}\n", message);
  return exit_code;
}

int Main(int argc, char** argv) {
  if (const Status status = PrepareStandardStreams(); !status) {
    return Fail(kRuntimeError, status.error().message);
  }
  CLI::App app("Runs large language models from their checkpoint folders.", "gale");
  app.formatter(MakeHelpFormatter());
  app.get_option("--help")->description("Print this text");
  app.set_version_flag("--version", VersionText, "Print version, commit and back ends");
  Action action;
  AddCommands(app, action);
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return WriteOut(app.help()) ? 0 : kRuntimeError;
  } catch (const CLI::CallForVersion& version) {
    return WriteOut(fmt::format("{}\n", version.what())) ? 0 : kRuntimeError;
  } catch (const CLI::ParseError& error) {
    return Fail(kUsageError, UsageMessage(app, error));
  }
  if (!action) {
    fmt::print(stderr, "{}", app.help());
    return kUsageError;
  }
  const Status status = action();
  return status ? 0 : Fail(kRuntimeError, status.error().message);
}

}  // namespace
}  // namespace gale::cli

int main(int argc, char** argv) {
  try {
    return gale::cli::Main(argc, argv);
  } catch (const std::exception& exception) {
    fmt::print(stderr, "gale: {}\n", exception.what());
    return 1;
  }
}
