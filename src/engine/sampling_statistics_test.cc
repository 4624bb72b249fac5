// Draws through the whole request path against the exact distribution, by Pearson's chi-square.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/rng.h"
#include "engine/engine_parts.h"
#include "support/chi_square.h"

namespace gale {
namespace {

constexpr int kVocab = 113;
constexpr int kSamplesPerRequest = 1000;
constexpr double kMinP = 1e-4;
const std::vector<TokenId> kPrompt = {5, 17, 99, 3, 42};

EngineConfig Config() {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/tests/data/models/qwen3_tied";
  config.device = "cpu";
  config.dtype = ModelDType::kF32;
  config.max_model_len = 32;
  config.max_num_seqs = 256;
  config.threads = 1;  // the steps are too small to share
  return config;
}

/// Hands on a sampler's tokens, but in `share` of the draws `token` instead: a broken sampler.
class BiasedExecutor : public Executor {
 public:
  BiasedExecutor(std::unique_ptr<Executor> inner, double share, TokenId token)
      : inner_(std::move(inner)), share_(share), token_(token) {}

  StepHandle Launch(const SchedulerOutput& plan) override { return inner_->Launch(plan); }
  void Sample(StepHandle handle, const SamplingInputs& inputs) override {
    inner_->Sample(handle, inputs);
  }
  Result<ModelRunnerOutput> Collect(StepHandle handle) override {
    Result<ModelRunnerOutput> output = inner_->Collect(handle);
    for (SeqOutput& seq : output->seqs) {
      for (TokenId& token : seq.tokens) {
        if (UniformDouble(1, num_draws_++, 0) < share_) token = token_;
      }
    }
    return output;
  }

 private:
  std::unique_ptr<Executor> inner_;
  double share_;
  TokenId token_;
  uint64_t num_draws_ = 0;
};

/// The model's distribution after the prompt: each token's log-probability as a prompt token.
std::vector<double> ExactLogprobs(LlmEngine& engine) {
  std::vector<RequestParams> requests;
  for (TokenId token = 0; token < kVocab; ++token) {
    std::vector<TokenId> prompt = kPrompt;
    prompt.push_back(token);
    RequestParams& request = requests.emplace_back();
    request.prompt = std::move(prompt);
    request.sampling.max_tokens = 0;
    request.sampling.prompt_logprobs = 0;
  }
  std::vector<double> logprobs;
  for (const RequestOutput& output : engine.Generate(std::move(requests))) {
    logprobs.push_back(output.prompt_logprobs.back().chosen.logprob);
  }
  return logprobs;
}

void Normalize(std::vector<double>& p) {
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
}

/// The filters as SamplingParams defines them: temperature, top-k, top-p, min-p.
std::vector<double> Filtered(const std::vector<double>& logprobs, const SamplingParams& sampling) {
  std::vector<double> p;
  for (const double logprob : logprobs) p.push_back(std::exp(logprob / sampling.temperature));
  Normalize(p);
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return p[a] > p[b]; });
  if (sampling.top_k > 0) {
    for (size_t i = static_cast<size_t>(sampling.top_k); i < order.size(); ++i) p[order[i]] = 0;
    Normalize(p);
  }
  double mass = 0;
  for (const size_t token : order) {
    if (mass >= sampling.top_p) p[token] = 0;
    mass += p[token];
  }
  Normalize(p);
  const double floor = sampling.min_p * *std::ranges::max_element(p);
  for (double& x : p) x = x < floor ? 0 : x;
  Normalize(p);
  return p;
}

std::vector<int64_t> Draw(LlmEngine& engine, SamplingParams sampling, int num_draws) {
  sampling.max_tokens = 1;
  sampling.n = kSamplesPerRequest;
  std::vector<RequestParams> requests;
  for (int i = 0; i < num_draws / kSamplesPerRequest; ++i) {
    RequestParams& request = requests.emplace_back();
    request.prompt = kPrompt;
    request.sampling = sampling;
    request.sampling.seed = static_cast<uint64_t>(1000 + i);
  }
  std::vector<int64_t> counts(kVocab);
  for (const RequestOutput& output : engine.Generate(std::move(requests))) {
    for (const SampleOutput& sample : output.samples) {
      ++counts[static_cast<size_t>(sample.tokens.at(0))];
    }
  }
  return counts;
}

SamplingParams Sampling(float temperature, int top_k, float top_p, float min_p) {
  SamplingParams sampling;
  sampling.temperature = temperature;
  sampling.top_k = top_k;
  sampling.top_p = top_p;
  sampling.min_p = min_p;
  return sampling;
}

TEST(SamplingStatisticsTest, DrawsFollowTheExactDistribution) {
  auto engine = LlmEngine::Create(Config());
  ASSERT_TRUE(engine) << engine.error().message;
  const std::vector<double> logprobs = ExactLogprobs(**engine);
  for (const SamplingParams& sampling :
       {Sampling(1, 0, 1, 0), Sampling(0.7F, 0, 1, 0), Sampling(1.5F, 12, 1, 0),
        Sampling(1, 0, 0.8F, 0), Sampling(1, 0, 1, 0.1F), Sampling(1.2F, 30, 0.9F, 0.05F)}) {
    const std::vector<double> p = Filtered(logprobs, sampling);
    const double p_value = test::ChiSquareP(Draw(**engine, sampling, 3000), p);
    EXPECT_GT(p_value, kMinP) << fmt::format("temperature {}, top_k {}, top_p {}, min_p {}",
                                             sampling.temperature, sampling.top_k, sampling.top_p,
                                             sampling.min_p);
  }
}

TEST(SamplingStatisticsTest, SamplerBiasedByThreePercentIsFoundOut) {
  const auto healthy = LlmEngine::Create(Config());
  ASSERT_TRUE(healthy) << healthy.error().message;
  const SamplingParams sampling = Sampling(4, 0, 1, 0);  // nearly flat, so that 3% stands out
  const std::vector<double> p = Filtered(ExactLogprobs(**healthy), sampling);
  // The likeliest token hides the bias best: its own counts vary the most.
  const auto likeliest = static_cast<TokenId>(std::ranges::max_element(p) - p.begin());
  Result<EngineParts> parts = LoadEngineParts(Config(), {});
  ASSERT_TRUE(parts) << parts.error().message;
  parts->executor = std::make_unique<BiasedExecutor>(std::move(parts->executor), 0.03, likeliest);
  const auto biased = StartEngine(*std::move(parts));
  EXPECT_LT(test::ChiSquareP(Draw(*biased, sampling, 8000), p), kMinP);
  EXPECT_GT(test::ChiSquareP(Draw(**healthy, sampling, 8000), p), kMinP);
}

TEST(SamplingStatisticsTest, ZeroTemperatureTakesTheLikeliest) {
  const auto engine = LlmEngine::Create(Config());
  ASSERT_TRUE(engine) << engine.error().message;
  const std::vector<double> logprobs = ExactLogprobs(**engine);
  const auto likeliest = std::ranges::max_element(logprobs) - logprobs.begin();
  const std::vector<int64_t> counts = Draw(**engine, Sampling(0, 0, 1, 0), kSamplesPerRequest);
  EXPECT_EQ(counts[static_cast<size_t>(likeliest)], kSamplesPerRequest);
}

}  // namespace
}  // namespace gale
