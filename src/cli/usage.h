// What is said about a command line that cannot be run.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace gale::cli {

/// One sentence for a parse error; an unknown flag or command comes with the nearest known one.
std::string UsageMessage(const CLI::App& app, const CLI::ParseError& error);

}  // namespace gale::cli
