#include "engine/request_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gale {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;

TEST(Histogram, CountsUpperEndsIn) {
  Histogram histogram({1, 2});
  for (const double value : {0.5, 1.0, 1.5, 2.0, 3.0}) histogram.Observe(value);
  EXPECT_THAT(histogram.counts, ElementsAre(2, 2, 1));
  EXPECT_EQ(histogram.total(), 5);
  EXPECT_THAT(histogram.sum, DoubleEq(8));
}

TEST(TokenBounds, EndWithTheMost) {
  EXPECT_THAT(TokenBounds(1), ElementsAre(1));
  EXPECT_THAT(TokenBounds(10), ElementsAre(1, 2, 5, 10));
  EXPECT_THAT(TokenBounds(64), ElementsAre(1, 2, 5, 10, 20, 50, 64));
}

TEST(RequestMetrics, SplitsARequestsTime) {
  RequestMetrics metrics(100);
  Request request;
  request.prompt.assign(7, 1);
  metrics.FirstToken(3);
  metrics.NextTokens(std::vector{0.5});
  metrics.End(request, FinishReason::kStop, {.queued_s = 1, .first_token_s = 3, .total_s = 8},
              /*generated_tokens=*/11);
  const EngineMetrics seen = metrics.Snapshot();
  EXPECT_EQ(seen.time_to_first_token.sum, 3);
  EXPECT_EQ(seen.inter_token_latency.sum, 0.5);
  EXPECT_EQ(seen.queue_time.sum, 1);
  EXPECT_EQ(seen.prefill_time.sum, 2);
  EXPECT_EQ(seen.decode_time.sum, 5);
  EXPECT_EQ(seen.inference_time.sum, 7);
  EXPECT_EQ(seen.e2e_latency.sum, 8);
  EXPECT_EQ(seen.time_per_output_token.sum, 0.5);
  EXPECT_EQ(seen.prompt_tokens.sum, 7);
  EXPECT_EQ(seen.finished[static_cast<size_t>(FinishReason::kStop)], 1);
}

TEST(RequestMetrics, WhatNeverRanHasNoTimesOfRunning) {
  RequestMetrics metrics(100);
  metrics.End(Request(), FinishReason::kCancelled,
              {.queued_s = 0, .first_token_s = 0, .total_s = 2}, 0);
  const EngineMetrics seen = metrics.Snapshot();
  EXPECT_EQ(seen.e2e_latency.total(), 1);
  EXPECT_EQ(seen.queue_time.total(), 0);
  EXPECT_EQ(seen.time_per_output_token.total(), 0);
}

}  // namespace
}  // namespace gale
