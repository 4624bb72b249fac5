// Draft heads against PyTorch's answers of tests/data/heads (tools/goldens/draft_head_goldens.py),
// and what is said about heads that do not fit.
#include "models/draft_head.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "models/medusa_heads.h"
#include "support/device_flag.h"
#include "support/golden.h"
#include "support/model_harness.h"

namespace gale {
namespace {

using testing::HasSubstr;

namespace fs = std::filesystem;

/// As golden_test.cc's: both sides differ by the order of their sums only.
constexpr double kF32Tolerance = 1e-4;
constexpr int64_t kPositions = 11;
constexpr int64_t kGuesses = 3;  ///< rows that begin with the head's own output

std::string HeadFolder(const std::string& name) {
  return std::string(GALE_SOURCE_DIR) + "/tests/data/heads/" + name;
}

/// Memory of one device, allocated as it is asked for.
class DeviceMemory {
 public:
  explicit DeviceMemory(Backend& backend) : backend_(backend), stream_(backend.CreateStream()) {}

  void* Take(size_t bytes) {
    auto buffer = backend_.Allocate(std::max<size_t>(bytes, 1), MemoryKind::kDevice);
    GALE_CHECK(buffer.has_value());
    return buffers_.emplace_back(std::move(*buffer)).data();
  }
  template <class T>
  TensorView Upload(const std::vector<T>& values, DType dtype,
                    std::initializer_list<int64_t> dims) {
    void* data = Take(values.size() * sizeof(T));
    backend_.Copy(*stream_, data, values.data(), values.size() * sizeof(T));
    return TensorView(data, dtype, dims);
  }
  std::vector<float> Download(const TensorView& view) {
    std::vector<float> values(static_cast<size_t>(view.NumElements()));
    backend_.Copy(*stream_, values.data(), view.data, view.Bytes());
    GALE_CHECK(stream_->Synchronize().has_value());
    return values;
  }
  ScratchArena Scratch(size_t bytes) {
    auto buffer = backend_.Allocate(std::max<size_t>(bytes, 64), MemoryKind::kDevice);
    GALE_CHECK(buffer.has_value());
    return ScratchArena(std::move(*buffer));
  }
  Stream& stream() { return *stream_; }

 private:
  Backend& backend_;
  std::unique_ptr<Stream> stream_;
  std::vector<Buffer> buffers_;
};

/// One sequence through a head.
class HeadRun {
 public:
  HeadRun(Backend& backend, const DraftHead& head)
      : backend_(backend), head_(head), memory_(backend) {
    const AttentionSpec spec = head.attention_groups()[0].spec;
    attention_ = backend.CreateAttention(spec);
    block_tokens_ = attention_->BlockTokens()[0];
    const auto bytes = static_cast<int64_t>(attention_->BytesPerBlock(block_tokens_));
    // What a block held before must not matter.
    const std::vector<uint8_t> garbage(static_cast<size_t>(kBlocks * bytes), 0xFF);
    attention_->BindCache({memory_.Upload(garbage, DType::kU8, {kBlocks, bytes}), block_tokens_});
    scratch_ = memory_.Scratch(head.ScratchBytes(64));
  }

  /// Rows from position `begin` on; hidden [n, hidden] in and out, embedded [n, hidden] becomes
  /// what logits are made from.
  void Forward(int64_t begin, const TensorView& embedded, const TensorView& hidden) {
    const int64_t n = hidden.dim(0);
    std::vector<int32_t> positions;
    for (int64_t i = begin; i < begin + n; ++i) positions.push_back(static_cast<int32_t>(i));
    const std::vector<int32_t> cu_seqlens = {0, static_cast<int32_t>(n)};
    const std::vector<int32_t> seq_lens = {static_cast<int32_t>(begin + n)};
    const std::vector<int32_t> table = {0, 1, 2, 3};
    std::vector<std::byte> plan(attention_->PlanBytes(static_cast<int>(n), 1));

    ForwardBatch batch;
    batch.positions = memory_.Upload(positions, DType::kI32, {n});
    AttentionBatch& attention = batch.attention.emplace_back();
    attention.cu_seqlens_q = cu_seqlens;
    attention.seq_lens_upper = seq_lens;
    attention.seq_lens = memory_.Upload(seq_lens, DType::kI32, {1});
    attention.block_tables = memory_.Upload(table, DType::kI32, {1, kBlocks});
    attention.slot_mapping = batch.positions;  // block i is the i-th
    attention.host_plan = plan;
    attention.device_plan = memory_.Take(plan.size());
    attention_->Plan(attention);
    backend_.Copy(memory_.stream(), attention.device_plan, plan.data(), plan.size());
    ForwardContext context = Context();
    head_.Forward(context, batch, embedded, hidden);
    GALE_CHECK(memory_.stream().Synchronize().has_value());
  }

  std::vector<float> Logits(const TensorView& rows) {
    if (head_.vocab_size() == 0) return memory_.Download(rows);
    const int64_t vocab = head_.vocab_size();
    const TensorView logits(memory_.Take(static_cast<size_t>(rows.dim(0) * vocab) * sizeof(float)),
                            DType::kF32, {rows.dim(0), vocab});
    ForwardContext context = Context();
    head_.ComputeLogits(context, rows, logits);
    return memory_.Download(logits);
  }

  /// All rows of a golden: the text in chunks of so many states, then what is guessed on.
  std::vector<float> All(const std::string& folder, int64_t chunk) {
    const int64_t width = head_.hidden_size();
    const std::vector<float> states = ReadGoldenFloats(folder, "states");
    const auto state_width = std::ssize(states) / kPositions;
    const TensorView all_states = memory_.Upload(states, DType::kF32, {kPositions, state_width});
    const TensorView embedded = memory_.Upload(ReadGoldenFloats(folder, "embedded"), DType::kF32,
                                               {kPositions + kGuesses, width});
    std::vector<float> logits;
    const auto add = [&](const TensorView& rows) {
      const std::vector<float> more = Logits(rows);
      logits.insert(logits.end(), more.begin(), more.end());
    };
    TensorView last;
    for (int64_t begin = 0; begin < kPositions; begin += chunk) {
      const int64_t end = std::min(begin + chunk, kPositions);
      const TensorView hidden(
          memory_.Take(static_cast<size_t>((end - begin) * width) * sizeof(float)), DType::kF32,
          {end - begin, width});
      ForwardContext context = Context();
      head_.Enter(context, all_states.Rows(begin, end), hidden);
      Forward(begin, embedded.Rows(begin, end), hidden);
      add(embedded.Rows(begin, end));
      last = hidden.Rows(end - begin - 1, end - begin);
    }
    for (int64_t row = kPositions; row < kPositions + kGuesses; ++row) {
      Forward(row, embedded.Rows(row, row + 1), last);
      add(embedded.Rows(row, row + 1));
    }
    return logits;
  }

 private:
  static constexpr int64_t kBlocks = 4;

  ForwardContext Context() {
    scratch_.Reset();
    return {&backend_, &memory_.stream(), {attention_.get()}, &scratch_};
  }

  Backend& backend_;
  const DraftHead& head_;
  DeviceMemory memory_;
  std::unique_ptr<AttentionBackend> attention_;
  int block_tokens_ = 0;
  ScratchArena scratch_;
};

class DraftHeadTest : public testing::Test {
 protected:
  std::unique_ptr<Backend> backend_ = CreateTestBackend();
};

TEST_F(DraftHeadTest, Eagle3EqualsPyTorchHoweverTheTextIsCut) {
  const auto head = LoadEagle3({HeadFolder("eagle3"), GoldenFolder("qwen3_gqa5")}, *backend_);
  ASSERT_TRUE(head) << head.error().message;
  const std::vector<float> logits = ReadGoldenFloats(HeadFolder("eagle3"), "logits");
  for (const int64_t chunk : {11, 4, 1}) {
    EXPECT_LE(RelativeError(HeadRun(*backend_, **head).All(HeadFolder("eagle3"), chunk), logits),
              kF32Tolerance)
        << chunk;
  }
}

TEST_F(DraftHeadTest, TheMtpLayerEqualsTransformersHoweverTheTextIsCut) {
  const auto head = LoadMtpLayer({HeadFolder("mtp"), HeadFolder("mtp")}, *backend_);
  ASSERT_TRUE(head) << head.error().message;
  const std::vector<float> rows = ReadGoldenFloats(HeadFolder("mtp"), "logits");
  for (const int64_t chunk : {11, 4, 1}) {
    EXPECT_LE(RelativeError(HeadRun(*backend_, **head).All(HeadFolder("mtp"), chunk), rows),
              kF32Tolerance)
        << chunk;
  }
}

TEST_F(DraftHeadTest, MedusaHeadsEqualPyTorch) {
  const auto heads =
      MedusaHeads::Load({HeadFolder("medusa"), GoldenFolder("qwen3_gqa5")}, *backend_);
  ASSERT_TRUE(heads) << heads.error().message;
  ASSERT_EQ((*heads)->num_heads(), 2);
  DeviceMemory memory(*backend_);
  ScratchArena scratch = memory.Scratch((*heads)->ScratchBytes(kPositions));
  ForwardContext context = {backend_.get(), &memory.stream(), {}, &scratch};
  const int64_t vocab = (*heads)->vocab_size();
  const TensorView states = memory.Upload(ReadGoldenFloats(HeadFolder("medusa"), "states"),
                                          DType::kF32, {kPositions, (*heads)->hidden_size()});
  const TensorView logits(memory.Take(static_cast<size_t>(2 * kPositions * vocab) * sizeof(float)),
                          DType::kF32, {2 * kPositions, vocab});
  for (int head = 0; head < 2; ++head) {
    (*heads)->Forward(context, head, states,
                      logits.Rows(head * kPositions, (head + 1) * kPositions));
  }
  EXPECT_LE(
      RelativeError(memory.Download(logits), ReadGoldenFloats(HeadFolder("medusa"), "logits")),
      kF32Tolerance);
}

/// The states that an EAGLE-3 head is given are those that transformers calls hidden_states.
TEST_F(DraftHeadTest, CapturedLayersEqualTransformers) {
  HarnessOptions options;
  options.load.model = GoldenFolder("qwen3_gqa5");
  options.load.dtype = ModelDType::kF32;
  options.captured_layers = {0, 1};
  const auto harness = ModelHarness::Load(*backend_, options);
  ASSERT_TRUE(harness) << harness.error().message;
  const std::vector<int64_t> ids = ReadGoldenIds(HeadFolder("eagle3"), "ids");
  (*harness)->Step({{0, {ids.begin(), ids.begin() + kPositions}}});
  const std::vector<float>& captured = (*harness)->captured();  // [layers][positions][hidden]
  const auto hidden = std::ssize(captured) / (2 * kPositions);
  std::vector<float> side_by_side;
  for (int64_t position = 0; position < kPositions; ++position) {
    for (int64_t layer = 0; layer < 2; ++layer) {
      const auto begin = captured.begin() + (layer * kPositions + position) * hidden;
      side_by_side.insert(side_by_side.end(), begin, begin + hidden);
    }
  }
  EXPECT_LE(RelativeError(side_by_side, ReadGoldenFloats(HeadFolder("eagle3"), "states")),
            kF32Tolerance);
}

/// A copy of a head with one text of its config.json replaced.
std::string EditedHead(const std::string& name, const std::string& from, const std::string& to) {
  const fs::path folder = fs::path(testing::TempDir()) / ("edited_" + name);
  fs::remove_all(folder);
  fs::copy(HeadFolder(name), folder);
  std::ifstream in(folder / "config.json");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  in.close();
  GALE_CHECK(text.find(from) != std::string::npos);
  text.replace(text.find(from), from.size(), to);
  std::ofstream(folder / "config.json") << text;
  return folder;
}

TEST_F(DraftHeadTest, WhatDoesNotFitIsNamed) {
  const auto eagle = [&](const std::string& folder, const char* target) {
    const auto head = LoadEagle3({folder, GoldenFolder(target)}, *backend_);
    return head ? std::string("loaded") : head.error().message;
  };
  EXPECT_THAT(eagle(HeadFolder("eagle3"), "qwen3_tied"),
              HasSubstr("of another model: hidden_size is 40, that of the target 64"));
  EXPECT_THAT(eagle(GoldenFolder("llama_gqa5"), "llama_gqa5"), HasSubstr("has draft_vocab_size"));
  EXPECT_THAT(eagle(EditedHead("eagle3", "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2"),
                    "qwen3_gqa5"),
              HasSubstr("an EAGLE-3 head has one layer"));
  EXPECT_THAT(eagle(EditedHead("eagle3", "\"draft_vocab_size\": 24", "\"draft_vocab_size\": 23"),
                    "qwen3_gqa5"),
              HasSubstr("d2t: expected i64 [23], file has I64 [24]"));
  EXPECT_THAT(eagle(EditedHead("eagle3", "  2\n", "  3\n"), "qwen3_gqa5"),
              HasSubstr("eagle_aux_hidden_state_layer_ids"));
  const auto medusa =
      MedusaHeads::Load({EditedHead("medusa", "\"vocab_size\": 131", "\"vocab_size\": 132"),
                         GoldenFolder("qwen3_gqa5")},
                        *backend_);
  ASSERT_FALSE(medusa);
  EXPECT_THAT(medusa.error().message, HasSubstr("vocab_size is 132, that of the target 131"));
  const auto mtp =
      LoadMtpLayer({GoldenFolder("qwen3_gqa5"), GoldenFolder("qwen3_gqa5")}, *backend_);
  ASSERT_FALSE(mtp);
  EXPECT_THAT(mtp.error().message, HasSubstr("no layer for multi-token prediction"));
}

}  // namespace
}  // namespace gale
