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
  /// Groups of 4 and of 2 tokens a block.
  InputBatch& Batch() {
    const std::vector<KvGroupLayout> groups = {{.block_tokens = 4}, {.block_tokens = 2}};
    const StepLimits limits{.max_tokens = 16, .max_seqs = 4, .max_model_len = 32};
    const InputBatch measured(arrays_, tables_, limits, groups);
    arrays_ = *StagedBlock::Create(*backend_, arrays_.bytes());
    tables_ = *StagedBlock::Create(*backend_, tables_.bytes());
    batch_ = std::make_unique<InputBatch>(arrays_, tables_, limits, groups);
    return *batch_;
  }
  ForwardBatch Upload(InputBatch& batch) {
    arrays_.Upload(*backend_, *stream_);
    batch.UploadTables(*backend_, *stream_);
    EXPECT_TRUE(stream_->Synchronize());
    return batch.View();
  }

  std::unique_ptr<Backend> backend_ = *CreateBackend("cpu", {.threads = 1});
  std::unique_ptr<Stream> stream_ = backend_->CreateStream();
  StagedBlock arrays_;
  StagedBlock tables_;
  std::unique_ptr<InputBatch> batch_;
};

std::vector<int32_t> Values(const TensorView& view) {
  return {view.As<int32_t>(), view.As<int32_t>() + view.NumElements()};
}

/// The first `count` blocks of a sequence's table.
std::vector<int32_t> Table(const AttentionBatch& attention, int64_t seq, int64_t count) {
  return Values(attention.block_tables.Slice(0, seq, seq + 1).Slice(1, 0, count));
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
  InputBatch& batch = Batch();
  for (int step = 0; step < 2; ++step) {  // a batch is refilled every step
    batch.Clear();
    const RunnerSequence chunk = Sequence(9, 3, {{7, 5, 6}, {1, 2, 3, 4, 8}});
    const RunnerSequence decode = Sequence(5, 4, {{2, 9}, {11, 12, 13}});
    const RunnerSequence prompt = Sequence(2, 0, {{1}, {10}});
    batch.Add(chunk, chunk.num_computed, 3);
    batch.Add(decode, decode.num_computed, 1);
    batch.Add(prompt, prompt.num_computed, 2);
    const ForwardBatch forward = Upload(batch);

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
    EXPECT_EQ(fours.block_tables.dim(1), 32 / 4 + 1);
    EXPECT_THAT(Table(fours, 0, 3), ElementsAre(7, 5, 6));
    EXPECT_THAT(Table(fours, 1, 2), ElementsAre(2, 9));
    EXPECT_THAT(Table(fours, 2, 1), ElementsAre(1));
    const AttentionBatch& twos = forward.attention[1];
    EXPECT_THAT(Values(twos.slot_mapping),
                ElementsAre(2 * 2 + 1, 3 * 2, 3 * 2 + 1, 13 * 2, 10 * 2, 10 * 2 + 1));
    EXPECT_THAT(Table(twos, 0, 5), ElementsAre(1, 2, 3, 4, 8));
  }
}

TEST_F(InputBatchTest, ATokenThatIsStillBeingDrawnIsNamedByItsSlot) {
  InputBatch& batch = Batch();
  RunnerSequence seq = Sequence(5, 5, {{2, 9}, {11, 12, 13}});
  seq.num_unread = 1;
  seq.slot = 3;
  batch.Add(seq, seq.num_computed, 1);
  const ForwardBatch forward = Upload(batch);
  EXPECT_THAT(Values(forward.token_ids), ElementsAre(~3));
  EXPECT_THAT(Values(forward.positions), ElementsAre(5));
}

TEST_F(InputBatchTest, FillingWritesAndSeesNothing) {
  InputBatch& batch = Batch();
  batch.Add(Sequence(5, 4, {{2, 9}, {11, 12, 13}}), 4, 1);
  batch.FillTo(3, 3);
  const ForwardBatch forward = Upload(batch);
  EXPECT_EQ(batch.num_tokens(), 3);
  EXPECT_THAT(Values(forward.token_ids), ElementsAre(504, 0, 0));
  EXPECT_THAT(Values(forward.positions), ElementsAre(4, 0, 0));
  for (const AttentionBatch& attention : forward.attention) {
    EXPECT_THAT(attention.cu_seqlens_q, ElementsAre(0, 1, 3, 3));
    EXPECT_THAT(Values(attention.seq_lens), ElementsAre(5, 0, 0));
    EXPECT_THAT(attention.seq_lens_upper, ElementsAre(5, 0, 0));
    EXPECT_EQ(attention.block_tables.dim(0), 3);
  }
  EXPECT_THAT(Values(forward.attention[0].slot_mapping), ElementsAre(9 * 4, -1, -1));
}

TEST_F(InputBatchTest, AGraphsViewIsThatOfAFilledStep) {
  InputBatch& batch = Batch();
  batch.Add(Sequence(9, 3, {{7, 5, 6}, {1, 2, 3, 4, 8}}), 3, 6);
  batch.FillTo(8, 4);
  const ForwardBatch step = batch.View();
  const ForwardBatch graph = batch.GraphView(8, 4);
  EXPECT_EQ(graph.token_ids.data, step.token_ids.data);
  EXPECT_EQ(graph.token_ids.dim(0), step.token_ids.dim(0));
  EXPECT_THAT(step.attention[1].cu_seqlens_q, ElementsAre(0, 6, 8, 8, 8));
  EXPECT_THAT(graph.attention[1].cu_seqlens_q, ElementsAre(0, 8, 8, 8, 8));
  EXPECT_TRUE(graph.attention[1].fixed_launches);
  EXPECT_EQ(graph.attention[1].seq_lens.data, step.attention[1].seq_lens.data);
  EXPECT_EQ(graph.attention[1].seq_lens.dim(0), 4);
}

}  // namespace
}  // namespace gale
