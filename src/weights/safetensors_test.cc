#include "weights/safetensors.h"

#include <cstring>

#include <gtest/gtest.h>

namespace gale {
namespace {

std::string File(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header +
         std::string(data_bytes, 'd');
}

Result<std::vector<CheckpointTensor>> Parse(const std::string& file) {
  return ParseSafetensors(std::as_bytes(std::span(file.data(), file.size())), "w.safetensors");
}

TEST(Safetensors, ListsTensorsInTheOrderOfTheirBytes) {
  const std::string file = File(R"({"__metadata__":{"format":"pt"},
      "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
      "empty":{"dtype":"F32","shape":[0,7],"data_offsets":[16,16]},
      "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
      "odd":{"dtype":"F8_E5M2","shape":[2],"data_offsets":[16,18]}})",
                                18);
  const auto entries = Parse(file);
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 4U);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_TRUE((*entries)[0].shape.empty());
  EXPECT_EQ((*entries)[1].name, "b");
  EXPECT_EQ((*entries)[1].dtype, DType::kBf16);
  EXPECT_EQ((*entries)[1].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ((*entries)[1].data.size(), 12U);
  EXPECT_EQ(reinterpret_cast<const char*>((*entries)[1].data.data()), &file[file.size() - 14]);
  EXPECT_EQ((*entries)[2].name, "empty");
  EXPECT_EQ((*entries)[3].dtype_name, "F8_E5M2");
  EXPECT_FALSE((*entries)[3].dtype);
}

TEST(Safetensors, AcceptsAFileWithoutTensors) {
  const auto entries = Parse(File("{}", 0));
  ASSERT_TRUE(entries);
  EXPECT_TRUE(entries->empty());
}

struct BadFile {
  const char* what;
  std::string file;
  const char* message;  ///< a part of it
};

std::string OneTensor(const std::string& fields, size_t data_bytes = 8) {
  return File("{\"t\":{" + fields + "}}", data_bytes);
}

TEST(Safetensors, RefusesBadFilesWithOneMessage) {
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  const std::string max_length(8, '\xff');
  const BadFile cases[] = {
      {"empty file", "", "at least 8 bytes, got 0"},
      {"cut in the length", "1234567", "at least 8 bytes, got 7"},
      {"length past the end", File("{}", 0).substr(0, 9), "truncated or no safetensors"},
      {"absurd length", max_length + "{}", "got a length of 18446744073709551615"},
      {"a text file", "version https://git-lfs.github.com/spec/v1", "no safetensors file"},
      {"no JSON", File("{{{{", 0), "not valid JSON"},
      {"an empty header", File("", 0), "not valid JSON"},
      {"bytes after the header's object", File("{} {}", 0), "not valid JSON"},
      {"an array", File("[]", 0), "top level: expected an object"},
      {"deep nesting", File(std::string(5000, '[') + std::string(5000, ']'), 0), "not valid JSON"},
      {"a tensor that is no object", File(R"({"t":[1]})", 0), "t: expected an object"},
      {"a duplicate name", File("{\"t\":{" + good + "},\"t\":{" + good + "}}", 8),
       "\"t\" stands twice"},
      {"no dtype", OneTensor(R"("shape":[2],"data_offsets":[0,8])"), "t.dtype: missing"},
      {"unknown dtype", OneTensor(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"),
       "t.dtype: expected a safetensors element type"},
      {"dtype of another kind", OneTensor(R"("dtype":32,"shape":[2],"data_offsets":[0,8])"),
       "t.dtype: expected a string"},
      {"no shape", OneTensor(R"("dtype":"F32","data_offsets":[0,8])"), "t.shape: missing"},
      {"negative dimension", OneTensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"),
       "t.shape[0]: expected an integer"},
      {"fractional dimension", OneTensor(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"),
       "t.shape[0]: expected an integer"},
      {"17 dimensions",
       OneTensor(
           R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])"),
       "at most 16 dimensions"},
      {"a size that overflows",
       OneTensor(
           R"("dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,8])"),
       "t.shape: expected dimensions that make whole bytes"},
      {"half a byte", OneTensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])", 1),
       "t.shape: expected dimensions that make whole bytes"},
      {"shape larger than its bytes",
       OneTensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"),
       "t.data_offsets[1]: expected 0 + 12, the bytes of its dtype and shape, got 8"},
      {"one offset", OneTensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), "[begin, end]"},
      {"offsets backwards", OneTensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"),
       "t.data_offsets[1]"},
      {"end outside the file", OneTensor(good, 7),
       "t.data_offsets[1]: expected at most 7, the bytes behind the header (is the file "
       "truncated?), got 8"},
      {"begin outside the file",
       OneTensor(
           R"("dtype":"F32","shape":[0],"data_offsets":[9223372036854775807,9223372036854775807])"),
       "t.data_offsets[1]: expected at most 8"},
      {"a gap before", OneTensor(R"("dtype":"F32","shape":[2],"data_offsets":[4,12])", 12),
       "a gap"},
      {"bytes of no tensor", OneTensor(good, 9), "expected 8 bytes of tensors, got 9"},
      {"overlap",
       File("{\"t\":{" + good + R"(},"u":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12),
       "tensors overlap"},
      {"the same bytes twice", File("{\"t\":{" + good + "},\"u\":{" + good + "}}", 8),
       "tensors overlap"},
  };
  for (const BadFile& bad : cases) {
    const auto entries = Parse(bad.file);
    ASSERT_FALSE(entries) << bad.what;
    EXPECT_EQ(entries.error().code, ErrorCode::kDataCorrupt) << bad.what;
    EXPECT_NE(entries.error().message.find(bad.message), std::string::npos)
        << bad.what << ": " << entries.error().message;
    EXPECT_EQ(entries.error().message.find("w.safetensors"), 0U) << entries.error().message;
  }
}

TEST(Safetensors, EveryCutOfAGoodFileIsRefused) {
  const std::string file = OneTensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])");
  ASSERT_TRUE(Parse(file));
  for (size_t size = 0; size < file.size(); ++size)
    EXPECT_FALSE(Parse(file.substr(0, size))) << size;
}

}  // namespace
}  // namespace gale
