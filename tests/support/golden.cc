#include "support/golden.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/check.h"
#include "base/mapped_file.h"
#include "weights/safetensors.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(GALE_SOURCE_DIR) / "tests/data/models";

template <class T>
std::vector<T> Values(const std::vector<CheckpointTensor>& entries, const std::string& name) {
  for (const CheckpointTensor& entry : entries) {
    if (entry.name != name) continue;
    std::vector<T> values(entry.data.size() / sizeof(T));
    std::memcpy(values.data(), entry.data.data(), entry.data.size());
    return values;
  }
  return {};
}

template <class T>
std::vector<T> ReadValues(const std::string& folder, const std::string& name) {
  const auto file = MappedFile::Open(folder + "/golden.safetensors");
  GALE_CHECK(file.has_value());
  const auto entries = ParseSafetensors(file->bytes(), file->path());
  GALE_CHECK(entries.has_value());
  std::vector<T> values = Values<T>(*entries, name);
  GALE_CHECK(!values.empty());
  return values;
}

}  // namespace

std::vector<float> ReadGoldenFloats(const std::string& folder, const std::string& name) {
  return ReadValues<float>(folder, name);
}

std::vector<int64_t> ReadGoldenIds(const std::string& folder, const std::string& name) {
  return ReadValues<int64_t>(folder, name);
}

std::vector<GoldenPrompt> ReadGoldens(const std::string& folder) {
  const auto file = MappedFile::Open(folder + "/golden.safetensors");
  GALE_CHECK(file.has_value());
  const auto entries = ParseSafetensors(file->bytes(), file->path());
  GALE_CHECK(entries.has_value());
  std::vector<GoldenPrompt> goldens;
  for (int i = 0;; ++i) {
    const std::string suffix = "." + std::to_string(i);
    GoldenPrompt golden = {
        Values<TokenId>(*entries, "prompt" + suffix), Values<float>(*entries, "logits" + suffix),
        Values<TokenId>(*entries, "greedy" + suffix), Values<float>(*entries, "own" + suffix)};
    if (golden.prompt.empty()) break;
    goldens.push_back(std::move(golden));
  }
  GALE_CHECK(!goldens.empty());
  return goldens;
}

std::vector<std::string> GoldenModels() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kModels))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::string GoldenFolder(const std::string& name) { return kModels / name; }

double RelativeError(std::span<const float> got, std::span<const float> expected) {
  GALE_CHECK_EQ(got.size(), expected.size());
  double error = 0;
  double scale = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
    error = std::max<double>(error, std::fabs(got[i] - expected[i]));
    scale = std::max<double>(scale, std::fabs(expected[i]));
  }
  return error / scale;
}

}  // namespace gale
