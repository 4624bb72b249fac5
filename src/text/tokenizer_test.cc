// Tokenizers against goldens made with PyPI `tokenizers` (tools/goldens/text_goldens.py).
#include "gale/tokenizer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include "text/test_files.h"

namespace gale {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::unique_ptr<Tokenizer> Load(const std::string& name) {
  auto tokenizer = Tokenizer::FromJson(ReadFile(kTextData + "tokenizers/" + name + ".json"));
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(tokenizer).value();
}

std::string FromHex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

std::vector<TokenId> Ids(const simdjson::dom::element& list) {
  std::vector<TokenId> ids;
  for (const simdjson::dom::element id : simdjson::dom::array(list)) {
    ids.push_back(static_cast<TokenId>(int64_t(id)));
  }
  return ids;
}

std::string Streamed(const Tokenizer& tokenizer, std::span<const TokenId> ids, bool skip_special) {
  IncrementalDetokenizer detokenizer(tokenizer, skip_special);
  std::string text;
  for (const TokenId id : ids) {
    const std::string part = detokenizer.Push(id);
    EXPECT_TRUE(simdjson::validate_utf8(part)) << "ends inside a character";
    text += part;
  }
  return text + detokenizer.Flush();
}

class TokenizerGoldens : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_EQ(parser_.load(kTextData + "tokenizer_goldens.json").get(root_), simdjson::SUCCESS);
    tokenizer_ = Load(GetParam());
  }
  simdjson::dom::element Golden(const char* key) { return root_["tokenizers"][GetParam()][key]; }

  simdjson::dom::parser parser_;
  simdjson::dom::element root_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizerGoldens, EncodesAsTokenizersDoes) {
  const simdjson::dom::array expected = Golden("encode");
  size_t i = 0;
  for (const simdjson::dom::element hex : simdjson::dom::array(root_["texts"])) {
    const std::string text = FromHex(std::string_view(hex));
    const EncodeOptions options{.add_special_tokens = i % 3 != 0, .parse_special = i % 2 == 0};
    EXPECT_EQ(tokenizer_->Encode(text, options), Ids(expected.at(i)))
        << "text " << i << ": " << text;
    ++i;
  }
  EXPECT_GT(i, 100u);
}

TEST_P(TokenizerGoldens, DecodesAsTokenizersDoesWholeAndStreamed) {
  size_t i = 0;
  for (const simdjson::dom::element golden : simdjson::dom::array(Golden("decode"))) {
    const std::vector<TokenId> ids = Ids(golden.at(0));
    const bool skip_special = i % 3 == 0;
    const std::string_view expected = golden.at(1);
    EXPECT_EQ(tokenizer_->Decode(ids, skip_special), expected) << "sequence " << i;
    EXPECT_EQ(Streamed(*tokenizer_, ids, skip_special), expected) << "sequence " << i;
    ++i;
  }
  EXPECT_GT(i, 100u);
}

TEST_P(TokenizerGoldens, NamesEveryTokenBothWays) {
  int num_named = 0;
  for (TokenId id = 0; id < tokenizer_->vocab_size(); ++id) {
    const std::string_view token = tokenizer_->IdToToken(id);
    if (token.empty()) continue;
    EXPECT_EQ(tokenizer_->TokenToId(token), id) << token;
    ++num_named;
  }
  EXPECT_GT(num_named, 300);
  EXPECT_EQ(tokenizer_->IdToToken(-1), "");
  EXPECT_EQ(tokenizer_->IdToToken(tokenizer_->vocab_size()), "");
  EXPECT_EQ(tokenizer_->TokenToId("no such token"), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerGoldens,
                         testing::Values("qwen2", "llama3", "gpt2", "sentencepiece", "metaspace",
                                         "splits", "unigram", "wordpiece", "wordlevel"),
                         [](const auto& param) { return std::string(param.param); });

TEST(Tokenizer, LongTextsGiveTheSameIdsInBlocksAndThreads) {
  for (const char* name : {"qwen2", "llama3", "gpt2", "sentencepiece"}) {
    const auto tokenizer = Load(name);
    // Each line is its own piece of text to all of these patterns: "x" ends one, "\n" begins one.
    const std::array<std::string, 5> lines = {"The dog's  house, 1234 times!!x\n",
                                              "中文字，还有x\n", "    if (a == b) {  // cx\n",
                                              "été\u0301 \t x\n", "don't<|im_end|>x\n"};
    std::string text;
    std::vector<TokenId> expected;
    for (size_t i = 0; text.size() < 800'000; i = i * 7 + 3) text += lines[i % lines.size()];
    const auto ids = tokenizer->Encode(text, {.add_special_tokens = false});
    EXPECT_EQ(tokenizer->Encode(text, {.add_special_tokens = false, .threads = 3}), ids) << name;
    if (std::string_view(name) == "sentencepiece" || std::string_view(name) == "gpt2") continue;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find("x\n", begin + 1) + 1, text.size());
      const auto part = tokenizer->Encode(text.substr(begin, std::max(end, begin + 1) - begin),
                                          {.add_special_tokens = false});
      expected.insert(expected.end(), part.begin(), part.end());
      begin = std::max(end, begin + 1);
    }
    EXPECT_EQ(ids, expected) << name;
  }
}

TEST(Tokenizer, SpecialTokensInUserTextStayText) {
  const auto tokenizer = Load("qwen2");
  const TokenId end = *tokenizer->TokenToId("<|im_end|>");
  const std::string prompt = "<|im_start|>user\nhi<|im_end|>there<|im_end|>\n";
  const size_t user = prompt.find("hi");
  const std::vector<TextSpan> spans = {{user, user + std::string("hi<|im_end|>there").size()}};

  const auto count = [&](const std::vector<TokenId>& ids) {
    return std::count(ids.begin(), ids.end(), end);
  };
  EXPECT_EQ(count(tokenizer->Encode(prompt)), 0);
  EXPECT_EQ(count(tokenizer->Encode(prompt, {.parse_special = true})), 2);
  EXPECT_EQ(count(tokenizer->EncodePrompt(prompt, {})), 2);
  const auto ids = tokenizer->EncodePrompt(prompt, spans);
  EXPECT_EQ(count(ids), 1);
  EXPECT_EQ(ids.front(), *tokenizer->TokenToId("<|im_start|>"));
  EXPECT_EQ(tokenizer->Decode(ids, /*skip_special=*/false), prompt);
  EXPECT_TRUE(tokenizer->IsSpecial(end));
  EXPECT_FALSE(tokenizer->IsSpecial(0));

  // Half a token of the user's does not join with the template's other half.
  const std::string split = "<|im_end|>";
  EXPECT_EQ(count(tokenizer->EncodePrompt(split, std::vector<TextSpan>{{0, 4}})), 0);
  // Added tokens that are not special count everywhere, as in `tokenizers`.
  EXPECT_THAT(tokenizer->EncodePrompt("<think>", std::vector<TextSpan>{{0, 7}}),
              ElementsAre(*tokenizer->TokenToId("<think>")));
  // Spans out of order, overlapping or past the end are tidied.
  EXPECT_EQ(
      count(tokenizer->EncodePrompt(prompt, std::vector<TextSpan>{{30, 900}, {0, 20}, {10, 40}})),
      0);
}

TEST(Tokenizer, UserSpansFollowNormalizedText) {
  // The special token is looked for in normalized text, behind what NFC and Prepend changed.
  const auto tokenizer = Tokenizer::FromJson(R"({
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "__"}]},
    "added_tokens": [{"id": 9, "content": "|", "special": true, "normalized": false},
                     {"id": 8, "content": "x", "special": true, "normalized": true}],
    "model": {"type": "BPE", "vocab": {"_": 0, "a": 1, "é": 2, "x": 3}, "merges": []}})");
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  // "__x" is what the added token becomes by normalization, so it only matches at the start.
  const std::string text = "x|e\u0301|x";
  EXPECT_THAT((*tokenizer)->EncodePrompt(text, {}), ElementsAre(8, 9, 0, 0, 2, 9, 8));
  const std::vector<TextSpan> last = {{text.size() - 1, text.size()}};
  EXPECT_THAT((*tokenizer)->EncodePrompt(text, last), ElementsAre(8, 9, 0, 0, 2, 9, 0, 0, 3));
  const std::vector<TextSpan> first = {{0, 1}};
  EXPECT_THAT((*tokenizer)->EncodePrompt(text, first), ElementsAre(0, 0, 3, 9, 0, 0, 2, 9, 8));
}

TEST(Tokenizer, SpecialTokensAreNeverWhatPlainTextBecomes) {
  // Unigram and word vocabularies hold them as tokens like any other.
  for (const char* name : {"unigram", "wordlevel"}) {
    const auto tokenizer = Load(name);
    const TokenId bos = *tokenizer->TokenToId("<s>");
    const auto count = [&](bool parse_special) {
      const auto ids = tokenizer->Encode(
          "a <s> b<s> <s>", {.add_special_tokens = false, .parse_special = parse_special});
      return std::count(ids.begin(), ids.end(), bos);
    };
    EXPECT_EQ(count(false), 0) << name;
    EXPECT_EQ(count(true), 3) << name;
  }
}

TEST(Tokenizer, UnigramKnowsItsUnkSpelledOutUnlessItIsSpecial) {
  const std::string model = R"("model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true,
      "vocab": [["?", 0.0], ["a", -1.0], ["<0x3F>", -9.0], ["<0xC3>", -9.0], ["<0xA9>", -9.0]]})";
  const auto known = Tokenizer::FromJson("{" + model + "}");
  ASSERT_TRUE(known.has_value()) << known.error().message;
  EXPECT_THAT((*known)->Encode("a?aé"), ElementsAre(1, 0, 1, 3, 4));
  const auto special = Tokenizer::FromJson(
      R"({"added_tokens": [{"id": 0, "content": "?", "special": true}], )" + model + "}");
  ASSERT_TRUE(special.has_value()) << special.error().message;
  EXPECT_THAT((*special)->Encode("a?aé"), ElementsAre(1, 2, 1, 3, 4));
}

TEST(Tokenizer, TruncatesWhenAskedTo) {
  const auto make = [](const std::string& truncation) {
    return Tokenizer::FromJson(
        R"({"truncation": )" + truncation +
        R"(, "post_processor": {"type": "BertProcessing", "cls": ["x", 8], "sep": ["y", 9]},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3}, "merges": []}})");
  };
  const EncodeOptions cut{.truncate = true};
  const auto right = make(R"({"max_length": 4, "strategy": "LongestFirst", "stride": 0})");
  ASSERT_TRUE(right.has_value()) << right.error().message;
  EXPECT_THAT((*right)->Encode("abcd", cut), ElementsAre(8, 0, 1, 9));
  EXPECT_THAT((*right)->Encode("ab", cut), ElementsAre(8, 0, 1, 9));
  EXPECT_THAT((*right)->Encode("abcd", {.add_special_tokens = false, .truncate = true}),
              ElementsAre(0, 1, 2, 3));
  EXPECT_THAT((*right)->Encode("abcd"), ElementsAre(8, 0, 1, 2, 3, 9));
  const auto left = make(R"({"max_length": 3, "direction": "Left"})");
  ASSERT_TRUE(left.has_value()) << left.error().message;
  EXPECT_THAT((*left)->Encode("abcd", cut), ElementsAre(8, 3, 9));
  EXPECT_FALSE(make(R"({"max_length": -1})").has_value());
  EXPECT_FALSE(make(R"({"max_length": 1, "direction": "Up"})").has_value());
}

TEST(Tokenizer, InvalidUtf8KeepsSpansInPlace) {
  const auto tokenizer = Load("qwen2");
  const std::string text = "\xFF<|im_end|>\xFF<|im_end|>";
  const std::vector<TextSpan> spans = {{0, 12}};
  const auto ids = tokenizer->EncodePrompt(text, spans);
  EXPECT_EQ(tokenizer->Decode(ids, false), "\uFFFD<|im_end|>\uFFFD<|im_end|>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *tokenizer->TokenToId("<|im_end|>")), 1);
  EXPECT_EQ(ids.back(), *tokenizer->TokenToId("<|im_end|>"));
}

TEST(Tokenizer, ThreadsGetWhatOneThreadGets) {
  const auto shared = Load("qwen2");
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> expected;
  const auto alone = Load("qwen2");
  for (int i = 0; i < 200; ++i) {
    texts.push_back("word" + std::to_string(i * 7919) + " Zürich " + std::to_string(i));
    expected.push_back(alone->Encode(texts.back()));
  }
  std::vector<std::thread> threads;
  std::atomic<int> num_wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        for (size_t i = 0; i < texts.size(); ++i) {
          if (shared->Encode(texts[i]) != expected[i]) ++num_wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, 0);
}

TEST(Tokenizer, LongTextsOfOneKindComeBackWhole) {
  for (const char* name : {"qwen2", "gpt2", "sentencepiece"}) {
    const auto tokenizer = Load(name);
    for (const std::string& unit :
         {std::string("a"), std::string(" "), std::string("ab "), std::string("文")}) {
      std::string text;
      while (text.size() < 200'000) text += unit;
      const auto ids = tokenizer->Encode(text, {.add_special_tokens = false});
      std::string decoded = tokenizer->Decode(ids);
      if (std::string_view(name) == "gpt2" && unit != " ") decoded.erase(0, 1);  // its prefix space
      EXPECT_EQ(decoded, text) << name;
    }
  }
}

TEST(Tokenizer, CutsBeforeMergingChangeNothing) {
  // "b▁" is a token, so the text must not be cut there; between "a" and "▁" it may be.
  const char* file = R"({"model": {"type": "BPE", "byte_fallback": %s, "unk_token": "?",
      "vocab": {"?": 0, "a": 1, "b": 2, "▁": 3, "▁a": 4, "b▁": 5, "ab": 6, "b▁a": 7},
      "merges": ["b ▁", "▁ a", "a b", "b▁ a"]}})";
  const auto make = [&](const char* flag) {
    std::string json = file;
    json.replace(json.find("%s"), 2, flag);
    return std::move(Tokenizer::FromJson(json)).value();
  };
  const auto cut = make("true");
  const auto whole = make("false");
  uint32_t random = 7;
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) {
      random = random * 1664525 + 1013904223;
      text += std::array{"a", "b", "▁", "▁", "é"}[(random >> 8) % 5];
    }
    ASSERT_EQ(cut->Encode(text), whole->Encode(text)) << text;
  }
}

// ---- streaming ----

TEST(IncrementalDetokenizer, HoldsBackUnfinishedCharacters) {
  const auto tokenizer = Load("qwen2");
  const auto byte = [&](const char* spelling) { return *tokenizer->TokenToId(spelling); };
  // U+1F642 is F0 9F 99 82; GPT-2 spells these bytes ð Ł Ļ Ĥ.
  IncrementalDetokenizer detokenizer(*tokenizer);
  EXPECT_EQ(detokenizer.Push(byte("ð")), "");
  EXPECT_EQ(detokenizer.Push(byte("Ł")), "");
  EXPECT_EQ(detokenizer.Push(byte("Ļ")), "");
  EXPECT_EQ(detokenizer.Push(byte("Ĥ")), "🙂");
  EXPECT_EQ(detokenizer.Push(byte("ð")), "");
  EXPECT_EQ(detokenizer.Push(byte("a")), "\uFFFDa");
  EXPECT_EQ(detokenizer.Push(byte("ð")), "");
  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
  EXPECT_EQ(detokenizer.Flush(), "");
  EXPECT_EQ(detokenizer.Push(byte("a")), "a");
}

TEST(IncrementalDetokenizer, ByteFallbackDecidesAboutWholeRuns) {
  const auto tokenizer = Load("sentencepiece");
  const auto id = [&](const char* token) { return *tokenizer->TokenToId(token); };
  IncrementalDetokenizer detokenizer(*tokenizer);
  EXPECT_EQ(detokenizer.Push(id("▁")), "");  // the space that the normalizer prepended
  EXPECT_EQ(detokenizer.Push(id("<0xF0>")), "");
  EXPECT_EQ(detokenizer.Push(id("<0x9F>")), "");
  EXPECT_EQ(detokenizer.Push(id("<0x99>")), "");
  EXPECT_EQ(detokenizer.Push(id("<0x82>")), "");
  EXPECT_EQ(detokenizer.Push(id("▁")), "🙂 ");
  EXPECT_EQ(detokenizer.Push(id("<0xF0>")), "");
  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
}

TEST(IncrementalDetokenizer, SkipsSpecialAndUnknownTokens) {
  const auto tokenizer = Load("qwen2");
  const TokenId end = *tokenizer->TokenToId("<|im_end|>");
  const TokenId a = *tokenizer->TokenToId("a");
  EXPECT_EQ(Streamed(*tokenizer, std::vector<TokenId>{a, end, 1 << 20, -5, a}, true), "aa");
  EXPECT_EQ(Streamed(*tokenizer, std::vector<TokenId>{a, end, a}, false), "a<|im_end|>a");
  EXPECT_EQ(tokenizer->Decode(std::vector<TokenId>{a, end, 1 << 20, -5, a}), "aa");
}

TEST(Decoder, StripsAtBothEndsOfFusedText) {
  const auto tokenizer = Tokenizer::FromJson(R"({
    "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "_", "start": 2, "stop": 2}]},
    "model": {"type": "BPE", "vocab": {"_": 0, "a": 1, "__a": 2}, "merges": []}})");
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const auto decode = [&](std::vector<TokenId> ids) {
    EXPECT_EQ(Streamed(**tokenizer, ids, true), (*tokenizer)->Decode(ids));
    return (*tokenizer)->Decode(ids);
  };
  EXPECT_EQ(decode({0, 0, 0, 1, 0, 0, 0}), "_a_");
  EXPECT_EQ(decode({0, 1, 0, 1, 0}), "a_a");
  EXPECT_EQ(decode({0, 2}), "_a");
  EXPECT_EQ(decode({0, 0, 0, 0, 0}), "_");
  EXPECT_EQ(decode({0}), "");
  EXPECT_EQ(decode({}), "");
}

// ---- bad files ----

Error ErrorOf(std::string_view json) {
  const auto tokenizer = Tokenizer::FromJson(json);
  EXPECT_FALSE(tokenizer.has_value()) << json;
  return tokenizer ? Error() : tokenizer.error();
}

/// A file with a small model and one more member.
std::string WithMember(const std::string& member) {
  return R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, )" +
         member + "}";
}

TEST(TokenizerErrors, UnsupportedPartsAreNamedWithWhatIsKnown) {
  const auto unsupported = [](const std::string& member, const char* path, const char* known) {
    const Error error = ErrorOf(WithMember(member));
    EXPECT_EQ(error.code, ErrorCode::kUnsupported) << member;
    EXPECT_THAT(error.message, HasSubstr(path));
    EXPECT_THAT(error.message, HasSubstr(known));
  };
  unsupported(R"("normalizer": {"type": "Nope"})", "normalizer.type: \"Nope\"", "NFC");
  unsupported(R"("pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Nope"}]})",
              "pre_tokenizer.pretokenizers[0].type", "ByteLevel");
  unsupported(R"("post_processor": {"type": "Nope"})", "post_processor.type", "TemplateProcessing");
  unsupported(R"("decoder": {"type": "Nope"})", "decoder.type", "ByteFallback");
  const Error model = ErrorOf(R"({"model": {"type": "Nope", "vocab": []}})");
  EXPECT_EQ(model.code, ErrorCode::kUnsupported);
  EXPECT_THAT(model.message,
              HasSubstr("model.type: \"Nope\" is not supported; known are BPE, Unigram"));
}

TEST(TokenizerErrors, DropoutIsRefused) {
  const auto with_dropout = [](const std::string& value) {
    return R"({"model": {"type": "BPE", "dropout": )" + value +
           R"(, "vocab": {"a": 0}, "merges": []}})";
  };
  const Error error = ErrorOf(with_dropout("0.1"));
  EXPECT_EQ(error.code, ErrorCode::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("model.dropout"));
  EXPECT_EQ(ErrorOf(with_dropout("2")).code, ErrorCode::kDataCorrupt);
  EXPECT_TRUE(Tokenizer::FromJson(with_dropout("null")).has_value());
  EXPECT_TRUE(Tokenizer::FromJson(with_dropout("0.0")).has_value());
}

TEST(TokenizerErrors, LyingFilesAreRefused) {
  const auto corrupt = [](const std::string& json, const char* message) {
    const Error error = ErrorOf(json);
    EXPECT_EQ(error.code, ErrorCode::kDataCorrupt) << json;
    EXPECT_THAT(error.message, HasSubstr(message)) << json;
  };
  corrupt("", "not valid JSON");
  corrupt(R"({"model": {"type")", "not valid JSON");
  corrupt("[]", "expected an object");
  corrupt("{}", "model: missing");
  corrupt(R"({"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}})",
          "model.vocab.a");
  corrupt(R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})", "model.vocab.a");
  corrupt(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}})",
          "id of its own");
  corrupt(R"({"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}})", "twice");
  corrupt(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})", "model.merges[0]");
  corrupt(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}})", "one space");
  corrupt(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}})", "two tokens");
  corrupt(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "?"}})",
          "unk_token");
  corrupt(WithMember(R"("added_tokens": [{"id": 99999999, "content": "x"}])"),
          "added_tokens[0].id");
  corrupt(WithMember(R"("added_tokens": [{"id": 7, "content": "x"}, {"id": 7, "content": "y"}])"),
          "is taken");
  corrupt(
      WithMember(R"("added_tokens": [{"id": 7, "content": ")" + std::string(9999, 'x') + "\"}]"),
      "bytes");
  corrupt(
      WithMember(
          R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"})"),
      "pattern.Regex: expected a regular expression");
  corrupt(
      WithMember(
          R"("pre_tokenizer": {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated"})"),
      "not empty");
  corrupt(
      WithMember(
          R"("post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "special_tokens": {}})"),
      "<s>: missing");
  std::string deep = R"({"type": "NFC"})";
  for (int i = 0; i < 12; ++i) deep = R"({"type": "Sequence", "normalizers": [)" + deep + "]}";
  corrupt(WithMember("\"normalizer\": " + deep), "nested");
}

TEST(TokenizerErrors, ExplosiveExpressionsEndWithoutAMatch) {
  const auto tokenizer = Tokenizer::FromJson(WithMember(
      R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"})"));
  ASSERT_TRUE(tokenizer.has_value());
  const std::string text = std::string(5000, 'a') + "b";
  EXPECT_EQ((*tokenizer)->Decode((*tokenizer)->Encode("ab")), "ab");
  EXPECT_EQ((*tokenizer)->Encode(text).size(), 5000u);  // 4,999 times "a", then "ab"
}

TEST(TokenizerErrors, FolderWithoutTokenizerIsNotFound) {
  const auto tokenizer = Tokenizer::FromFolder(testing::TempDir() + "no_such_model");
  ASSERT_FALSE(tokenizer.has_value());
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(tokenizer.error().message, HasSubstr("tokenizer.json"));
}

// What `tokenizers` 0.23 gives; found by tests/fuzz/tokenizer_diff.py.
TEST(Tokenizer, WordCharactersOfPatternsAreThoseOfOniguruma) {
  const auto tokenizer = Load("splits");
  EXPECT_THAT(tokenizer->Encode("d\u200D"), ElementsAre(190, 0)) << "joiners are none";
  EXPECT_THAT(tokenizer->Encode("d\U0001F130"), ElementsAre(55, 0)) << "enclosed letters are";
}

}  // namespace
}  // namespace gale
