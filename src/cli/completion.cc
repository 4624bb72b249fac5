// gale completion: a script by which the shell completes commands and flags.
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/command.h"
#include "cli/standard_io.h"

namespace gale::cli {
namespace {

/// The parser's tree as branches of two bash `case` statements.
struct Cases {
  std::string steps;  ///< "command word" that leads one level down
  std::string words;  ///< what may follow a command
};

void AddCases(const CLI::App& command, const std::string& path, Cases& cases) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  std::vector<std::string> names;
  const auto any = [](const CLI::App*) { return true; };
  for (const CLI::App* child : command.get_subcommands(any)) {
    const std::string& name = child->get_name();
    const std::string child_path = path.empty() ? name : path + " " + name;
    names.push_back(name);
    cases.steps += fmt::format("      \"{} {}\") command=\"{}\" ;;\n", path, name, child_path);
    AddCases(*child, child_path, cases);
  }
  cases.words += fmt::format("    \"{}\") commands=\"{}\" flags=\"{}\" ;;\n", path,
                             fmt::join(names, " "), fmt::join(flags, " "));
}

/// Where no command and no flag fits, bash completes file names (-o default).
std::string BashScript(const CLI::App& app) {
  Cases cases;
  AddCases(app, "", cases);
  return fmt::format(R"(# Completes gale in bash. In ~/.bashrc: source <(gale completion bash)
_gale() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" command="" commands="" flags="" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$command $word" in
{}    esac
  done
  case "$command" in
{}  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$current"))
  else
    COMPREPLY=($(compgen -W "$commands" -- "$current"))
  fi
}}
complete -o default -F _gale gale
)",
                     cases.steps, cases.words);
}

constexpr const char* kFooter = R"(
Example:
  source <(gale completion bash)    completes commands, flags and file names in this shell)";

}  // namespace

void AddCompletionCommand(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("completion", "Print a script that completes gale in bash");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "The shell: bash")
      ->required()
      ->check(CLI::IsMember({"bash"}));
  command->footer(kFooter);
  command->callback(
      [shell, &app, &action] { action = [&app] { return WriteOut(BashScript(app)); }; });
}

}  // namespace gale::cli
