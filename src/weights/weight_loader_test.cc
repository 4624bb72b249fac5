#include "weights/weight_loader.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "tensor/bf16.h"
#include "weights/checkpoint_test_support.h"

namespace gale {
namespace {

class WeightLoaderTest : public testing::Test {
 protected:
  std::unique_ptr<const Checkpoint> Write(const std::vector<TestTensor>& tensors) {
    folder_.Write("model.safetensors", SafetensorsFile(tensors));
    auto checkpoint = Checkpoint::Open(folder_.path());
    EXPECT_TRUE(checkpoint) << checkpoint.error().message;
    return std::move(*checkpoint);
  }

  Status Load(const std::vector<TestTensor>& tensors) {
    return LoadWeights(builder_, Write(tensors), *backend_, [this](uint64_t done, uint64_t total) {
      progress_.emplace_back(done, total);
    });
  }

  std::unique_ptr<Backend> backend_ = std::move(*CreateBackend("cpu", {.threads = 2}));
  TestFolder folder_;
  ParamBuilder builder_{DType::kF32, Numerics::kBatchInvariant};
  TensorView target_;
  TensorView other_;
  std::vector<std::pair<uint64_t, uint64_t>> progress_;
};

ParamSpec Spec(const std::string& name, std::vector<int64_t> shape, DType dtype = DType::kF32) {
  const int64_t rows = shape[0];
  return {{{{name}, rows}}, std::move(shape), dtype};
}

TEST_F(WeightLoaderTest, UsesAMatchingTensorInPlace) {
  builder_.Declare(Spec("a", {2, 1}), &target_);
  builder_.Declare(Spec("b", {1}), &other_);
  ASSERT_TRUE(
      Load({{"b", "F32", {1}, Bytes<float>({3})}, {"a", "F32", {2, 1}, Bytes<float>({1, 2})}}));
  EXPECT_EQ(target_.As<float>()[1], 2);
  EXPECT_EQ(other_.As<float>()[0], 3);
  EXPECT_EQ(target_.data, builder_.store()->checkpoint->Find("a")->data.data());
  EXPECT_EQ(builder_.store()->mapped_bytes, 12U);
  EXPECT_EQ(builder_.store()->private_bytes, 0U);
  EXPECT_EQ(progress_, (std::vector<std::pair<uint64_t, uint64_t>>{{8, 12}, {12, 12}}));
}

TEST_F(WeightLoaderTest, ConvertsOtherFloats) {
  builder_.Declare(Spec("a", {2}), &target_);
  builder_.Declare(Spec("b", {2}, DType::kBf16), &other_);
  ASSERT_TRUE(Load({{"a", "BF16", {2}, Bytes<uint16_t>({ToBf16(1.5F).bits, ToBf16(-2).bits})},
                    {"b", "F32", {2}, Bytes<float>({1, 1 + 0x1p-8F})}}));
  EXPECT_EQ(target_.As<float>()[0], 1.5F);
  EXPECT_EQ(target_.As<float>()[1], -2);
  EXPECT_EQ(other_.As<Bf16>()[1].bits, ToBf16(1).bits);
  EXPECT_EQ(builder_.store()->mapped_bytes, 0U);
  EXPECT_GE(builder_.store()->private_bytes, 12U);
}

TEST_F(WeightLoaderTest, StacksPartsInPlaceOnlyWhenTheyFollowOneAnother) {
  const TestTensor one = {"one", "F32", {1, 2}, Bytes<float>({1, 2})};
  const TestTensor two = {"two", "F32", {2, 2}, Bytes<float>({3, 4, 5, 6})};
  const TestTensor between = {"between", "F32", {1}, Bytes<float>({9})};
  builder_.Ignore("between");
  builder_.Declare({{{{"one"}, 1}, {{"two"}, 2}}, {3, 2}, DType::kF32}, &target_);
  const std::vector<std::vector<TestTensor>> orders = {
      {one, two, between}, {two, one, between}, {one, between, two}};
  for (const auto& tensors : orders) {
    *builder_.store() = {};
    ASSERT_TRUE(Load(tensors));
    const float* values = target_.As<float>();
    EXPECT_EQ(std::vector<float>(values, values + 6), (std::vector<float>{1, 2, 3, 4, 5, 6}));
    const bool in_place = &tensors == &orders[0];
    EXPECT_EQ(builder_.store()->mapped_bytes, in_place ? 24U : 0U);
    EXPECT_EQ(builder_.store()->buffers.empty(), in_place);
  }
}

TEST_F(WeightLoaderTest, AlternativeNames) {
  builder_.Declare({{{{"first", "second"}, 1}}, {1}, DType::kF32}, &target_);
  ASSERT_TRUE(Load({{"second", "F32", {1}, Bytes<float>({2})}}));
  EXPECT_EQ(target_.As<float>()[0], 2);
  *builder_.store() = {};
  ASSERT_TRUE(
      Load({{"first", "F32", {1}, Bytes<float>({1})}, {"second", "F32", {1}, Bytes<float>({2})}}));
  EXPECT_EQ(target_.As<float>()[0], 1);
}

TEST_F(WeightLoaderTest, ReportsEveryFaultAtOnce) {
  builder_.Declare(Spec("missing", {2}), &target_);
  builder_.Declare({{{{"head", "tail"}, 4}}, {4}, DType::kF32}, &target_);
  builder_.Declare(Spec("shape", {2, 3}), &target_);
  builder_.Declare(Spec("rank", {4}), &target_);
  builder_.Declare(Spec("dtype", {1}), &target_);
  builder_.Declare(Spec("exotic", {4}), &target_);
  builder_.Ignore("ignored");
  const Status status = Load({{"shape", "F32", {3, 2}, std::string(24, 'x')},
                              {"rank", "F32", {4, 1}, std::string(16, 'x')},
                              {"dtype", "I32", {1}, std::string(4, 'x')},
                              {"exotic", "F8_E4M3", {4}, std::string(4, 'x')},
                              {"extra", "BF16", {1, 2}, std::string(4, 'x')},
                              {"ignored", "F32", {1}, std::string(4, 'x')}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kDataCorrupt);
  EXPECT_EQ(status.error().message, folder_.path() +
                                        ": 7 tensors do not fit config.json:"
                                        "\n  missing missing: expected f32 [2]"
                                        "\n  missing head or tail: expected f32 [4]"
                                        "\n  shape: expected f32 [2, 3], file has F32 [3, 2]"
                                        "\n  rank: expected f32 [4], file has F32 [4, 1]"
                                        "\n  dtype: expected f32 [1], file has I32 [1]"
                                        "\n  exotic: expected f32 [4], file has F8_E4M3 [4]"
                                        "\n  unexpected extra: BF16 [1, 2]");
  EXPECT_TRUE(progress_.empty());
}

TEST_F(WeightLoaderTest, BoundsTheList) {
  for (int i = 0; i < 100; ++i) builder_.Declare(Spec("p" + std::to_string(i), {2}), &target_);
  const Status status = Load({});
  ASSERT_FALSE(status);
  const std::string& message = status.error().message;
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 21);
  EXPECT_TRUE(message.ends_with("and 80 more"));
}

TEST_F(WeightLoaderTest, RefusesWhatCannotFitBeforeAllocating) {
  builder_.Declare(Spec("huge", {1 << 20, 1 << 20, 64}), &target_);
  const Status status = LoadDummyWeights(builder_, 0, *backend_, {});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
  EXPECT_NE(status.error().message.find("need 262144.00 GiB"), std::string::npos);
}

TEST_F(WeightLoaderTest, DummyPartsDependOnTheirOwnNamesOnly) {
  ParamSpec merged = {{{{"one"}, 1}, {{"two"}, 2}}, {3, 5}, DType::kF32, 0, 1};
  ParamSpec two = {{{{"two"}, 2}}, {2, 5}, DType::kF32, 0, 1};
  builder_.Declare(merged, &target_);
  builder_.Declare(two, &other_);
  ASSERT_TRUE(LoadDummyWeights(builder_, 3, *backend_, {}));
  EXPECT_TRUE(std::equal(other_.As<float>(), other_.As<float>() + 10, target_.As<float>() + 5));
  EXPECT_FALSE(std::equal(target_.As<float>(), target_.As<float>() + 5, other_.As<float>()));
}

}  // namespace
}  // namespace gale
