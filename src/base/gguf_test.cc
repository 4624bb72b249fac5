#include "base/gguf.h"

#include <cmath>
#include <cstring>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gale {
namespace {

template <class T>
std::string Raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string Text(std::string_view text) { return Raw(uint64_t{text.size()}).append(text); }

/// The numbers of the format's value types.
enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

template <class T>
std::string Key(std::string_view key, ValueType type, T value) {
  return Text(key) + Raw<uint32_t>(type) + Raw(value);
}

std::string TextKey(std::string_view key, std::string_view value) {
  return Text(key) + Raw<uint32_t>(kString) + Text(value);
}

std::string ArrayKey(std::string_view key, ValueType type, uint64_t count,
                     const std::string& items) {
  return Text(key) + Raw<uint32_t>(kArray) + Raw<uint32_t>(type) + Raw(count) + items;
}

std::string Tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                   uint64_t offset) {
  std::string info = Text(name) + Raw(static_cast<uint32_t>(dims.size()));
  for (const uint64_t dim : dims) info += Raw(dim);
  return info + Raw(type) + Raw(offset);
}

/// A file as its parts; the counts are those of the parts unless told otherwise.
struct File {
  std::vector<std::string> keys = {}, tensors = {};
  size_t data_bytes = 0;
  uint32_t version = 3;
  std::optional<uint64_t> num_keys = {}, num_tensors = {};
  std::string magic = "GGUF";
  size_t alignment = 32;

  std::string Bytes() const {
    std::string file = magic + Raw(version) + Raw(num_tensors.value_or(tensors.size())) +
                       Raw(num_keys.value_or(keys.size()));
    for (const std::string& key : keys) file += key;
    for (const std::string& tensor : tensors) file += tensor;
    if (tensors.empty()) return file;
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + std::string(data_bytes, 'd');
  }
};

Result<Gguf> Parse(const std::string& file) {
  return Gguf::Parse(std::as_bytes(std::span(file.data(), file.size())), "w.gguf");
}

constexpr uint32_t kTensorF32 = 0, kTensorQ4_0 = 2, kTensorBf16 = 30;

TEST(Gguf, ListsTensorsWithTheOutermostDimensionFirst) {
  for (const uint32_t version : {2U, 3U}) {
    const std::string bytes =
        File{.tensors = {Tensor("b", {3, 2}, kTensorBf16, 32), Tensor("a", {7}, kTensorF32, 0),
                         Tensor("q", {64, 2, 1}, kTensorQ4_0, 64)},
             .data_bytes = 64 + 72,
             .version = version}
            .Bytes();
    const auto file = Parse(bytes);
    ASSERT_TRUE(file) << file.error().message;
    ASSERT_EQ(file->tensors().size(), 3U);
    const GgufTensor& b = file->tensors()[0];
    EXPECT_EQ(b.name, "b");
    EXPECT_EQ(b.type_name, "BF16");
    EXPECT_THAT(b.shape, testing::ElementsAre(2, 3));
    EXPECT_EQ(b.data.size(), 12U);
    EXPECT_EQ(reinterpret_cast<const char*>(b.data.data()), &bytes[bytes.size() - 104]);
    EXPECT_EQ(file->tensors()[1].data.size(), 28U);
    EXPECT_EQ(file->tensors()[2].type_name, "Q4_0");
    EXPECT_THAT(file->tensors()[2].shape, testing::ElementsAre(1, 2, 64));
    EXPECT_EQ(file->tensors()[2].data.size(), 72U);  // two rows of two blocks of 18 bytes
  }
}

TEST(Gguf, FollowsTheFilesOwnAlignment) {
  File file{.keys = {Key("general.alignment", kU32, uint32_t{8})},
            .tensors = {Tensor("a", {2}, kTensorF32, 8)},
            .data_bytes = 16,
            .alignment = 8};
  const std::string bytes = file.Bytes();
  const auto parsed = Parse(bytes);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(reinterpret_cast<const char*>(parsed->tensors()[0].data.data()),
            &bytes[bytes.size() - 8]);
}

TEST(Gguf, ReadsMetadataOfEveryType) {
  const std::string bytes =
      File{.keys = {Key("u8", kU8, uint8_t{200}), Key("i8", kI8, int8_t{-3}),
                    Key("u16", kU16, uint16_t{60000}), Key("i16", kI16, int16_t{-300}),
                    Key("u32", kU32, uint32_t{4000000000}), Key("i32", kI32, int32_t{-70000}),
                    Key("u64", kU64, uint64_t{1} << 40), Key("i64", kI64, -(int64_t{1} << 40)),
                    Key("f32", kF32, 0.5F), Key("f64", kF64, 1e-6), Key("true", kBool, uint8_t{1}),
                    Key("false", kBool, uint8_t{0}), TextKey("text", "größer"),
                    ArrayKey("texts", kString, 2, Text("a") + Text("")),
                    ArrayKey("ints", kI32, 2, Raw(int32_t{5}) + Raw(int32_t{-6})),
                    ArrayKey("floats", kF32, 1, Raw(-1.5F)), ArrayKey("none", kU8, 0, "")}}
          .Bytes();
  const auto file = Parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->Int("u8"), 200);
  EXPECT_EQ(file->Int("i8"), -3);
  EXPECT_EQ(file->Int("u16"), 60000);
  EXPECT_EQ(file->Int("i16"), -300);
  EXPECT_EQ(file->Int("u32"), 4000000000);
  EXPECT_EQ(file->Int("i32"), -70000);
  EXPECT_EQ(file->Int("u64"), int64_t{1} << 40);
  EXPECT_EQ(file->Int("i64"), -(int64_t{1} << 40));
  EXPECT_EQ(file->Number("f32"), 0.5);
  EXPECT_EQ(file->Number("f64"), 1e-6);
  EXPECT_EQ(file->Number("i16"), -300);
  EXPECT_EQ(file->Bool("true"), true);
  EXPECT_EQ(file->Bool("false"), false);
  EXPECT_EQ(file->String("text"), "größer");
  EXPECT_THAT(*file->Strings("texts"), testing::ElementsAre("a", ""));
  EXPECT_THAT(*file->Numbers("ints"), testing::ElementsAre(5, -6));
  EXPECT_THAT(*file->Numbers("floats"), testing::ElementsAre(-1.5));
  EXPECT_THAT(*file->Numbers("none"), testing::IsEmpty());
  EXPECT_TRUE(file->Has("none"));
  EXPECT_FALSE(file->Has("other"));
}

TEST(Gguf, AccessorsRefuseOtherTypesAndRanges) {
  const std::string bytes =
      File{.keys = {Key("int", kU32, uint32_t{7}), TextKey("text", "seven"),
                    Key("huge", kU64, ~uint64_t{0}), Key("nan", kF32, std::nanf("")),
                    ArrayKey("texts", kString, 1, Text("a"))}}
          .Bytes();
  const auto file = Parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->Int("int", 8, 9).error().message,
            "w.gguf: int: expected an integer from 8 to 9, got 7");
  EXPECT_EQ(file->Int("text", 0, 9).error().message,
            "w.gguf: text: expected an integer from 0 to 9, got \"seven\"");
  EXPECT_THAT(file->Int("huge").error().message, testing::EndsWith("got 18446744073709551615"));
  EXPECT_THAT(file->Number("nan").error().message, testing::HasSubstr("a finite number, got nan"));
  EXPECT_EQ(file->Bool("int").error().message, "w.gguf: int: expected a boolean, got 7");
  EXPECT_EQ(file->String("texts").error().message,
            "w.gguf: texts: expected a text, got an array of 1 items of type string");
  EXPECT_FALSE(file->Strings("text"));
  EXPECT_FALSE(file->Numbers("texts"));
  EXPECT_FALSE(file->Int("texts"));
  EXPECT_EQ(file->Int("none").error().message, "w.gguf: none: missing from the metadata");
}

TEST(Gguf, RefusesBadFilesWithOneMessage) {
  const std::string good = Tensor("t", {2}, kTensorF32, 0);
  const std::string key = Key("k", kU32, uint32_t{1});
  constexpr uint64_t kHuge = ~uint64_t{0};
  const auto keys = [](std::vector<std::string> list) { return File{.keys = std::move(list)}; };
  const auto tensors = [](std::vector<std::string> list, size_t data_bytes = 64) {
    return File{.tensors = std::move(list), .data_bytes = data_bytes};
  };
  struct BadFile {
    const char* what;
    std::string file;
    const char* message;  ///< a part of it
    ErrorCode code = ErrorCode::kDataCorrupt;
  };
  const BadFile cases[] = {
      {"empty", "", "expected 4 bytes for the word GGUF at offset 0, got 0"},
      {"another format", File{.magic = "GGML"}.Bytes(), "this is no GGUF file"},
      {"version 1", File{.version = 1}.Bytes(), "version 2 or 3, got 1; convert",
       ErrorCode::kUnsupported},
      {"big-endian", File{.version = 3U << 24}.Bytes(), "a big-endian machine",
       ErrorCode::kUnsupported},
      {"huge number of keys", File{.num_keys = kHuge}.Bytes(), "got a count of 184467440737095516"},
      {"huge number of tensors", File{.num_tensors = kHuge}.Bytes(), "at most 0 tensors"},
      {"more keys than there are", File{.keys = {key, key}, .num_keys = 3}.Bytes(),
       "metadata keys"},
      {"a key longer than the file", keys({Raw(kHuge) + std::string(20, 'k')}).Bytes(),
       "expected 18446744073709551615 bytes for a metadata key"},
      {"an empty key", keys({Key("", kU32, uint32_t{1})}).Bytes(), "1 to 65535 printable ASCII"},
      {"a key with a line break", keys({Key("a\nb", kU32, uint32_t{1})}).Bytes(), "printable"},
      {"a key that is not UTF-8", keys({Key("\xff", kU32, uint32_t{1})}).Bytes(), "in UTF-8"},
      {"the same key twice", keys({key, key}).Bytes(), "metadata key k stands twice"},
      {"an unknown value type", keys({Key("k", ValueType(13), uint32_t{1})}).Bytes(),
       "k: expected a value type from 0 to 12, got 13"},
      {"an unknown item type", keys({ArrayKey("k", ValueType(99), 0, "")}).Bytes(), "got 99"},
      {"an array of arrays", keys({ArrayKey("k", kArray, 0, "")}).Bytes(), "(not supported)",
       ErrorCode::kUnsupported},
      {"a huge array", keys({ArrayKey("k", kU32, kHuge, "")}).Bytes(), "at most 0 items of k"},
      {"an array whose bytes overflow", keys({ArrayKey("k", kU64, uint64_t{1} << 61, "")}).Bytes(),
       "items of k"},
      {"a huge array of texts", keys({ArrayKey("k", kString, kHuge, Text("a"))}).Bytes(),
       "items of k"},
      {"a text that is not UTF-8", keys({TextKey("k", "a\xc3")}).Bytes(),
       "k: expected text in UTF"},
      {"an item that is not UTF-8", keys({ArrayKey("k", kString, 1, Text("\xed\xa0\x80"))}).Bytes(),
       "k: expected text in UTF-8"},
      {"a boolean of 2", keys({Key("k", kBool, uint8_t{2})}).Bytes(), "a boolean of 0 or 1"},
      {"an alignment of 0", keys({Key("general.alignment", kU32, uint32_t{0})}).Bytes(),
       "an integer from 1 to"},
      {"an odd alignment", keys({Key("general.alignment", kU32, uint32_t{12})}).Bytes(),
       "a multiple of 8, got 12"},
      {"an alignment that is text", keys({TextKey("general.alignment", "32")}).Bytes(),
       "general.alignment: expected an integer"},
      {"a tensor without name", tensors({Tensor("", {2}, kTensorF32, 0)}).Bytes(), "without"},
      {"a name that is not UTF-8", tensors({Tensor("\x80", {2}, kTensorF32, 0)}).Bytes(),
       "a tensor's name: expected text in UTF-8"},
      {"the same tensor twice", tensors({good, Tensor("t", {2}, kTensorF32, 32)}).Bytes(),
       "tensor t stands twice"},
      {"five dimensions", tensors({Tensor("t", {1, 1, 1, 1, 1}, kTensorF32, 0)}).Bytes(),
       "t: expected at most 4 dimensions, got 5"},
      {"a dimension of 2^63", tensors({Tensor("t", {uint64_t{1} << 63}, kTensorF32, 0)}).Bytes(),
       "under 2^63"},
      {"a size that overflows",
       tensors({Tensor("t", {uint64_t{1} << 40, uint64_t{1} << 40}, kTensorF32, 0)}).Bytes(),
       "t: expected rows of whole F32 blocks"},
      {"half a block", tensors({Tensor("t", {33}, kTensorQ4_0, 0)}).Bytes(),
       "t: expected rows of whole Q4_0 blocks (32 elements)"},
      {"an unknown tensor type", tensors({Tensor("t", {2}, 4, 0)}).Bytes(), "type such as 0 (F32)"},
      {"an unaligned tensor", tensors({Tensor("t", {2}, kTensorF32, 8)}).Bytes(),
       "t: expected an offset that is a multiple of 32, got 8"},
      {"a tensor outside the file", tensors({Tensor("t", {2}, kTensorF32, 64)}).Bytes(),
       "t: expected 8 bytes at offset 64 of the tensors' 64"},
      {"an offset that overflows", tensors({Tensor("t", {2}, kTensorF32, kHuge - 31)}).Bytes(),
       "t: expected 8 bytes at offset"},
      {"the same bytes twice", tensors({good, Tensor("u", {2}, kTensorF32, 0)}).Bytes(),
       "t and u: expected bytes of their own, but they overlap"},
      {"overlap",
       tensors({Tensor("u", {2}, kTensorF32, 32), Tensor("t", {9}, kTensorF32, 0)}).Bytes(),
       "t and u: expected bytes of their own"},
  };
  for (const BadFile& bad : cases) {
    const auto file = Parse(bad.file);
    ASSERT_FALSE(file) << bad.what;
    EXPECT_EQ(file.error().code, bad.code) << bad.what;
    EXPECT_THAT(file.error().message, testing::HasSubstr(bad.message)) << bad.what;
    EXPECT_THAT(file.error().message, testing::StartsWith("w.gguf: ")) << bad.what;
  }
}

TEST(Gguf, EveryCutOfAGoodFileIsRefused) {
  const std::string file =
      File{.keys = {TextKey("k", "v"), ArrayKey("l", kString, 2, Text("a") + Text("b"))},
           .tensors = {Tensor("t", {2, 3}, kTensorF32, 0)},
           .data_bytes = 24}
          .Bytes();
  ASSERT_TRUE(Parse(file));
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(Parse(file.substr(0, size))) << size;
  }
}

}  // namespace
}  // namespace gale
