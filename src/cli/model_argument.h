// How a command is told its model: as its first argument, or with --model.
#pragma once

#include <optional>
#include <string>

#include <CLI/CLI.hpp>

namespace gale::cli {

/// MODEL or --model MODEL, required, for a command that takes no other argument.
CLI::Option* AddModelArgument(CLI::App& command, std::string& model);

/// For a command that also takes a text: MODEL TEXT, or TEXT with --model. Without --model the
/// first argument is always the model.
class ModelAndText {
 public:
  /// `model`, `text` and this must outlive the parsing. `what` describes the text.
  void AddTo(CLI::App& command, std::string& model, std::optional<std::string>& text,
             const std::string& what);
  /// Fills in model and text; for the command's callback. Throws CLI::ParseError.
  void Resolve();

 private:
  std::string* model_ = nullptr;
  std::optional<std::string>* text_ = nullptr;
  std::optional<std::string> first_;
  std::optional<std::string> second_;
};

}  // namespace gale::cli
