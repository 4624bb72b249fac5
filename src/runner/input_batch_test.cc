#include "runner/input_batch.h"

#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/registry.h"

namespace gale {
namespace {

using ::testing::ElementsAre;

class InputBatchTest : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> backend_ = *CreateBackend("cpu", {.threads = 1});
  std::unique_ptr<Stream> stream_ = backend_->CreateStream();
};

std::vector<int32_t> Values(const TensorView& view) {
  return {view.As<int32_t>(), view.As<int32_t>() + view.NumElements()};
}

RunnerSequence Sequence(int num_tokens, int num_computed, std::vector<BlockList> blocks) {
  RunnerSequence seq;
  seq.tokens.resize(static_cast<size_t>(num_tokens));
  std::iota(seq.tokens.begin(), seq.tokens.end(), 100 * num_tokens);
  seq.num_computed = num_computed;
  seq.blocks = std::move(blocks);
  return seq;
}

TEST_F(InputBatchTest, FlatArraysOfAChunkADecodeAndAPrompt) {
  const std::vector<int> block_tokens = {4, 2};
  InputBatch batch = *InputBatch::Create(
      *backend_, {.max_tokens = 16, .max_seqs = 4, .max_model_len = 32}, block_tokens);
  for (int step = 0; step < 2; ++step) {  // a batch is refilled every step
    batch.Clear();
    const RunnerSequence chunk = Sequence(9, 3, {{7, 5, 6}, {1, 2, 3, 4, 8}});
    const RunnerSequence decode = Sequence(5, 4, {{2, 9}, {11, 12, 13}});
    const RunnerSequence prompt = Sequence(2, 0, {{1}, {10}});
    batch.Add(chunk, 3);
    batch.Add(decode, 1);
    batch.Add(prompt, 2);
    const ForwardBatch forward = batch.Upload(*backend_, *stream_);
    ASSERT_TRUE(stream_->Synchronize());

    EXPECT_EQ(batch.num_tokens(), 6);
    EXPECT_EQ(batch.num_seqs(), 3);
    EXPECT_THAT(Values(forward.token_ids), ElementsAre(903, 904, 905, 504, 200, 201));
    EXPECT_THAT(Values(forward.positions), ElementsAre(3, 4, 5, 4, 0, 1));
    ASSERT_EQ(forward.attention.size(), 2);
    for (const AttentionBatch& attention : forward.attention) {
      EXPECT_THAT(attention.cu_seqlens_q, ElementsAre(0, 3, 4, 6));
      EXPECT_THAT(Values(attention.seq_lens), ElementsAre(6, 5, 2));
      EXPECT_THAT(attention.seq_lens_upper, ElementsAre(6, 5, 2));
    }
    const AttentionBatch& fours = forward.attention[0];
    EXPECT_THAT(Values(fours.slot_mapping), ElementsAre(7 * 4 + 3, 5 * 4, 5 * 4 + 1, 9 * 4, 4, 5));
    EXPECT_EQ(fours.block_tables.dim(0), 3);
    EXPECT_EQ(fours.block_tables.dim(1), 3);
    EXPECT_THAT(Values(fours.block_tables), ElementsAre(7, 5, 6, 2, 9, 0, 1, 0, 0));
    const AttentionBatch& twos = forward.attention[1];
    EXPECT_THAT(Values(twos.slot_mapping),
                ElementsAre(2 * 2 + 1, 3 * 2, 3 * 2 + 1, 13 * 2, 10 * 2, 10 * 2 + 1));
    EXPECT_EQ(twos.block_tables.dim(1), 5);
  }
}

}  // namespace
}  // namespace gale
