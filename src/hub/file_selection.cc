#include "hub/file_selection.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace gale {
namespace {

constexpr std::string_view kWeights = ".safetensors";
constexpr std::string_view kGguf = ".gguf";

/// Of what a model needs beside its weights: tokenizers also come as tokenizer.model, merges.txt,
/// vocab.txt and *.tiktoken, chat templates as *.jinja.
constexpr std::array<std::string_view, 5> kEndings = {".json", ".model", ".txt", ".tiktoken",
                                                      ".jinja"};

/// "a-00002-of-00003.gguf" gives "a-" and "-of-00003.gguf"; other names have one shard.
bool SplitShardName(std::string_view name, std::string_view& front, std::string_view& back) {
  constexpr std::string_view kPattern = "00000-of-00000.gguf";
  if (name.size() < kPattern.size()) return false;
  const std::string_view tail = name.substr(name.size() - kPattern.size());
  for (size_t i = 0; i < tail.size(); ++i) {
    const bool is_digit = std::isdigit(static_cast<unsigned char>(tail[i])) != 0;
    if (kPattern[i] == '0' ? !is_digit : tail[i] != kPattern[i]) return false;
  }
  front = name.substr(0, name.size() - kPattern.size());
  back = tail.substr(5);
  return true;
}

std::vector<std::string> GgufFiles(std::span<const std::string> files) {
  std::vector<std::string> found;
  std::copy_if(files.begin(), files.end(), std::back_inserter(found),
               [](const std::string& name) { return name.ends_with(kGguf); });
  return found;
}

Result<std::vector<std::string>> SelectGguf(std::span<const std::string> files,
                                            const std::string& gguf_file) {
  const std::vector<std::string> known = GgufFiles(files);
  if (std::find(known.begin(), known.end(), gguf_file) == known.end()) {
    return MakeError(ErrorCode::kNotFound,
                     known.empty() ? "the repository has no GGUF files"
                                   : fmt::format("no file {} in the repository; its GGUF files: {}",
                                                 gguf_file, fmt::join(known, ", ")));
  }
  std::string_view front;
  std::string_view back;
  if (!SplitShardName(gguf_file, front, back)) return std::vector{gguf_file};
  std::vector<std::string> shards;
  for (const std::string& name : known) {
    std::string_view other_front;
    std::string_view other_back;
    if (SplitShardName(name, other_front, other_back) && front == other_front &&
        back == other_back) {
      shards.push_back(name);
    }
  }
  std::sort(shards.begin(), shards.end());
  return shards;
}

}  // namespace

Result<std::vector<std::string>> SelectFiles(std::span<const std::string> files,
                                             const std::string& gguf_file) {
  if (!gguf_file.empty()) return SelectGguf(files, gguf_file);
  const auto is_top = [](const std::string& name) { return name.find('/') == std::string::npos; };
  const auto is_weights = [&](const std::string& name) {
    return is_top(name) && name.ends_with(kWeights);
  };
  const bool has_usual_names = std::any_of(files.begin(), files.end(), [&](const auto& name) {
    return is_weights(name) && name.starts_with("model");
  });
  std::vector<std::string> selected;
  bool has_weights = false;
  for (const std::string& name : files) {
    const bool is_part = std::any_of(kEndings.begin(), kEndings.end(),
                                     [&](std::string_view end) { return name.ends_with(end); });
    const bool is_weight = is_weights(name) && (!has_usual_names || name.starts_with("model"));
    if ((is_top(name) && is_part) || is_weight) selected.push_back(name);
    has_weights |= is_weight;
  }
  if (has_weights) return selected;
  const std::vector<std::string> gguf = GgufFiles(files);
  return MakeError(
      ErrorCode::kNotFound,
      gguf.empty() ? "the repository has neither safetensors nor GGUF weights"
                   : fmt::format("the repository has no safetensors weights; take one of its GGUF "
                                 "files with --gguf FILE: {}",
                                 fmt::join(gguf, ", ")));
}

}  // namespace gale
