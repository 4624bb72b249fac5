#include "cli/model_argument.h"

#include <fmt/format.h>

namespace gale::cli {
namespace {

constexpr const char* kWhatModel =
    "Model folder, GGUF file, or ORG/NAME[@REVISION] of the Hugging Face cache (gale pull fetches "
    "one)";

}  // namespace

CLI::Option* AddModelArgument(CLI::App& command, std::string& model) {
  return command.add_option("-m,--model,model", model, kWhatModel)->type_name("MODEL")->required();
}

void ModelAndText::AddTo(CLI::App& command, std::string& model, std::optional<std::string>& text,
                         const std::string& what) {
  model_ = &model;
  text_ = &text;
  command.add_option("MODEL", first_, "The model, unless --model names it");
  command.add_option("TEXT", second_, fmt::format("{}; with --model, the only argument", what));
  command.add_option("-m,--model", model, kWhatModel)->type_name("MODEL");
}

void ModelAndText::Resolve() {
  if (model_->empty()) {
    if (!first_) throw CLI::RequiredError("A model (first argument, or --model)");
    *model_ = *first_;
    *text_ = second_;
  } else if (second_) {
    throw CLI::ValidationError(
        fmt::format("unexpected argument \"{}\" (quote a text of several words)", *second_));
  } else {
    *text_ = first_;
  }
}

}  // namespace gale::cli
