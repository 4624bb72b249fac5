#include "weights/hub_cache.h"

#include <cstdlib>
#include <filesystem>

#include <gmock/gmock.h>

#include "weights/checkpoint_test_support.h"

namespace gale {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

const HubModel kModel{"Org/Name-1.5B", "main"};

TEST(ParseHubModelTest, ReadsRepositoryAndRevision) {
  const auto plain = ParseHubModel("Qwen/Qwen3-0.6B");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->repository, "Qwen/Qwen3-0.6B");
  EXPECT_EQ(plain->revision, "main");
  const auto revised = ParseHubModel("Qwen/Qwen3-0.6B@refs/pr/1");
  ASSERT_TRUE(revised);
  EXPECT_EQ(revised->repository, "Qwen/Qwen3-0.6B");
  EXPECT_EQ(revised->revision, "refs/pr/1");
}

TEST(ParseHubModelTest, RefusesPathsAndWhatLeavesTheCache) {
  for (const char* name :
       {"", "gpt2", "/models/x", "./models", "../x", "a/b/c", "a/", "/b", "a/..", "a/b@", "a/b@..",
        "a/b@../../x", "a/b@x//y", "a/b@x@y", "a b/c", "-a/b"}) {
    EXPECT_FALSE(ParseHubModel(name)) << name;
  }
}

class HubCacheFolderTest : public testing::Test {
 protected:
  static constexpr const char* kNames[] = {"HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"};

  HubCacheFolderTest() {
    for (const char* name : kNames) {
      const char* value = std::getenv(name);
      saved_.push_back(value == nullptr ? std::optional<std::string>() : value);
      unsetenv(name);
    }
  }
  ~HubCacheFolderTest() override {
    for (size_t i = 0; i < saved_.size(); ++i) {
      if (saved_[i]) setenv(kNames[i], saved_[i]->c_str(), 1);
    }
  }

 private:
  std::vector<std::optional<std::string>> saved_;
};

TEST_F(HubCacheFolderTest, TakesTheMostSpecificVariable) {
  setenv("HOME", "/home/ann", 1);
  EXPECT_EQ(HubCacheFolder(), "/home/ann/.cache/huggingface/hub");
  setenv("XDG_CACHE_HOME", "/xdg", 1);
  EXPECT_EQ(HubCacheFolder(), "/xdg/huggingface/hub");
  setenv("HF_HOME", "~/hf", 1);
  EXPECT_EQ(HubCacheFolder(), "/home/ann/hf/hub");
  setenv("HF_HUB_CACHE", "", 1);
  EXPECT_EQ(HubCacheFolder(), "/home/ann/hf/hub");
  setenv("HF_HUB_CACHE", "/hub", 1);
  EXPECT_EQ(HubCacheFolder(), "/hub");
}

/// A cache as the hub's tools leave it: refs, and snapshots that link to blobs.
class FindSnapshotTest : public testing::Test {
 protected:
  FindSnapshotTest() : repository_(cache_.path() + "/models--Org--Name-1.5B") {
    fs::create_directories(repository_ + "/blobs");
    fs::create_directories(repository_ + "/refs/refs/pr");
    WriteRef("main", "c0ffee");
    AddFile("c0ffee", "config.json", "{}");
    AddFile("c0ffee", "model.safetensors", "weights");
  }

  void WriteRef(const std::string& name, const std::string& commit) const {
    cache_.Write("models--Org--Name-1.5B/refs/" + name, commit);
  }
  void AddFile(const std::string& commit, const std::string& name, const std::string& text) const {
    const std::string blob = commit + "-" + name;
    cache_.Write("models--Org--Name-1.5B/blobs/" + blob, text);
    fs::create_directories(Snapshot(commit));
    fs::create_symlink("../../blobs/" + blob, Snapshot(commit) + "/" + name);
  }
  std::string Snapshot(const std::string& commit) const {
    return repository_ + "/snapshots/" + commit;
  }
  Result<std::string> Find(const HubModel& model, bool needs_weights = true) const {
    return FindSnapshot(model, cache_.path(), needs_weights);
  }
  template <class Matcher>
  void ExpectMissing(const HubModel& model, const Matcher& message) const {
    const Result<std::string> found = Find(model);
    ASSERT_FALSE(found) << *found;
    EXPECT_EQ(found.error().code, ErrorCode::kNotFound);
    EXPECT_THAT(found.error().message, message);
  }

  TestFolder cache_;
  std::string repository_;
};

TEST_F(FindSnapshotTest, FollowsBranchesAndCommits) {
  AddFile("beef", "config.json", "{}");
  AddFile("beef", "model.safetensors", "weights");
  WriteRef("refs/pr/1", "beef\n");
  EXPECT_EQ(Find(kModel).value_or(""), Snapshot("c0ffee"));
  EXPECT_EQ(Find({"Org/Name-1.5B", "refs/pr/1"}).value_or(""), Snapshot("beef"));
  EXPECT_EQ(Find({"Org/Name-1.5B", "beef"}).value_or(""), Snapshot("beef"));
}

TEST_F(FindSnapshotTest, SaysHowToGetWhatIsAbsent) {
  ExpectMissing({"Org/Other", "main"},
                AllOf(HasSubstr(cache_.path()), EndsWith("Get it with: gale pull Org/Other")));
  ExpectMissing({"Org/Name-1.5B", "v2"},
                AllOf(HasSubstr("no revision \"v2\""), EndsWith("gale pull Org/Name-1.5B@v2")));
}

TEST_F(FindSnapshotTest, RefusesARefThatPointsNowhere) {
  for (const char* commit : {"dead", "", "../../..", "/"}) {
    WriteRef("main", commit);
    ExpectMissing(kModel, AllOf(HasSubstr("refs/main names snapshot"), HasSubstr(commit),
                                EndsWith("gale pull Org/Name-1.5B")));
  }
}

TEST_F(FindSnapshotTest, CountsMissingShards) {
  fs::remove(Snapshot("c0ffee") + "/model.safetensors");
  AddFile("c0ffee", "model.safetensors.index.json",
          R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "3.safetensors"}})");
  AddFile("c0ffee", "1.safetensors", "weights");
  AddFile("c0ffee", "3.safetensors", "weights");
  fs::remove(repository_ + "/blobs/c0ffee-3.safetensors");  // a link to nothing
  ExpectMissing(kModel, HasSubstr("lacks 2 of 3 weight files, first 2.safetensors. Get it with"));
  EXPECT_TRUE(Find(kModel, /*needs_weights=*/false));
  AddFile("c0ffee", "2.safetensors", "weights");
  cache_.Write("models--Org--Name-1.5B/blobs/c0ffee-3.safetensors", "weights");
  EXPECT_EQ(Find(kModel).value_or(""), Snapshot("c0ffee"));
}

TEST_F(FindSnapshotTest, RefusesASnapshotWithoutWeightsOrConfig) {
  fs::remove(Snapshot("c0ffee") + "/model.safetensors");
  ExpectMissing(kModel, HasSubstr("no safetensors weights"));
  EXPECT_TRUE(Find(kModel, /*needs_weights=*/false));
  fs::remove(Snapshot("c0ffee") + "/config.json");
  EXPECT_FALSE(Find(kModel, /*needs_weights=*/false));
  ExpectMissing(kModel, HasSubstr("no config.json"));
}

TEST_F(FindSnapshotTest, ReportsABrokenIndex) {
  fs::remove(Snapshot("c0ffee") + "/model.safetensors");
  AddFile("c0ffee", "model.safetensors.index.json", "{");
  const Result<std::string> found = Find(kModel);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kDataCorrupt);
}

TEST_F(FindSnapshotTest, TakesTheOneGgufFileOfASnapshotWithoutAConfig) {
  fs::remove_all(repository_ + "/snapshots/c0ffee");
  AddFile("c0ffee", "a-00001-of-00002.gguf", "");
  AddFile("c0ffee", "a-00002-of-00002.gguf", "");
  const auto one = FindSnapshot(kModel, cache_.path(), true);
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_THAT(*one, EndsWith("/snapshots/c0ffee/a-00001-of-00002.gguf"));
  AddFile("c0ffee", "b.gguf", "");
  const auto two = FindSnapshot(kModel, cache_.path(), true);
  ASSERT_FALSE(two);
  EXPECT_EQ(two.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(two.error().message, AllOf(HasSubstr("a-00001-of-00002.gguf"), HasSubstr("b.gguf")));
}

}  // namespace
}  // namespace gale
