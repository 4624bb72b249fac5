#include "base/mapped_file.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace gale {
namespace {

using ::testing::HasSubstr;

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

TEST(MappedFile, ShowsTheBytes) {
  const std::string path = WriteFile("mapped_file_bytes", std::string("a\0b", 3));
  Result<MappedFile> file = MappedFile::Open(path);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->text(), std::string_view("a\0b", 3));
  EXPECT_EQ(file->bytes().size(), 3U);
  EXPECT_EQ(file->path(), path);
  file->Prefetch(1, 1000);
  file->Prefetch(5, 1);

  const char* before = file->text().data();
  const MappedFile moved = std::move(*file);
  EXPECT_EQ(moved.text().data(), before);
  EXPECT_TRUE(file->text().empty());
}

TEST(MappedFile, EmptyFile) {
  const Result<MappedFile> file = MappedFile::Open(WriteFile("mapped_file_empty", ""));
  ASSERT_TRUE(file.has_value());
  EXPECT_TRUE(file->bytes().empty());
}

TEST(MappedFile, SaysWhatIsWrong) {
  const Result<MappedFile> missing = MappedFile::Open("/nonexistent/model.safetensors");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/model.safetensors: cannot open"));

  const Result<MappedFile> folder = MappedFile::Open(testing::TempDir());
  ASSERT_FALSE(folder.has_value());
  EXPECT_EQ(folder.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(folder.error().message, HasSubstr("got a directory"));

  const std::string pipe_path = testing::TempDir() + "mapped_file_pipe";
  ASSERT_EQ(mkfifo(pipe_path.c_str(), 0600), 0);
  const Result<MappedFile> pipe = MappedFile::Open(pipe_path);
  std::filesystem::remove(pipe_path);
  ASSERT_FALSE(pipe.has_value());
  EXPECT_THAT(pipe.error().message, HasSubstr("got a special file"));
}

}  // namespace
}  // namespace gale
