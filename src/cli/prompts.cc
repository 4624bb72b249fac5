#include "cli/prompts.h"

#include <algorithm>
#include <utility>

#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>
#include <fmt/format.h>

#include "cli/standard_io.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

Result<Prompt> ReadPrompt(std::string_view line) {
  boost::system::error_code error;
  const json::value value = json::parse(json::string_view(line.data(), line.size()), error);
  if (error) return MakeError(ErrorCode::kInvalidArgument, "not JSON: " + error.message());
  if (!value.is_object() || !value.get_object().contains("prompt")) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "expected an object with a \"prompt\", as in {\"prompt\": \"Once\"}");
  }
  Prompt prompt;
  for (const auto& [key, field] : value.get_object()) {
    if (key == "prompt") {
      if (!field.is_string()) {
        return MakeError(ErrorCode::kInvalidArgument, "\"prompt\" must be a string");
      }
      prompt.text = json::value_to<std::string>(field);
      continue;
    }
    const Result<bool> known = ReadSamplingField({key.data(), key.size()}, field, prompt.sampling);
    if (!known) return tl::unexpected(known.error());
    if (!*known) {
      return MakeError(ErrorCode::kInvalidArgument,
                       fmt::format("unknown field \"{}\"; fields are prompt and the sampling flags "
                                   "with underscores (temperature, top_k, max_tokens, ...)",
                                   std::string_view(key.data(), key.size())));
    }
  }
  return prompt;
}

}  // namespace

Result<std::vector<Prompt>> ReadPromptFile(const std::string& path) {
  const Result<std::string> text = ReadFile(path);
  if (!text) return tl::unexpected(text.error());
  std::vector<Prompt> prompts;
  size_t number = 0;
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\n', begin), text->size());
    const std::string_view line = std::string_view(*text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Result<Prompt> prompt = ReadPrompt(line);
    if (!prompt) {
      return MakeError(prompt.error().code, fmt::format("{}, line {}: {}", InputName(path), number,
                                                        prompt.error().message));
    }
    prompts.push_back(*std::move(prompt));
  }
  if (prompts.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{} holds no prompts", InputName(path)));
  }
  return prompts;
}

}  // namespace gale::cli
