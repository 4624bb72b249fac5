// What published models look like (tests/data/published) against what their architectures here
// declare: every tensor's name and shape, nothing missing and nothing over.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/mapped_file.h"
#include "gale/model_info.h"
#include "models/model_registry.h"
#include "weights/weight_loader.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

using Shapes = std::map<std::string, std::vector<int64_t>>;

struct PublishedModel {
  std::string config_json;
  uint64_t parameters = 0;
  Shapes shapes;
};

/// "a.{0-2}.b" becomes a.0.b, a.1.b and a.2.b; every range in it likewise.
void Expand(const std::string& pattern, const std::vector<int64_t>& shape, Shapes& shapes) {
  const size_t open = pattern.find('{');
  if (open == std::string::npos) {
    ASSERT_TRUE(shapes.emplace(pattern, shape).second) << pattern;
    return;
  }
  const size_t dash = pattern.find('-', open);
  const size_t close = pattern.find('}', open);
  const int first = std::stoi(pattern.substr(open + 1, dash - open - 1));
  const int last = std::stoi(pattern.substr(dash + 1, close - dash - 1));
  for (int i = first; i <= last; ++i) {
    Expand(pattern.substr(0, open) + std::to_string(i) + pattern.substr(close + 1), shape, shapes);
  }
}

PublishedModel ReadPublished(const std::string& name) {
  const std::string path = std::string(GALE_SOURCE_DIR) + "/tests/data/published/" + name + ".json";
  const auto file = MappedFile::Open(path);
  const auto document = JsonDocument::Parse(file->text(), path);
  const JsonObject root = *document->root().Object();
  PublishedModel model;
  model.config_json = root.Get("config")->Minified();
  model.parameters = static_cast<uint64_t>(*root.Get("parameters")->Int());
  const std::vector<JsonValue> tensors = *root.Get("tensors")->Items();
  for (const JsonValue& tensor : tensors) {
    const std::vector<JsonValue> pair = *tensor.Items();
    const std::vector<JsonValue> dims = *pair[1].Items();
    std::vector<int64_t> shape;
    for (const JsonValue& dim : dims) shape.push_back(*dim.Int());
    Expand(std::string(*pair[0].String()), shape, model.shapes);
  }
  return model;
}

/// A checkpoint of these tensors whose file has a header and, where the bytes would be, a hole.
class HollowCheckpoint {
 public:
  explicit HollowCheckpoint(const Shapes& shapes) {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    std::string header;
    uint64_t offset = 0;
    for (const auto& [name, shape] : shapes) {
      uint64_t bytes = 2;
      for (const int64_t dim : shape) bytes *= static_cast<uint64_t>(dim);
      header += fmt::format(R"({}"{}":{{"dtype":"BF16","shape":[{}],"data_offsets":[{},{}]}})",
                            header.empty() ? "{" : ",", name, fmt::join(shape, ","), offset,
                            offset + bytes);
      offset += bytes;
    }
    header += "}";
    const uint64_t length = header.size();
    const std::string path = folder_ + "/model.safetensors";
    std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(&length), sizeof(length))
        << header;
    fs::resize_file(path, sizeof(length) + length + offset);
  }
  ~HollowCheckpoint() { fs::remove_all(folder_); }
  HollowCheckpoint(const HollowCheckpoint&) = delete;
  HollowCheckpoint& operator=(const HollowCheckpoint&) = delete;

  const std::string& folder() const { return folder_; }

 private:
  std::string folder_ = testing::TempDir() + "gale_published_XXXXXX";
};

/// A model that has declared its parameters.
class DeclaredModel {
 public:
  explicit DeclaredModel(const std::string& config_json) {
    const auto config = ParseHfConfig(config_json, "config.json", SupportedArchitectures());
    if (!config) {
      ADD_FAILURE() << config.error().message;
      return;
    }
    model_ = (*FindModel(config->architecture))(*config, PlainScheme(), builder_);
    has_images_ = config->architecture.ends_with("ForConditionalGeneration");
  }

  /// What the metadata phase says of these tensors; empty when all is well.
  std::string Check(const Shapes& shapes) const {
    const HollowCheckpoint hollow(shapes);
    const auto checkpoint = Checkpoint::Open(hollow.folder());
    if (!checkpoint) return checkpoint.error().message;
    const Status status = CheckParams(builder_, **checkpoint);
    return status ? "" : status.error().message;
  }
  uint64_t num_parameters() const { return builder_.NumParameters(); }
  bool has_images() const { return has_images_; }

 private:
  ParamBuilder builder_{DType::kBf16, Numerics::kFast};
  std::unique_ptr<Model> model_;
  bool has_images_ = false;
};

std::vector<std::string> PublishedModels() {
  std::vector<std::string> names;
  for (const auto& entry :
       fs::directory_iterator(std::string(GALE_SOURCE_DIR) + "/tests/data/published")) {
    names.push_back(entry.path().stem());
  }
  std::ranges::sort(names);
  return names;
}

class PublishedModelTest : public testing::TestWithParam<std::string> {
 protected:
  PublishedModel published_ = ReadPublished(GetParam());
  DeclaredModel declared_{published_.config_json};
};

TEST_P(PublishedModelTest, DeclaresWhatTheCheckpointHas) {
  EXPECT_EQ(declared_.Check(published_.shapes), "");
  if (!declared_.has_images()) {
    EXPECT_EQ(declared_.num_parameters(), published_.parameters);
  }
}

TEST_P(PublishedModelTest, NoticesWhatIsMissingMisshapenOrOver) {
  const auto projection = std::ranges::find_if(published_.shapes, [](const auto& tensor) {
    return tensor.first.ends_with("layers.1.self_attn.o_proj.weight");
  });
  ASSERT_NE(projection, published_.shapes.end());
  const auto& [name, shape] = *projection;
  const auto expect_said = [&](const Shapes& shapes, const std::string& text) {
    const std::string message = declared_.Check(shapes);
    EXPECT_NE(message.find(text), std::string::npos) << message;
  };
  Shapes changed = published_.shapes;
  changed.erase(name);
  expect_said(changed, "missing " + name.substr(name.find("model.layers")));
  changed[name] = {shape[0], shape[1] + 1};
  expect_said(changed, fmt::format("{}: expected bf16 [{}, {}], file has BF16 [{}, {}]", name,
                                   shape[0], shape[1], shape[0], shape[1] + 1));
  changed = published_.shapes;
  changed[name + ".extra"] = {3};
  expect_said(changed, "unexpected " + name + ".extra: BF16 [3]");
}

INSTANTIATE_TEST_SUITE_P(All, PublishedModelTest, testing::ValuesIn(PublishedModels()),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace_if(
                               name, [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

/// Checkpoints of text and images as transformers saved them from 4.52 on.
TEST(PublishedNamesTest, PartsOfTheModelUnderOneName) {
  const PublishedModel published = ReadPublished("gemma-3-4b-it");
  Shapes renamed;
  for (const auto& [name, shape] : published.shapes) {
    const std::string language = "language_model.model.";
    const bool is_language = name.starts_with(language);
    renamed[is_language ? "model.language_model." + name.substr(language.size())
                        : "model." + name] = shape;
  }
  EXPECT_EQ(DeclaredModel(published.config_json).Check(renamed), "");
}

}  // namespace
}  // namespace gale
