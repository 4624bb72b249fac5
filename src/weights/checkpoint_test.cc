#include "weights/checkpoint.h"

#include <gtest/gtest.h>

#include "weights/checkpoint_test_support.h"

namespace gale {
namespace {

const TestTensor kA = {"a", "F32", {2}, "12345678"};
const TestTensor kB = {"b", "U8", {3}, "abc"};

TEST(Checkpoint, OneFile) {
  const TestFolder folder;
  folder.Write("model.safetensors", SafetensorsFile({kA, kB}));
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ((*checkpoint)->tensors().size(), 2U);
  ASSERT_NE((*checkpoint)->Find("b"), nullptr);
  EXPECT_EQ(static_cast<char>((*checkpoint)->Find("b")->data[2]), 'c');
  EXPECT_EQ((*checkpoint)->Find("c"), nullptr);
}

TEST(Checkpoint, ManyFilesByIndex) {
  const TestFolder folder;
  folder.Write("model-1.safetensors", SafetensorsFile({kA}));
  folder.Write("model-2.safetensors", SafetensorsFile({kB}));
  folder.Write("model.safetensors.index.json",
               R"({"metadata":{"total_size":11},
                   "weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})");
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ((*checkpoint)->tensors().size(), 2U);
  EXPECT_EQ(static_cast<char>((*checkpoint)->Find("a")->data[0]), '1');
}

TEST(Checkpoint, NoWeights) {
  const TestFolder folder;
  folder.Write("pytorch_model.bin", "x");
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_FALSE(checkpoint);
  EXPECT_EQ(checkpoint.error().code, ErrorCode::kNotFound);
  EXPECT_NE(checkpoint.error().message.find("model.safetensors.index.json"), std::string::npos);
}

TEST(Checkpoint, RefusesAnIndexThatLies) {
  struct Bad {
    const char* index;
    const char* message;  ///< a part of it
  };
  const Bad cases[] = {
      {"", "not valid JSON"},
      {"[]", "top level: expected an object"},
      {"{}", "weight_map: missing"},
      {R"({"weight_map":[]})", "weight_map: expected an object"},
      {R"({"weight_map":{}})", "weight_map: expected at least one tensor"},
      {R"({"weight_map":{"a":1}})", "weight_map.a: expected a string, got 1"},
      {R"({"weight_map":{"a":"one.safetensors","a":"one.safetensors"}})", "\"a\" stands twice"},
      {R"({"weight_map":{"a":"../one.safetensors"}})", "a .safetensors file beside the index"},
      {R"({"weight_map":{"a":"/etc/passwd"}})", "a .safetensors file beside the index"},
      {R"({"weight_map":{"a":"one.safetensors\u0000.safetensors"}})",
       "a .safetensors file beside the index"},
      {R"({"weight_map":{"a":"absent.safetensors"}})", "absent.safetensors: cannot open"},
      {R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})",
       "expected b in one.safetensors, which has no such tensor"},
      {R"({"weight_map":{"b":"one.safetensors"}})",
       "expected a in no file, but it is in one.safetensors"},
      {R"({"weight_map":{"a":"one.safetensors","b":"broken.safetensors"}})",
       "broken.safetensors: expected a safetensors file"},
      {R"({"weight_map":{"a":"one.safetensors","b":"twin.safetensors"}})",
       "expected a in one.safetensors, but it is in twin.safetensors"},
  };
  for (const Bad& bad : cases) {
    const TestFolder folder;
    folder.Write("one.safetensors", SafetensorsFile({kA}));
    folder.Write("twin.safetensors", SafetensorsFile({kA, kB}));
    folder.Write("broken.safetensors", "1234");
    folder.Write("model.safetensors.index.json", bad.index);
    const auto checkpoint = Checkpoint::Open(folder.path());
    ASSERT_FALSE(checkpoint) << bad.index;
    EXPECT_NE(checkpoint.error().message.find(bad.message), std::string::npos)
        << bad.index << ": " << checkpoint.error().message;
  }
}

}  // namespace
}  // namespace gale
