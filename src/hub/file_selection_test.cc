#include "hub/file_selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gale {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(SelectFiles, TakesWhatACheckpointIsMadeOf) {
  const std::vector<std::string> files = {".gitattributes",
                                          "README.md",
                                          "chat_template.jinja",
                                          "config.json",
                                          "merges.txt",
                                          "model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors",
                                          "model.safetensors.index.json",
                                          "onnx/config.json",
                                          "original/consolidated.00.pth",
                                          "original/tokenizer.model",
                                          "pytorch_model.bin",
                                          "tokenizer.json",
                                          "tokenizer.model"};
  EXPECT_THAT(SelectFiles(files, "").value(),
              ElementsAre("chat_template.jinja", "config.json", "merges.txt",
                          "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json", "tokenizer.json", "tokenizer.model"));
}

TEST(SelectFiles, LeavesOutTheSameWeightsInTheMakersFormat) {
  EXPECT_THAT(SelectFiles(std::vector<std::string>{"config.json", "consolidated.safetensors",
                                                   "model.safetensors"},
                          "")
                  .value(),
              ElementsAre("config.json", "model.safetensors"));
  EXPECT_THAT(
      SelectFiles(std::vector<std::string>{"config.json", "weights.safetensors"}, "").value(),
      ElementsAre("config.json", "weights.safetensors"));
}

TEST(SelectFiles, TakesAGgufFileWithItsShards) {
  const std::vector<std::string> files = {"a-Q8_0.gguf",
                                          "q4/a-00001-of-00002.gguf",
                                          "q4/a-00002-of-00002.gguf",
                                          "q4/a-00001-of-00003.gguf",
                                          "config.json",
                                          "q8/a-00001-of-00002.gguf"};
  EXPECT_THAT(SelectFiles(files, "a-Q8_0.gguf").value(), ElementsAre("a-Q8_0.gguf"));
  for (const char* shard : {"q4/a-00001-of-00002.gguf", "q4/a-00002-of-00002.gguf"}) {
    EXPECT_THAT(SelectFiles(files, shard).value(),
                ElementsAre("q4/a-00001-of-00002.gguf", "q4/a-00002-of-00002.gguf"));
  }
}

TEST(SelectFiles, NamesTheGgufFilesThereAre) {
  const std::vector<std::string> files = {"config.json", "a-Q4_0.gguf", "a-Q8_0.gguf"};
  for (const char* asked : {"", "a-Q5_0.gguf"}) {
    const auto selected = SelectFiles(files, asked);
    ASSERT_FALSE(selected);
    EXPECT_EQ(selected.error().code, ErrorCode::kNotFound);
    EXPECT_THAT(selected.error().message, HasSubstr("a-Q4_0.gguf, a-Q8_0.gguf"));
  }
  const auto none = SelectFiles(std::vector<std::string>{"config.json"}, "");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, HasSubstr("neither"));
}

}  // namespace
}  // namespace gale
