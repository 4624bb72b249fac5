// Tokenizers and templates out of GGUF files, against those of the files they were made from
// (tools/goldens/gguf_goldens.py).
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include "gale/chat.h"
#include "gale/tokenizer.h"
#include "text/test_files.h"

namespace gale {
namespace {

using ::testing::HasSubstr;

const std::string kFolder = GALE_SOURCE_DIR "/tests/data/gguf/";
const std::string kTinyChat = GALE_SOURCE_DIR "/tests/data/e2e/tiny-chat";

std::unique_ptr<Tokenizer> Load(const std::string& path) {
  auto tokenizer = Tokenizer::FromFolder(path);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(tokenizer).value();
}

/// The texts that the goldens of tokenizers are made of.
std::vector<std::string> Texts() {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  EXPECT_EQ(parser.load(kTextData + "tokenizer_goldens.json").get(root), simdjson::SUCCESS);
  std::vector<std::string> texts;
  for (const simdjson::dom::element hex : simdjson::dom::array(root["texts"])) {
    const std::string_view digits = hex;
    std::string& text = texts.emplace_back();
    for (size_t at = 0; at + 1 < digits.size(); at += 2) {
      text.push_back(static_cast<char>(std::stoi(std::string(digits.substr(at, 2)), nullptr, 16)));
    }
  }
  EXPECT_GT(texts.size(), 20U);
  return texts;
}

void ExpectSame(const Tokenizer& gguf, const Tokenizer& original, const std::string& text) {
  const EncodeOptions options{.add_special_tokens = false, .parse_special = true};
  const auto ids = original.Encode(text, options);
  EXPECT_EQ(gguf.Encode(text, options), ids) << text;
  EXPECT_EQ(gguf.Decode(ids), original.Decode(ids)) << text;
}

TEST(TokenizerGguf, ByteLevelBpeEqualsTokenizerJson) {
  const std::vector<std::string> texts = Texts();
  const std::pair<std::string, std::string> cases[] = {
      {"tiny-chat", kTinyChat + "/tokenizer.json"},
      {"tokenizer_llama3", kTextData + "tokenizers/llama3.json"},
      {"tokenizer_qwen2", kTextData + "tokenizers/qwen2.json"}};
  for (const auto& [name, json] : cases) {
    const auto original = Tokenizer::FromJson(ReadFile(json));
    ASSERT_TRUE(original) << original.error().message;
    const auto gguf = Load(kFolder + name + ".gguf");
    EXPECT_EQ(gguf->vocab_size(), (*original)->vocab_size()) << name;
    for (const std::string& text : texts) ExpectSame(*gguf, **original, text);
  }
}

/// GGUF files of llama have no table of characters to normalize, so only texts that it would leave
/// alone are compared.
TEST(TokenizerGguf, SentencePieceEqualsItsModelFile) {
  const auto original = Load(kTextData + "folders/sp_bpe");
  const auto gguf = Load(kFolder + "tokenizer_sp_bpe.gguf");
  EXPECT_EQ(gguf->vocab_size(), original->vocab_size());
  int compared = 0;
  for (const std::string& text : Texts()) {
    const auto is_plain = [](char c) { return c >= ' ' && c < '\x7f'; };
    if (!std::all_of(text.begin(), text.end(), is_plain)) continue;
    ExpectSame(*gguf, *original, text);
    ++compared;
  }
  EXPECT_GT(compared, 10);
  EXPECT_EQ(gguf->Encode("a fox"), original->Encode("a fox"));  // with BOS
  EXPECT_EQ(gguf->Encode("a").front(), *gguf->TokenToId("<s>"));
}

TEST(TokenizerGguf, ControlTokensAreSpecial) {
  const auto gguf = Load(kFolder + "tiny-chat.gguf");
  const TokenId end = *gguf->TokenToId("<|im_end|>");
  EXPECT_TRUE(gguf->IsSpecial(end));
  EXPECT_EQ(gguf->Encode("a<|im_end|>", {.parse_special = true}).back(), end);
  EXPECT_NE(gguf->Encode("a<|im_end|>").back(), end);
}

TEST(TokenizerGguf, HoldsTheChatTemplate) {
  const auto original = ChatTemplate::FromFolder(kTinyChat);
  const auto gguf = ChatTemplate::FromFolder(kFolder + "tiny-chat.gguf");
  ASSERT_TRUE(original) << original.error().message;
  ASSERT_TRUE(gguf) << gguf.error().message;
  const std::string messages = R"([{"role": "user", "content": "Hello"}])";
  const ChatOptions options;
  EXPECT_EQ((*gguf)->Render(messages, options)->text, (*original)->Render(messages, options)->text);
  EXPECT_EQ(ChatTemplate::FromFolder(kFolder + "tokenizer_qwen2.gguf").error().code,
            ErrorCode::kNotFound);
}

/// Words are cut elsewhere and lose nothing: the text of the tokens is that of Llama's.
TEST(TokenizerGguf, TakesThePreTokenizationsOfOtherModels) {
  const auto llama = Load(kFolder + "tokenizer_llama3.gguf");
  const std::string good = ReadFile(kFolder + "tokenizer_llama3.gguf");
  const std::string old_name = std::string("\x09\0\0\0\0\0\0\0", 8) + "llama-bpe";
  ASSERT_NE(good.find(old_name), std::string::npos);
  for (const std::string name :
       {"gpt-2", "deepseek-r1-qwen", "gpt-4o", "tekken", "dbrx", "glm4", "chatglm-bpe"}) {
    std::string bytes = good;  // without tensors, nothing is aligned
    const uint64_t size = name.size();
    bytes.replace(bytes.find(old_name), old_name.size(),
                  std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + name);
    const std::string path = testing::TempDir() + "gale_pre_" + name + ".gguf";
    std::ofstream(path, std::ios::binary) << bytes;
    const auto tokenizer = Load(path);
    std::remove(path.c_str());
    for (const std::string& text : Texts()) {
      EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), llama->Decode(llama->Encode(text)))
          << name;
    }
  }
}

TEST(TokenizerGguf, RefusesBadFilesWithOneMessage) {
  struct Bad {
    const char* file;
    std::string from, to;  ///< as long
    const char* message;   ///< a part of it
    ErrorCode code = ErrorCode::kDataCorrupt;
  };
  const Bad cases[] = {
      {"qwen2", "tokenizer.ggml.model", "tokenizer.ggml.xodel", "the file has no tokenizer",
       ErrorCode::kNotFound},
      {"qwen2", "gpt2", "bert", "expected \"gpt2\" or \"llama\", got \"bert\"",
       ErrorCode::kUnsupported},
      {"qwen2", "qwen2\x15", "qwen9\x15",
       "tokenizer.ggml.pre: expected one of gpt-2, llama-bpe, qwen2, deepseek-r1-qwen, gpt-4o, "
       "tekken, dbrx, glm4, chatglm-bpe, got \"qwen9\"",
       ErrorCode::kUnsupported},
      {"qwen2", "tokenizer.ggml.pre", "tokenizer.ggml.xre", "tokenizer.ggml.pre: missing"},
      {"qwen2", "tokenizer.ggml.tokens", "tokenizer.ggml.xokens", "tokenizer.ggml.tokens: missing"},
      {"qwen2", "tokenizer.ggml.merges", "tokenizer.ggml.xerges", "tokenizer.ggml.merges: missing"},
      {"sp_bpe", "bos_token_id\x04", "bos_token_id\x06", "tokenizer.ggml.bos_token_id: expected"},
  };
  for (const Bad& bad : cases) {
    std::string bytes = ReadFile(kFolder + "tokenizer_" + bad.file + ".gguf");
    const size_t at = bytes.find(bad.from);
    ASSERT_NE(at, std::string::npos) << bad.from;
    bytes.replace(at, bad.from.size(), bad.to);
    const std::string path = testing::TempDir() + "gale_bad_tokenizer.gguf";
    std::ofstream(path, std::ios::binary) << bytes;
    const auto tokenizer = Tokenizer::FromFolder(path);
    std::remove(path.c_str());
    ASSERT_FALSE(tokenizer) << bad.message;
    EXPECT_EQ(tokenizer.error().code, bad.code) << bad.message;
    EXPECT_THAT(tokenizer.error().message, HasSubstr(bad.message));
    EXPECT_THAT(tokenizer.error().message, HasSubstr("gale_bad_tokenizer.gguf: "));
  }
}

}  // namespace
}  // namespace gale
