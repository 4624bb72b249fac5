#include "models/load_model.h"

#include <cstring>

#include <gtest/gtest.h>

#include "backend/registry.h"

namespace gale {
namespace {

const std::string kModels = std::string(GALE_SOURCE_DIR) + "/tests/data/models/";

class LoadModelTest : public testing::Test {
 protected:
  Result<LoadedModel> Load(const std::string& model, LoadFormat format = LoadFormat::kAuto,
                           ModelDType dtype = ModelDType::kAuto) {
    return LoadModel(
        {.model = model, .format = format, .dtype = dtype, .seed = 5}, *backend_,
        [this](uint64_t done, uint64_t total) { progress_.emplace_back(done, total); });
  }

  /// Logits of one token's embedding, which tell one set of weights from another.
  std::vector<float> Fingerprint(Model& model) {
    const auto stream = backend_->CreateStream();
    ForwardContext context = {backend_.get(), stream.get(), {}, nullptr};
    const int32_t token = 3;
    ForwardBatch batch;
    batch.token_ids = TensorView(const_cast<int32_t*>(&token), DType::kI32, {1});
    std::vector<float> hidden(model.hidden_size());  // room for either dtype
    const TensorView rows(hidden.data(), model.dtype(), {1, model.hidden_size()});
    std::vector<float> logits(model.vocab_size());
    model.Embed(context, batch, rows);
    model.ComputeLogits(context, rows,
                        TensorView(logits.data(), DType::kF32, {1, model.vocab_size()}));
    return logits;
  }

  std::unique_ptr<Backend> backend_ = std::move(*CreateBackend("cpu", {.threads = 2}));
  std::vector<std::pair<uint64_t, uint64_t>> progress_;
};

TEST_F(LoadModelTest, TakesTheCheckpointsDType) {
  EXPECT_EQ(Load(kModels + "llama_gqa5")->model->dtype(), DType::kBf16);
  EXPECT_EQ(Load(kModels + "llama_bias")->model->dtype(), DType::kF32);
  EXPECT_EQ(Load(kModels + "qwen3_tied")->model->dtype(), DType::kF32);  // f16 is exact in f32 only
  EXPECT_EQ(Load(kModels + "llama_gqa5", LoadFormat::kAuto, ModelDType::kF32)->model->dtype(),
            DType::kF32);
}

TEST_F(LoadModelTest, ReportsProgressToTheLastByte) {
  const auto loaded = Load(kModels + "llama_gqa5");
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_FALSE(progress_.empty());
  for (size_t i = 1; i < progress_.size(); ++i)
    EXPECT_GE(progress_[i].first, progress_[i - 1].first);
  EXPECT_EQ(progress_.back().first, progress_.back().second);
}

TEST_F(LoadModelTest, HoldsNoWeightTwice) {
  // In f32 as in the file: only the merged weights, qkv and gate-up, and their biases are copied.
  const auto loaded = Load(kModels + "llama_bias");
  ASSERT_TRUE(loaded) << loaded.error().message;
  const size_t file_bytes = progress_.back().second;
  const size_t merged_bytes = 3 * (3 * 4 * 12 + 2 * 60) * (48 + 1) * 4;
  EXPECT_EQ(loaded->model->mapped_bytes(), file_bytes - merged_bytes);
  EXPECT_GE(loaded->model->private_bytes(), merged_bytes);
  EXPECT_LT(loaded->model->private_bytes(), merged_bytes + 1024);
}

TEST_F(LoadModelTest, HoldsATiedTableOnceWhenConverted) {
  const auto loaded = Load(kModels + "qwen3_tied");  // f16 to f32: nothing can stay in the file
  ASSERT_TRUE(loaded) << loaded.error().message;
  const size_t weight_bytes = progress_.back().second;
  EXPECT_EQ(loaded->model->mapped_bytes(), 0U);
  EXPECT_GE(loaded->model->private_bytes(), weight_bytes);
  // Small parameters are rounded up by the allocator; the table alone would be 28928 bytes more.
  EXPECT_LT(loaded->model->private_bytes(), weight_bytes + 4096);
}

TEST_F(LoadModelTest, FallsBackToConfigsEndTokens) {
  EXPECT_EQ(Load(kModels + "llama_gqa5")->generation.eos_token_ids, (std::vector<TokenId>{2, 3}));
  const auto dummy = Load(kModels + "llama_gqa5/config.json", LoadFormat::kDummy);
  ASSERT_TRUE(dummy) << dummy.error().message;
  EXPECT_EQ(dummy->generation.eos_token_ids, (std::vector<TokenId>{2, 3}));
}

TEST_F(LoadModelTest, DummyWeightsAreRepeatable) {
  for (const char* name : {"llama_bias", "qwen2_gqa3", "qwen3_gqa5"}) {
    const auto first = Load(kModels + name, LoadFormat::kDummy);
    const auto second = Load(kModels + name, LoadFormat::kDummy);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(Fingerprint(*first->model), Fingerprint(*second->model));
    EXPECT_EQ(first->model->mapped_bytes(), 0U);
    const auto other =
        LoadModel({.model = kModels + name, .format = LoadFormat::kDummy, .seed = 6}, *backend_);
    EXPECT_NE(Fingerprint(*first->model), Fingerprint(*other->model));
  }
}

TEST_F(LoadModelTest, ExplainsWhatItCannotLoad) {
  const auto unknown = Load("no-such-model");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kNotFound);
  const auto preset = Load("qwen3-0.6b");
  ASSERT_FALSE(preset);
  EXPECT_NE(preset.error().message.find("load format dummy"), std::string::npos);
}

}  // namespace
}  // namespace gale
