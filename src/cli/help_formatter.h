// How --help is laid out: flag and value on the left, the description wrapped on the right.
#pragma once

#include <memory>

#include <CLI/CLI.hpp>

namespace gale::cli {

std::shared_ptr<CLI::FormatterBase> MakeHelpFormatter();

}  // namespace gale::cli
