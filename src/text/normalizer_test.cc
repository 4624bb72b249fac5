#include "text/normalizer.h"

#include <cstdlib>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <utf8proc.h>

#include "text/utf8.h"

namespace gale::text {
namespace {

using ::testing::HasSubstr;

Result<Normalizer> Parse(std::string_view json) {
  const auto document = JsonDocument::Parse(json, "tokenizer.json");
  EXPECT_TRUE(document.has_value());
  return Normalizer::Parse(document->root());
}

std::string Normalize(std::string_view json, std::string text) {
  const auto normalizer = Parse(json);
  EXPECT_TRUE(normalizer.has_value()) << normalizer.error().message;
  return normalizer->Normalize(std::move(text));
}

std::string WholeNfc(const std::string& text) {
  utf8proc_uint8_t* mapped = utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(text.c_str()));
  std::string out(reinterpret_cast<const char*>(mapped));
  std::free(mapped);
  return out;
}

bool IsScalar(char32_t c) { return c < 0xD800 || (c >= 0xE000 && c <= 0x10FFFF); }

std::string Utf8(char32_t c) {
  std::string text;
  AppendUtf8(c, &text);
  return text;
}

TEST(Normalizer, InertCharactersAreInert) {
  // What can compose with the character before it stands second in some canonical decomposition.
  std::set<char32_t> composes;
  for (char32_t v = 0x1161; v <= 0x11C2; ++v) composes.insert(v);  // Hangul vowels and finals
  for (char32_t c = 1; c <= 0x10FFFF; ++c) {
    if (!IsScalar(c) ||
        utf8proc_get_property(static_cast<int32_t>(c))->decomp_seqindex == UINT16_MAX) {
      continue;
    }
    utf8proc_int32_t parts[8];
    const auto size =
        utf8proc_decompose_char(static_cast<int32_t>(c), parts, 8, UTF8PROC_DECOMPOSE, nullptr);
    for (int i = 1; i < size; ++i) composes.insert(static_cast<char32_t>(parts[i]));
  }
  ASSERT_GT(composes.size(), 100u);
  int num_inert = 0;
  for (char32_t c = 1; c <= 0x10FFFF; ++c) {
    if (!IsScalar(c) || !IsInertInNfc(c)) continue;
    ++num_inert;
    ASSERT_EQ(utf8proc_get_property(static_cast<int32_t>(c))->combining_class, 0)
        << static_cast<uint32_t>(c);
    ASSERT_FALSE(composes.contains(c)) << static_cast<uint32_t>(c);
    ASSERT_EQ(WholeNfc(Utf8(c)), Utf8(c)) << static_cast<uint32_t>(c);
  }
  EXPECT_GT(num_inert, 40000);
}

TEST(Normalizer, NfcByStretchesEqualsNfcOfTheWhole) {
  const std::vector<std::string> parts = {
      "a",      "e",      "é",      "\u0301", "\u0323", "\u0327", "가",     "\u1100",
      "\u1161", "\u11A8", "文",     "Å",      "\u212B", "\u0958", "\u09C7", "\u09BE",
      " ",      "か",     "\u3099", "🙂",     "\u0F73", "ſ"};
  uint32_t random = 1;
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (int i = 0; i < 7; ++i) {
      random = random * 1664525 + 1013904223;
      text += parts[(random >> 8) % parts.size()];
    }
    ASSERT_EQ(Normalize(R"({"type": "NFC"})", text), WholeNfc(text)) << text;
  }
}

TEST(Normalizer, StepsRunInOrder) {
  const char* llama = R"({"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})";
  EXPECT_EQ(Normalize(llama, "a b"), "▁a▁b");
  EXPECT_EQ(Normalize(llama, ""), "");
  EXPECT_EQ(
      Normalize(R"({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "_"})", "a  b c"),
      "a_b c");
  EXPECT_EQ(Normalize(R"({"type": "NFKC"})", "ﬁ²"), "fi2");
  EXPECT_EQ(Normalize(R"({"type": "NFD"})", "é"), "e\u0301");
}

TEST(Normalizer, BertTakesEachFlagByItself) {
  const auto bert = [](const char* on, std::string text) {
    std::string json = R"({"type": "BertNormalizer", "clean_text": false, "lowercase": false,
                           "handle_chinese_chars": false, "strip_accents": null})";
    if (const size_t at = json.find(on); at != std::string::npos) {
      json.replace(json.find(':', at) + 2, json[json.find(':', at) + 2] == 'f' ? 5 : 4, "true");
    }
    return Normalize(json, std::move(text));
  };
  const std::string text = "É\x01\u200d\t文a\uFFFD\u0085\u00a0";
  EXPECT_EQ(bert("none", text), text);
  EXPECT_EQ(bert("clean_text", text), "É 文a ");
  EXPECT_EQ(bert("handle_chinese_chars", "a文b"), "a 文 b");
  EXPECT_EQ(bert("strip_accents", "Éa"), "Ea");
  // As in Python, lower case strips accents unless told otherwise.
  EXPECT_EQ(bert("lowercase", "ÉA"), "ea");
}

TEST(Normalizer, LowercaseStripAndStripAccents) {
  EXPECT_EQ(Normalize(R"({"type": "Lowercase"})", "ÀΣİß"), "àσi\u0307ß");
  EXPECT_EQ(Normalize(R"({"type": "Strip"})", " \t\u3000a b\n "), "a b");
  EXPECT_EQ(Normalize(R"({"type": "Strip", "strip_left": false})", " a "), " a");
  EXPECT_EQ(Normalize(R"({"type": "Strip", "strip_right": false})", " a "), "a ");
  EXPECT_EQ(Normalize(R"({"type": "Strip"})", " \n "), "");
  EXPECT_EQ(Normalize(R"({"type": "StripAccents"})", "e\u0301é"), "eé");
  EXPECT_EQ(Normalize(R"({"type": "ByteLevel"})", "é \n"), "Ã©ĠĊ");
}

TEST(Normalizer, SaysWhatItDoesNotKnow) {
  const auto unknown = Parse(R"({"type": "Sequence", "normalizers": [{"type": "Nope"}]})");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(unknown.error().message, HasSubstr("normalizers[0].type: \"Nope\""));
  EXPECT_THAT(unknown.error().message, HasSubstr("NFC"));
  const auto bad = Parse(R"({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})");
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error().code, ErrorCode::kDataCorrupt);
  EXPECT_THAT(bad.error().message, HasSubstr("pattern.Regex"));
}

}  // namespace
}  // namespace gale::text
