#include "base/json.h"

#include <gtest/gtest.h>

namespace gale {
namespace {

JsonDocument Parse(std::string_view text) {
  auto document = JsonDocument::Parse(text, "t.json");
  EXPECT_TRUE(document) << (document ? "" : document.error().message);
  return std::move(*document);
}

TEST(Json, ReadsTypedValues) {
  const JsonDocument document =
      Parse(R"({"i": -3, "d": 1e-6, "b": true, "s": "x", "a": [1, 2], "n": null})");
  const JsonObject root = *document.root().Object();
  EXPECT_EQ(*root.Get("i")->Int(), -3);
  EXPECT_DOUBLE_EQ(*root.Get("i")->Number(), -3);
  EXPECT_DOUBLE_EQ(*root.Get("d")->Number(), 1e-6);
  EXPECT_TRUE(*root.Get("b")->Bool());
  EXPECT_EQ(*root.Get("s")->String(), "x");
  EXPECT_EQ(*root.Get("a")->Items()->at(1).Int(), 2);
  EXPECT_FALSE(root.Find("n"));
  EXPECT_FALSE(root.Find("absent"));
}

TEST(Json, ReadsIntegersOfAnySizeAsPythonWritesThem) {
  const JsonDocument document = Parse(
      R"({"max": 1000000000000000019884624838656, "min": -1000000000000000019884624838656,
          "s\\\"": "\"1000000000000000019884624838656", "small": 12})");
  const JsonObject root = *document.root().Object();
  EXPECT_DOUBLE_EQ(*root.Get("max")->Number(), 1e30);
  EXPECT_DOUBLE_EQ(*root.Get("min")->Number(), -1e30);
  EXPECT_FALSE(root.Get("max")->Int());
  EXPECT_EQ(*root.Get("s\\\"")->String(), "\"1000000000000000019884624838656");
  EXPECT_EQ(*root.Get("small")->Int(), 12);
  EXPECT_FALSE(JsonDocument::Parse("[00000000000000000000000001]", "t.json"));
  EXPECT_FALSE(JsonDocument::Parse("[1-2]", "t.json"));
}

TEST(Json, ErrorsNameFilePathExpectedAndGot) {
  const JsonDocument document =
      Parse(R"({"o": {"i": 1.5, "s": "x", "big": 18446744073709551615}})");
  const JsonObject o = *document.root().Object()->Get("o")->Object();
  EXPECT_EQ(o.Get("i")->Int(0, 9).error().message,
            "t.json: o.i: expected an integer in [0, 9], got 1.5");
  EXPECT_EQ(o.Get("s")->Bool().error().message, "t.json: o.s: expected true or false, got \"x\"");
  EXPECT_EQ(o.Get("none").error().message, "t.json: o.none: missing");
  EXPECT_FALSE(o.Get("big")->Int());
  EXPECT_FALSE(o.Get("i")->Number(2, 3));
  EXPECT_FALSE(o.Get("i")->String());
  EXPECT_FALSE(o.Get("i")->Items());
  EXPECT_FALSE(o.Get("i")->Object());
}

TEST(Json, RefusesDuplicateKeysGarbageAndDepth) {
  EXPECT_EQ(Parse(R"({"a": 1, "a": 2})").root().Object().error().message,
            "t.json: top level: expected each key once, but \"a\" stands twice, got an object");
  EXPECT_FALSE(JsonDocument::Parse("", "t.json"));
  EXPECT_FALSE(JsonDocument::Parse("{\"a\": 1", "t.json"));
  EXPECT_FALSE(JsonDocument::Parse("{} {}", "t.json"));
  EXPECT_FALSE(JsonDocument::Parse("{\"a\": \"\xff\"}", "t.json"));
  EXPECT_TRUE(JsonDocument::Parse(std::string(60, '[') + std::string(60, ']'), "t.json"));
  EXPECT_FALSE(JsonDocument::Parse(std::string(80, '[') + std::string(80, ']'), "t.json"));
}

}  // namespace
}  // namespace gale
