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

/// One command of the parser's tree; the first is gale itself.
struct Node {
  const CLI::App* command;
  std::string path;  ///< "eval perplexity"; "" for gale
  std::vector<const CLI::App*> children;
};

void AddNodes(const CLI::App& command, const std::string& path, std::vector<Node>& nodes) {
  // Groups of options are subcommands without a name.
  const auto has_name = [](const CLI::App* child) { return !child->get_name().empty(); };
  const std::vector<const CLI::App*> children = command.get_subcommands(has_name);
  nodes.push_back({&command, path, children});
  for (const CLI::App* child : children) {
    AddNodes(*child, path.empty() ? child->get_name() : path + " " + child->get_name(), nodes);
  }
}

std::vector<const CLI::Option*> OptionsOf(const CLI::App& command) {
  std::vector<const CLI::Option*> options = command.get_options();
  const auto is_group = [](const CLI::App* child) { return child->get_name().empty(); };
  for (const CLI::App* group : command.get_subcommands(is_group)) {
    const std::vector<const CLI::Option*> more = group->get_options();
    options.insert(options.end(), more.begin(), more.end());
  }
  return options;
}

std::vector<std::string> FlagsOf(const CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : OptionsOf(command)) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

/// Branches of a `case` or `switch` over "COMMAND WORD", each of which leads one level down.
/// `format` takes the path, the word and the path below.
std::string Steps(const std::vector<Node>& nodes, fmt::string_view format) {
  std::string steps;
  for (const Node& node : nodes) {
    for (const CLI::App* child : node.children) {
      const std::string& name = child->get_name();
      steps += fmt::format(fmt::runtime(format), node.path, name,
                           node.path.empty() ? name : node.path + " " + name);
    }
  }
  return steps;
}

/// Branches of a `case` of bash and zsh that tell what may follow a command.
std::string Words(const std::vector<Node>& nodes) {
  std::string words;
  for (const Node& node : nodes) {
    std::vector<std::string> names;
    for (const CLI::App* child : node.children) names.push_back(child->get_name());
    words += fmt::format("    \"{}\") commands=({}) flags=({}) ;;\n", node.path,
                         fmt::join(names, " "), fmt::join(FlagsOf(*node.command), " "));
  }
  return words;
}

constexpr const char* kCase = "      \"{} {}\") command=\"{}\" ;;\n";

/// Where no command and no flag fits, bash completes file names (-o default).
std::string BashScript(const std::vector<Node>& nodes) {
  return fmt::format(R"(# Completes gale in bash. In ~/.bashrc: source <(gale completion bash)
_gale() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" command="" word
  local -a commands flags
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$command $word" in
{}    esac
  done
  case "$command" in
{}  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "${{flags[*]}}" -- "$current"))
  else
    COMPREPLY=($(compgen -W "${{commands[*]}}" -- "$current"))
  fi
}}
complete -o default -F _gale gale
)",
                     Steps(nodes, kCase), Words(nodes));
}

std::string ZshScript(const std::vector<Node>& nodes) {
  return fmt::format(R"(#compdef gale
# Completes gale in zsh. In ~/.zshrc, behind compinit: source <(gale completion zsh)
_gale() {{
  local command="" word
  local -a commands flags
  for word in "${{words[@]:1:$((CURRENT - 2))}}"; do
    case "$command $word" in
{}    esac
  done
  case "$command" in
{}  esac
  if [[ "${{words[CURRENT]}}" == -* ]]; then
    compadd -- $flags
  elif (( ${{#commands}} )); then
    compadd -- $commands
  else
    _files
  fi
}}
compdef _gale gale
)",
                     Steps(nodes, kCase), Words(nodes));
}

/// In single quotes of fish, which know two escapes.
std::string FishQuoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

std::string FishScript(const std::vector<Node>& nodes) {
  std::string script =
      fmt::format(R"(# Completes gale in fish. In config.fish: gale completion fish | source
function __gale_command
  set -l command ''
  for word in (commandline -opc)[2..]
    switch "$command $word"
{}    end
  end
  echo $command
end
)",
                  Steps(nodes, "      case '{} {}'\n        set command '{}'\n"));
  for (const Node& node : nodes) {
    const std::string here =
        fmt::format("complete -c gale -n 'test (__gale_command) = \"{}\"'", node.path);
    if (!node.children.empty()) script += here + " -f\n";
    for (const CLI::App* child : node.children) {
      script += fmt::format("{} -a {} -d {}\n", here, child->get_name(),
                            FishQuoted(child->get_description()));
    }
    for (const CLI::Option* option : OptionsOf(*node.command)) {
      for (const std::string& name : option->get_lnames()) {
        script +=
            fmt::format("{} -l {}{} -d {}\n", here, name, option->get_type_size() != 0 ? " -r" : "",
                        FishQuoted(option->get_description()));
      }
    }
  }
  return script;
}

std::string Script(const CLI::App& app, const std::string& shell) {
  std::vector<Node> nodes;
  AddNodes(app, "", nodes);
  if (shell == "zsh") return ZshScript(nodes);
  return shell == "fish" ? FishScript(nodes) : BashScript(nodes);
}

constexpr const char* kFooter = R"(
Example: commands, flags and file names are completed in this shell with
  source <(gale completion bash)      in ~/.bashrc
  source <(gale completion zsh)       in ~/.zshrc, behind compinit
  gale completion fish | source       in ~/.config/fish/config.fish)";

}  // namespace

void AddCompletionCommand(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("completion", "Print a script that completes gale in a shell");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "The shell: bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(kFooter);
  command->callback(
      [shell, &app, &action] { action = [shell, &app] { return WriteOut(Script(app, *shell)); }; });
}

}  // namespace gale::cli
