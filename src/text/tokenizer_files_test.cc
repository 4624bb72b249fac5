// Tokenizers from SentencePiece, tiktoken and GPT-2 files, against what their packages make of the
// same texts (tools/goldens/text_folder_goldens.py).
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include "gale/tokenizer.h"
#include "text/test_files.h"

namespace gale {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Tokenizer> Load(const std::string& folder) {
  auto tokenizer = Tokenizer::FromFolder(folder);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(tokenizer).value();
}

/// A folder of this test's own, gone with the test.
class Folder {
 public:
  explicit Folder(const std::string& name) : path_(testing::TempDir() + "gale_" + name) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << text;
  }
  void Copy(const std::string& from) const { fs::copy(kTextData + "folders/" + from, path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class FolderGoldens : public testing::TestWithParam<const char*> {};

TEST_P(FolderGoldens, EncodesAndDecodesAsItsPackageDoes) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  ASSERT_EQ(parser.load(kTextData + "folder_goldens.json").get(root), simdjson::SUCCESS);
  const auto tokenizer = Load(kTextData + "folders/" + GetParam());
  const simdjson::dom::element golden = root["folders"][GetParam()];
  size_t i = 0;
  for (const simdjson::dom::element hex : simdjson::dom::array(root["texts"])) {
    const std::string_view digits = hex;
    std::string text;
    for (size_t at = 0; at + 1 < digits.size(); at += 2) {
      text.push_back(static_cast<char>(std::stoi(std::string(digits.substr(at, 2)), nullptr, 16)));
    }
    std::vector<TokenId> expected;
    for (const simdjson::dom::element id : simdjson::dom::array(golden["encode"].at(i))) {
      expected.push_back(static_cast<TokenId>(int64_t(id)));
    }
    EXPECT_EQ(tokenizer->Encode(text, {.add_special_tokens = false}), expected) << text;
    EXPECT_EQ(tokenizer->Decode(expected), std::string_view(golden["decode"].at(i))) << text;
    ++i;
  }
  EXPECT_GT(i, 100u);
}

INSTANTIATE_TEST_SUITE_P(Kinds, FolderGoldens,
                         testing::Values("sp_bpe", "sp_unigram", "sp_suffix", "cl100k_base",
                                         "llama3", "gpt2"),
                         [](const auto& param) { return std::string(param.param); });

TEST(TokenizerFiles, SentencePieceBeginsWithBosOrElseEndsWithEos) {
  const auto bpe = Load(kTextData + "folders/sp_bpe");
  const auto unigram = Load(kTextData + "folders/sp_unigram");
  EXPECT_EQ(bpe->Encode("a").front(), *bpe->TokenToId("<s>"));
  EXPECT_EQ(unigram->Encode("a").back(), *unigram->TokenToId("</s>"));
  const Folder folder("sp_config");
  folder.Copy("sp_bpe");
  folder.Write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
  const auto configured = Load(folder.path());
  EXPECT_NE(configured->Encode("a").front(), *bpe->TokenToId("<s>"));
  EXPECT_EQ(configured->Encode("a").back(), *bpe->TokenToId("</s>"));
}

TEST(TokenizerFiles, ControlPiecesStayTextUnlessAskedFor) {
  const auto tokenizer = Load(kTextData + "folders/sp_bpe");
  const TokenId end = *tokenizer->TokenToId("<|im_end|>");
  EXPECT_TRUE(tokenizer->IsSpecial(end));
  const auto ids = tokenizer->Encode("a<|im_end|>", {.parse_special = true});
  EXPECT_EQ(ids.back(), end);
  EXPECT_NE(tokenizer->Encode("a<|im_end|>").back(), end);
}

TEST(TokenizerFiles, SentencePieceAddsItsPrefixAtTheStartOfTheTextOnly) {
  const auto tokenizer = Load(kTextData + "folders/sp_bpe");
  const EncodeOptions parsing{.add_special_tokens = false, .parse_special = true};
  const auto ids = tokenizer->Encode("fox<|im_end|>fox<|im_end|> fox", parsing);
  auto expected = tokenizer->Encode("fox", parsing);
  const std::vector<TokenId> at_start = expected;
  expected.push_back(*tokenizer->TokenToId("<|im_end|>"));
  ASSERT_GT(ids.size(), 2 * expected.size());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), ids.begin()));
  EXPECT_TRUE(std::equal(at_start.rbegin(), at_start.rend(), ids.rbegin()));
  EXPECT_EQ(tokenizer->Decode(ids), "foxfox fox");
}

// What sentencepiece 0.2.3 gives; found by tests/fuzz/tokenizer_diff.py.
TEST(TokenizerFiles, UnigramBreaksTiesAsSentencePieceDoes) {
  const auto tokenizer = Load(kTextData + "folders/sp_unigram");
  const EncodeOptions plain{.add_special_tokens = false};
  EXPECT_THAT(tokenizer->Encode("---", plain), ElementsAre(4, 73, 205));
  EXPECT_THAT(tokenizer->Encode("\xFF.\xFF.......", plain),
              ElementsAre(4, 0, 7, 0, 7, 217, 217, 217));
  EXPECT_THAT(tokenizer->Encode("<mask><mask><mabababababababababababab", plain),
              ElementsAre(4, 1, 1, 48, 29, 6, 138, 8, 6, 138, 6, 138, 6, 138));
}

TEST(TokenizerFiles, SentencePieceDropsItsPrefixOnlyWhereItIsOne) {
  const auto bpe = Load(kTextData + "folders/sp_bpe");
  const TokenId space_byte = *bpe->TokenToId("<0x20>");
  EXPECT_EQ(bpe->Decode(std::vector{space_byte}), " ");
  EXPECT_EQ(bpe->Decode(std::vector{*bpe->TokenToId("▁"), *bpe->TokenToId("▁a")}), " a");
  const auto unigram = Load(kTextData + "folders/sp_unigram");
  const TokenId space = *unigram->TokenToId("▁");
  EXPECT_EQ(unigram->Decode(std::vector{space, space, *unigram->TokenToId("▁a")}), "a");
}

TEST(TokenizerFiles, TiktokenHasTheSpecialTokensOfItsEncoding) {
  const auto llama3 = Load(kTextData + "folders/llama3");
  const TokenId begin = *llama3->TokenToId("<|begin_of_text|>");
  EXPECT_EQ(llama3->Encode("a").front(), begin);
  EXPECT_EQ(*llama3->TokenToId("<|eot_id|>"), begin + 9);
  EXPECT_EQ(llama3->vocab_size(), begin + 256);
  const auto cl100k = Load(kTextData + "folders/cl100k_base");
  EXPECT_EQ(*cl100k->TokenToId("<|endofprompt|>"), *cl100k->TokenToId("<|endoftext|>") + 19);
}

TEST(TokenizerFiles, VocabularyAndMergesGoByTheirConfiguration) {
  const Folder folder("qwen2");
  folder.Copy("gpt2");
  folder.Write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer",
      "added_tokens_decoder": {"900": {"content": "<|im_end|>", "special": true},
                               "901": {"content": "<think>", "special": false}}})");
  folder.Write("added_tokens.json", R"({"<tool>": 902, "<|im_end|>": 900})");
  const auto qwen2 = Load(folder.path());
  const auto gpt2 = Load(kTextData + "folders/gpt2");
  EXPECT_EQ(qwen2->Encode("<|im_end|>", {.parse_special = true}), std::vector<TokenId>{900});
  EXPECT_TRUE(qwen2->IsSpecial(900));
  EXPECT_THAT(qwen2->Encode("<think><tool>"), ElementsAre(901, 902));
  EXPECT_FALSE(qwen2->IsSpecial(902));
  EXPECT_TRUE(gpt2->IsSpecial(*gpt2->TokenToId("<|endoftext|>")));
  // Qwen2 composes characters and takes digits one by one.
  EXPECT_EQ(qwen2->Encode("e\u0301"), qwen2->Encode("é"));
  EXPECT_NE(gpt2->Encode("e\u0301"), gpt2->Encode("é"));
}

Error ErrorOf(const Folder& folder) {
  const auto tokenizer = Tokenizer::FromFolder(folder.path());
  EXPECT_FALSE(tokenizer.has_value());
  return tokenizer ? Error() : tokenizer.error();
}

TEST(TokenizerFiles, SayWhatIsWrong) {
  const Folder empty("empty");
  EXPECT_EQ(ErrorOf(empty).code, ErrorCode::kNotFound);
  for (const char* name : {"tokenizer.json", "merges.txt", "tokenizer.model", "*.tiktoken"}) {
    EXPECT_THAT(ErrorOf(empty).message, HasSubstr(name));
  }
  const auto error_with = [](const std::string& from, const std::string& name,
                             const std::string& text) {
    const Folder folder("bad");
    if (!from.empty()) folder.Copy(from);
    folder.Write(name, text);
    const std::string message = ErrorOf(folder).message;
    EXPECT_THAT(message, HasSubstr(folder.path()));
    return message;
  };
  EXPECT_THAT(error_with("gpt2", "merges.txt", "a\n"), HasSubstr("merges.txt: line 1"));
  EXPECT_THAT(error_with("gpt2", "tokenizer_config.json", R"({"tokenizer_class": "Nope"})"),
              HasSubstr("GPT2Tokenizer"));
  EXPECT_THAT(error_with("gpt2", "added_tokens.json", R"({"x": -1})"), HasSubstr("added_tokens"));
  EXPECT_THAT(error_with("", "cl100k_base.tiktoken", "YQ== 0\n"), HasSubstr("256 bytes"));
  const std::string ranks = ReadFile(kTextData + "folders/llama3/llama3.tiktoken");
  EXPECT_THAT(error_with("", "mine.tiktoken", ranks), HasSubstr("known are r50k_base"));
  EXPECT_THAT(error_with("", "llama3.tiktoken", ranks + "YWE= 0\n"), HasSubstr("line 6"));
  EXPECT_THAT(error_with("", "tokenizer.model", "no model"), HasSubstr("SentencePiece"));
}

TEST(TokenizerFiles, EverySentencePieceFileCutShortIsRefusedOrRead) {
  const std::string file = ReadFile(kTextData + "folders/sp_unigram/tokenizer.model");
  int num_read = 0;
  for (size_t size = 0; size < file.size(); ++size) {
    const auto tokenizer = Tokenizer::FromSentencePiece(std::string_view(file).substr(0, size));
    if (tokenizer) {
      ++num_read;  // cut between two fields
      continue;
    }
    EXPECT_THAT(tokenizer.error().message, HasSubstr("SentencePiece model")) << size;
  }
  EXPECT_LT(num_read, 1000);
}

}  // namespace
}  // namespace gale
