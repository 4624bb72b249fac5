#include "cli/help_formatter.h"

#include <sstream>
#include <string>

#include <fmt/format.h>

namespace gale::cli {
namespace {

constexpr size_t kLeftColumns = 32;
constexpr size_t kWidth = 100;

/// One entry; a left part that is too wide gets a line of its own.
std::string Entry(const std::string& left, const std::string& description) {
  std::string text;
  std::string line = fmt::format("  {:<{}}", left, kLeftColumns - 2);
  if (left.size() + 4 > kLeftColumns) {
    text = fmt::format("  {}\n", left);
    line = std::string(kLeftColumns, ' ');
  }
  std::istringstream words(description);
  for (std::string word; words >> word;) {
    if (line.size() + 1 + word.size() > kWidth) {
      text += line + '\n';
      line = std::string(kLeftColumns, ' ');
    }
    if (line.size() > kLeftColumns) line += ' ';
    line += word;
  }
  return text + line + '\n';
}

class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    std::string left = make_option_name(option, is_positional);
    if (!is_positional && !left.starts_with("--") && left.find(",--") != std::string::npos) {
      left.replace(left.find(','), 1, ", ");
    }
    if (!is_positional && option->get_type_size() != 0) left += " " + option->get_type_name();
    std::string description = option->get_description();
    if (!option->get_default_str().empty()) {
      description += fmt::format(" (default {})", option->get_default_str());
    }
    return Entry(left, description + (option->get_required() ? " (required)" : ""));
  }

  std::string make_subcommand(const CLI::App* sub) const override {
    return Entry(sub->get_name(), sub->get_description());
  }

  std::string make_description(const CLI::App* app) const override {
    return app->get_description() + "\n\n";
  }

  std::string make_footer(const CLI::App* app) const override { return app->get_footer() + "\n"; }

  /// The parts with one empty line between them.
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    std::string text = CLI::Formatter::make_help(app, name, mode);
    for (size_t at = 0; (at = text.find("\n\n\n", at)) != std::string::npos;) text.erase(at, 1);
    return text;
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> MakeHelpFormatter() {
  return std::make_shared<HelpFormatter>();
}

}  // namespace gale::cli
