// The load cache gives the tokenizer that parsing gives, and damage to its file does not show.
#include "text/load_cache.h"

#include <cstdlib>
#include <fstream>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "gale/tokenizer.h"
#include "text/hash.h"
#include "text/test_files.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

void WriteFile(const fs::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// A model folder with a tokenizer.json large enough to be cached, and an empty cache.
class LoadCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    root_ = fs::path(testing::TempDir()) / ("load_cache_" + name);
    fs::remove_all(root_);
    fs::create_directories(root_ / "model");
    setenv("XDG_CACHE_HOME", (root_ / "cache").c_str(), 1);
    unsetenv("GALE_TOKENIZER_CACHE");
    std::string json = ReadFile(kTextData + "tokenizers/qwen2.json");
    json.append(size_t{1} << 20, ' ');
    WriteFile(root_ / "model" / "tokenizer.json", json);
  }
  void TearDown() override { fs::remove_all(root_); }

  std::vector<TokenId> Encode() const {
    const auto tokenizer = Tokenizer::FromFolder((root_ / "model").string());
    EXPECT_TRUE(tokenizer.has_value());
    return (*tokenizer)
        ->Encode("<|im_start|>The little dog's house, 中文字 été 123\n", {.parse_special = true});
  }
  fs::path CacheFile() const {
    for (const auto& entry : fs::directory_iterator(root_ / "cache" / "gale")) return entry.path();
    return {};
  }

  fs::path root_;
};

TEST_F(LoadCacheTest, GivesTheSameTokenizer) {
  const std::vector<TokenId> parsed = Encode();
  const auto written = fs::last_write_time(CacheFile());
  const std::string content = ReadFile(CacheFile());
  EXPECT_GT(content.size(), 1000u);
  EXPECT_EQ(Encode(), parsed);
  EXPECT_EQ(fs::last_write_time(CacheFile()), written) << "it was read, not made again";

  const auto cached = Tokenizer::FromFolder((root_ / "model").string());
  const auto fresh = Tokenizer::FromJson(ReadFile(root_ / "model" / "tokenizer.json"));
  ASSERT_EQ((*cached)->vocab_size(), (*fresh)->vocab_size());
  for (TokenId id = 0; id < (*fresh)->vocab_size(); ++id) {
    ASSERT_EQ((*cached)->IdToToken(id), (*fresh)->IdToToken(id));
    ASSERT_EQ((*cached)->TokenToId((*fresh)->IdToToken(id)),
              (*fresh)->TokenToId((*fresh)->IdToToken(id)));
    ASSERT_EQ((*cached)->IsSpecial(id), (*fresh)->IsSpecial(id));
  }
}

TEST_F(LoadCacheTest, DamageIsRepaired) {
  const std::vector<TokenId> parsed = Encode();
  const fs::path path = CacheFile();
  const std::string sound = ReadFile(path);
  std::mt19937 rng(1);
  for (int i = 0; i < 60; ++i) {
    std::string damaged = sound;
    if (i % 3 == 0) {
      damaged.resize(rng() % damaged.size());
    } else if (i % 3 == 1) {
      damaged[i < 30 ? i : rng() % damaged.size()] ^= static_cast<char>(1 << rng() % 8);
    } else {
      damaged.append(rng() % 100 + 1, 'x');
    }
    WriteFile(path, damaged);
    ASSERT_EQ(Encode(), parsed) << i;
    ASSERT_EQ(ReadFile(path), sound) << i << ": written anew";
  }
}

TEST_F(LoadCacheTest, ValuesOutOfBoundsAreRefusedEvenWithARightChecksum) {
  const std::vector<TokenId> parsed = Encode();
  const fs::path path = CacheFile();
  const std::string sound = ReadFile(path);
  constexpr size_t kHeaderBytes = 24;
  std::mt19937 rng(2);
  for (int i = 0; i < 60; ++i) {
    std::string forged = sound;
    for (int byte = 0; byte < 4; ++byte) {
      forged[kHeaderBytes + rng() % (forged.size() - kHeaderBytes)] = static_cast<char>(rng());
    }
    const uint64_t checksum = text::HashBytes(std::string_view(forged).substr(kHeaderBytes));
    forged.replace(16, 8, reinterpret_cast<const char*>(&checksum), 8);
    WriteFile(path, forged);
    // What passes the checks may give other ids, but must not read out of bounds.
    EXPECT_LT(Encode().size(), 100u);
    WriteFile(path, sound);
  }
  EXPECT_EQ(Encode(), parsed);
}

TEST_F(LoadCacheTest, AChangedSourceIsReadAnew) {
  Encode();
  std::string json = ReadFile(root_ / "model" / "tokenizer.json");
  const size_t pos = json.find("<|im_start|>");
  json.replace(pos, 12, "<|im_begin|>");
  WriteFile(root_ / "model" / "tokenizer.json", json);
  const auto tokenizer = Tokenizer::FromFolder((root_ / "model").string());
  EXPECT_TRUE((*tokenizer)->TokenToId("<|im_begin|>"));
}

TEST_F(LoadCacheTest, CanBeSwitchedOffAndDoWithoutAFolder) {
  setenv("GALE_TOKENIZER_CACHE", "off", 1);
  const std::vector<TokenId> parsed = Encode();
  EXPECT_FALSE(fs::exists(root_ / "cache"));
  unsetenv("GALE_TOKENIZER_CACHE");
  WriteFile(root_ / "cache", "in the way");
  EXPECT_EQ(Encode(), parsed);
}

}  // namespace
}  // namespace gale
