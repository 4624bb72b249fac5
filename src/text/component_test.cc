// Every normalizer, pre-tokenizer and decoder against what `tokenizers` makes of the same texts
// (tools/goldens/text_component_goldens.py).
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include "base/json.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/test_files.h"

namespace gale::text {
namespace {

using ::testing::ElementsAreArray;

class ComponentGoldens : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = kTextData + "component_goldens.json";
    ASSERT_EQ(parser_.load(path).get(root_), simdjson::SUCCESS);
  }

  /// Calls check(config, results) for each part of `kind`, and says how many there were.
  template <class Check>
  int ForEachPart(std::string_view kind, Check&& check) {
    int count = 0;
    for (const simdjson::dom::element part : simdjson::dom::array(root_["parts"])) {
      if (std::string_view(part["kind"]) != kind) continue;
      const std::string config = simdjson::minify(part["config"]);
      SCOPED_TRACE(config);
      const auto document = JsonDocument::Parse(config, "tokenizer.json");
      EXPECT_TRUE(document.has_value());
      check(document->root(), simdjson::dom::array(part["results"]));
      ++count;
    }
    return count;
  }
  static std::vector<std::string> Strings(const simdjson::dom::element& list) {
    std::vector<std::string> strings;
    for (const simdjson::dom::element item : simdjson::dom::array(list)) {
      strings.emplace_back(std::string_view(item));
    }
    return strings;
  }

  simdjson::dom::parser parser_;
  simdjson::dom::element root_;
};

TEST_F(ComponentGoldens, NormalizersNormalizeAsTokenizersDoes) {
  const auto texts = Strings(root_["texts"]);
  const int count = ForEachPart("normalizer", [&](const JsonValue& config, auto results) {
    const auto normalizer = Normalizer::Parse(config);
    ASSERT_TRUE(normalizer.has_value()) << normalizer.error().message;
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(normalizer->Normalize(texts[i]), std::string_view(results.at(i))) << texts[i];
    }
  });
  EXPECT_GE(count, 17);
}

TEST_F(ComponentGoldens, PreTokenizersCutAsTokenizersDoes) {
  const auto texts = Strings(root_["texts"]);
  const int count = ForEachPart("pre_tokenizer", [&](const JsonValue& config, auto results) {
    const auto pre_tokenizer = PreTokenizer::Parse(config);
    ASSERT_TRUE(pre_tokenizer.has_value()) << pre_tokenizer.error().message;
    for (size_t i = 0; i < texts.size(); ++i) {
      const PieceList list = pre_tokenizer->Cut(texts[i], /*at_text_start=*/true);
      std::vector<std::string> pieces;
      for (size_t p = 0; p < list.pieces.size(); ++p) pieces.emplace_back(list[p]);
      EXPECT_THAT(pieces, ElementsAreArray(Strings(results.at(i)))) << texts[i];
    }
  });
  EXPECT_GE(count, 30);
}

TEST_F(ComponentGoldens, DecodersDecodeAsTokenizersDoes) {
  const simdjson::dom::array sequences = root_["sequences"];
  const int count = ForEachPart("decoder", [&](const JsonValue& config, auto results) {
    const auto decoder = Decoder::Parse(config);
    ASSERT_TRUE(decoder.has_value()) << decoder.error().message;
    for (size_t i = 0; i < sequences.size(); ++i) {
      std::string text;
      Decoder::State state = decoder->Start();
      for (const std::string& token : Strings(sequences.at(i))) {
        decoder->Push(token, &state, &text);
        EXPECT_TRUE(simdjson::validate_utf8(text)) << "ends inside a character";
      }
      decoder->Finish(&state, &text);
      EXPECT_EQ(text, std::string_view(results.at(i))) << simdjson::minify(sequences.at(i));
    }
  });
  EXPECT_GE(count, 17);
}

}  // namespace
}  // namespace gale::text
