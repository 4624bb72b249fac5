#include "weights/weight_upload.h"

#include <cstring>
#include <deque>

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "tensor/bf16.h"

namespace gale {
namespace {

class WeightUploadTest : public testing::Test {
 protected:
  template <class T>
  static std::span<const std::byte> BytesOf(const std::vector<T>& values) {
    return std::as_bytes(std::span(values));
  }
  std::unique_ptr<Backend> backend_ = std::move(*CreateBackend("cpu", {.threads = 1}));
};

/// Pieces of 4 MiB, the last one shorter, over several threads.
TEST_F(WeightUploadTest, CopiesWhatIsLongerThanAPiece) {
  std::vector<uint32_t> source((size_t{9} << 20) / sizeof(uint32_t) + 3);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint32_t>(i * 2654435761U);
  for (const int threads : {1, 3}) {
    std::vector<uint32_t> target(source.size());
    WeightUploader uploader(*backend_, threads);
    WeightUploader::Ticket ticket;
    uploader.Push({.source = BytesOf(source),
                   .dtype = DType::kF32,
                   .target = TensorView(target.data(), DType::kF32, {std::ssize(target)})},
                  ticket);
    ASSERT_TRUE(uploader.Wait(ticket));
    EXPECT_EQ(target, source);
  }
}

TEST_F(WeightUploadTest, ConvertsOnTheWay) {
  std::vector<float> source(3 << 20);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<float>(i % 251);
  std::vector<Bf16> target(source.size());
  WeightUploader uploader(*backend_, 2);
  WeightUploader::Ticket ticket;
  uploader.Push({.source = BytesOf(source),
                 .dtype = DType::kF32,
                 .target = TensorView(target.data(), DType::kBf16, {std::ssize(target)})},
                ticket);
  ASSERT_TRUE(uploader.Wait(ticket));
  for (size_t i = 0; i < source.size(); ++i) ASSERT_EQ(ToFloat(target[i]), source[i]) << i;
}

TEST_F(WeightUploadTest, TicketsAreDoneOneByOne) {
  constexpr size_t kTickets = 200;
  std::vector<std::vector<uint8_t>> sources;
  for (size_t i = 0; i < kTickets; ++i) sources.emplace_back(i % 7 * 1000, static_cast<uint8_t>(i));
  std::vector<std::vector<uint8_t>> targets(kTickets);
  std::deque<WeightUploader::Ticket> tickets(kTickets);
  WeightUploader uploader(*backend_, 3);
  for (size_t i = 0; i < kTickets; ++i) {
    targets[i].resize(sources[i].size());
    uploader.Push({.source = BytesOf(sources[i]),
                   .target = TensorView(targets[i].data(), DType::kU8, {std::ssize(targets[i])})},
                  tickets[i]);
  }
  for (size_t i = 0; i < kTickets; ++i) {
    ASSERT_TRUE(uploader.Wait(tickets[i]));
    EXPECT_EQ(targets[i], sources[i]);
  }
}

}  // namespace
}  // namespace gale
