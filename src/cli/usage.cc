#include "cli/usage.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace gale::cli {
namespace {

/// Insertions, deletions and replacements of one character (Levenshtein).
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row[b.size()];
}

/// " (did you mean X?)" for the nearest candidate, or "" when none is near.
std::string Hint(const std::string& given, const std::vector<std::string>& candidates) {
  const auto distance = [&given](const std::string& name) { return EditDistance(given, name); };
  const auto best = std::min_element(
      candidates.begin(), candidates.end(),
      [&](const std::string& a, const std::string& b) { return distance(a) < distance(b); });
  if (best == candidates.end() || distance(*best) > std::max<size_t>(2, given.size() / 3))
    return "";
  return fmt::format(" (did you mean {}?)", *best);
}

std::vector<std::string> FlagNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> CommandNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(sub->get_name());
  }
  return names;
}

std::string FullName(const CLI::App& command) {
  return command.get_parent() == nullptr
             ? command.get_name()
             : FullName(*command.get_parent()) + " " + command.get_name();
}

/// The subcommand that was given, innermost; `app` itself when none was.
const CLI::App& GivenCommand(const CLI::App& app) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  return *command;
}

}  // namespace

std::string UsageMessage(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = GivenCommand(app);
  const std::string name = FullName(command);
  const std::vector<std::string> unknown = command.remaining();
  // An unknown flag is named first: what else seems to be missing often follows from it.
  const auto flag = std::find_if(unknown.begin(), unknown.end(),
                                 [](const std::string& word) { return word.starts_with("-"); });
  std::string message;
  if (flag != unknown.end()) {
    const std::string given = flag->substr(0, flag->find('='));
    message = fmt::format("unknown flag {}{}", given, Hint(given, FlagNames(command)));
  } else if (!unknown.empty() && !CommandNames(command).empty()) {
    message =
        fmt::format("unknown command {}{}", unknown[0], Hint(unknown[0], CommandNames(command)));
  } else if (!unknown.empty()) {
    message = fmt::format("unexpected argument \"{}\" (quote a text of several words)", unknown[0]);
  } else {
    message = error.what();
  }
  return fmt::format("{}. See {} --help.", message, name);
}

}  // namespace gale::cli
