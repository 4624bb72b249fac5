// What the CPU back end promises beyond the ops themselves (tests/conformance has those).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/registry.h"

namespace gale {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Backend> CreateCpu(int threads) {
  auto backend = CreateBackend("cpu", {.threads = threads});
  EXPECT_TRUE(backend.has_value());
  return *std::move(backend);
}

TEST(CpuBackend, DescribesItself) {
  const DeviceInfo info = CreateCpu(1)->info();
  EXPECT_EQ(info.name, "cpu");
  EXPECT_THAT(info.description, HasSubstr(", 1 thread"));
  EXPECT_TRUE(info.is_host_memory);
  EXPECT_GT(info.free_bytes, 0U);
  EXPECT_GE(info.total_bytes, info.free_bytes);
  EXPECT_THAT(CreateCpu(3)->info().description, HasSubstr(", 3 threads"));
}

TEST(CpuBackend, IsTheOnlyDeviceOfThisBuild) { EXPECT_THAT(BackendNames(), ElementsAre("cpu")); }

TEST(CpuBackend, RefusesImpossibleOptions) {
  const auto negative = CreateBackend("cpu", {.threads = -1});
  ASSERT_FALSE(negative.has_value());
  EXPECT_EQ(negative.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(negative.error().message, HasSubstr("got -1"));
}

TEST(CpuBackend, MemoryIsAlignedAndZeroAndMayBeEmpty) {
  const auto backend = CreateCpu(1);
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{5} << 20}) {
    const auto buffer = backend->Allocate(bytes, MemoryKind::kDevice);
    ASSERT_TRUE(buffer.has_value());
    EXPECT_EQ(buffer->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0U);
    const auto* data = static_cast<const char*>(buffer->data());
    EXPECT_EQ(std::count(data, data + bytes, 0), static_cast<ptrdiff_t>(bytes));
  }
}

TEST(CpuBackend, TooMuchMemoryIsAnError) {
  const auto buffer = CreateCpu(1)->Allocate(size_t{1} << 60, MemoryKind::kDevice);
  ASSERT_FALSE(buffer.has_value());
  EXPECT_EQ(buffer.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(buffer.error().message, HasSubstr("1152921504606846976 bytes of memory wanted"));
}

TEST(CpuBackend, WeightsAreUsedWhereTheyLie) {
  const auto backend = CreateCpu(1);
  std::vector<float> data(6);
  const QuantFormat format{BlockCode::kNone, DType::kF32};
  const LinearKernel* kernel =
      backend->FindLinear({format, 3, 2, DType::kF32, Numerics::kBatchInvariant});
  ASSERT_NE(kernel, nullptr);
  const auto packed = kernel->Prepare({format, 3, 2, TensorView(data.data(), DType::kF32, {2, 3})});
  ASSERT_TRUE(packed.has_value());
  EXPECT_EQ(packed->data.data, data.data());
  EXPECT_EQ(packed->storage.bytes(), 0U);
}

TEST(CpuBackend, HasNoKernelForIntegers) {
  const auto backend = CreateCpu(1);
  EXPECT_EQ(backend->FindLinear({{BlockCode::kNone, DType::kI8}, 16, 16}), nullptr);
  LinearKey key{{BlockCode::kNone, DType::kF32}, 16, 16};
  key.activation = DType::kF16;
  EXPECT_EQ(backend->FindLinear(key), nullptr);
}

TEST(CpuBackendDeathTest, WrongShapesAreProgrammerErrors) {
  const auto backend = CreateCpu(1);
  const auto stream = backend->CreateStream();
  std::vector<float> data(64);
  const TensorView out(data.data(), DType::kF32, {2, 8});
  EXPECT_DEATH(
      backend->GatedActivation(*stream, {TensorView(data.data(), DType::kF32, {2, 8}), out}),
      "f32 \\[2, 8\\] vs f32 \\[2, 16\\]");
  const TensorView tokens(data.data(), DType::kI64, {2});
  EXPECT_DEATH(
      backend->Embedding(*stream, {tokens, TensorView(data.data(), DType::kF32, {4, 8}), out}),
      "i64 vs i32");
}

}  // namespace
}  // namespace gale
