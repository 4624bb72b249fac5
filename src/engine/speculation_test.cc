// Speculation alters no token and no log-probability, whatever guesses and whatever the schedule,
// with every kind of request; on the CPU or on --device=NAME.
#include "support/engine_equality.h"

namespace gale {
namespace {

struct Guesses {
  std::string name;
  Tested tested;
  SpeculativeConfig speculative;
};

std::string FolderOf(const Tested& tested) { return GALE_SOURCE_DIR "/tests/data/" + tested.model; }

/// Of a draft model the target itself, which is always right, and one with nothing in common.
std::vector<Guesses> AllGuesses() {
  const auto draft = [](const Tested& model, int max_tokens) {
    return SpeculativeConfig{.method = Speculation::kDraft,
                             .model = FolderOf(model),
                             .max_tokens = max_tokens,
                             .adaptive = false};
  };
  const SpeculativeConfig ngram{
      .method = Speculation::kNgram, .model = "", .max_tokens = 5, .adaptive = false};
  // Random heads over real states: right by chance, and of another model than the rest.
  const auto head = [](Speculation method, const char* folder) {
    return SpeculativeConfig{.method = method,
                             .model = std::string(GALE_SOURCE_DIR "/tests/data/heads/") + folder,
                             .max_tokens = method == Speculation::kMedusa ? 2 : 4,
                             .adaptive = false};
  };
  const Tested qwen3_gqa5 = {"Gqa5", "models/qwen3_gqa5", LoadFormat::kAuto, ModelDType::kBf16,
                             size_t{25} * 16 * 3 * 16 * 2 * 2};
  Tested qwen3_shapes = kQwen3F32;
  qwen3_shapes.format = LoadFormat::kDummy;
  return {{"Ngram", kQwen3F32, ngram},
          {"NgramWindows", kGemma3, ngram},
          {"Draft", kQwen3Bf16, draft(kQwen3Bf16, 4)},
          {"DraftWindows", kGemma3, draft(kGemma3, 3)},
          {"WrongDraft", kGemma3, draft(qwen3_shapes, 2)},
          {"Eagle", qwen3_gqa5, head(Speculation::kEagle, "eagle3")},
          {"Medusa", qwen3_gqa5, head(Speculation::kMedusa, "medusa")}};
}

class SpeculationTest : public ::testing::TestWithParam<Guesses> {
 protected:
  void ExpectNothingAltered(const std::vector<RequestParams>& requests) {
    EngineConfig alone = BaseConfig(GetParam().tested);
    alone.max_num_seqs = 1;
    const std::vector<RequestOutput> expected =
        RunAll(alone, requests, {"alone", [](EngineConfig&) {}});
    ASSERT_EQ(expected.size(), requests.size());
    // Blocks of f32 keys, and a draft model's beside the target's.
    const bool is_wide = GetParam().tested.dtype == ModelDType::kF32;
    const size_t models = is_wide && GetParam().speculative.method == Speculation::kDraft ? 2 : 1;
    uint64_t accepted = 0;
    uint64_t preemptions = 0;
    for (Variant& variant : Variants(models * GetParam().tested.tiny_pool)) {
      EngineConfig config = BaseConfig(GetParam().tested);
      variant.change(config);
      config.speculative = GetParam().speculative;
      variant.took_place = [&](const EngineStats& stats) {
        accepted += stats.accepted_draft_tokens;
        preemptions += stats.preemptions;
        return stats.draft_tokens > 0;
      };
      const std::vector<RequestOutput> outputs = RunAll(config, requests, variant);
      ASSERT_EQ(outputs.size(), expected.size());
      for (size_t i = 0; i < outputs.size(); ++i) {
        SCOPED_TRACE(variant.name + ", request " + std::to_string(i));
        ExpectEqual(outputs[i], expected[i]);
      }
    }
    EXPECT_GT(accepted, 0);
    EXPECT_GT(preemptions, 0);
  }
};

INSTANTIATE_TEST_SUITE_P(Guesses, SpeculationTest, ::testing::ValuesIn(AllGuesses()),
                         [](const auto& guesses) { return guesses.param.name; });

TEST_P(SpeculationTest, AltersNoTokenWhateverTheSchedule) { ExpectNothingAltered(Requests()); }

TEST_P(SpeculationTest, AltersNoTokenThatDependsOnWhatWasSaid) {
  ExpectNothingAltered(RequestsWithHistory());
}

TEST_P(SpeculationTest, AltersNoTokenWhereTimesDecide) {
  const std::vector<RequestParams> requests = Requests();
  const std::vector<RequestOutput> expected =
      RunAll(BaseConfig(GetParam().tested), requests, {"without", [](EngineConfig&) {}});
  for (const bool overlap : {false, true}) {
    EngineConfig config = BaseConfig(GetParam().tested);
    config.overlap = overlap;
    config.speculative = GetParam().speculative;
    config.speculative.adaptive = true;
    const std::vector<RequestOutput> outputs =
        RunAll(config, requests, {"adaptive", [](EngineConfig&) {}});
    ASSERT_EQ(outputs.size(), expected.size());
    for (size_t i = 0; i < outputs.size(); ++i) ExpectEqual(outputs[i], expected[i]);
  }
}

TEST_P(SpeculationTest, ARequestMayDoWithout) {
  EngineConfig config = BaseConfig(GetParam().tested);
  config.speculative = GetParam().speculative;
  auto engine = LlmEngine::Create(config);
  ASSERT_TRUE(engine) << engine.error().message;
  std::vector<RequestParams> requests = Requests();
  for (RequestParams& request : requests) request.sampling.speculative = Speculation::kOff;
  (*engine)->Generate(requests);
  EXPECT_EQ((*engine)->stats().draft_tokens, 0);
  for (RequestParams& request : requests) request.sampling.speculative = config.speculative.method;
  (*engine)->Generate(requests);
  EXPECT_GT((*engine)->stats().draft_tokens, 0);
}

/// Tokens of a story by the bundled model, and how many each of its steps came to.
struct Told {
  std::vector<TokenId> tokens;
  double per_step = 1;
};

Told TellStory(const SpeculativeConfig& speculative) {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/models/gale-tales-10m";
  config.device = TestDevice();
  config.numerics = Numerics::kBatchInvariant;
  config.max_num_seqs = 1;
  config.speculative = speculative;
  auto engine = LlmEngine::Create(config);
  EXPECT_TRUE(engine) << engine.error().message;
  if (!engine) return {};
  RequestParams request;
  request.prompt = (*engine)->tokenizer()->Encode(
      "<|im_start|>user\nTell me a story about a girl.<|im_end|>\n<|im_start|>assistant\n",
      {.parse_special = true});
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 120;
  const std::vector<RequestOutput> outputs = (*engine)->Generate({request});
  const auto said = static_cast<double>(outputs[0].samples[0].tokens.size());
  const auto guessed = static_cast<double>((*engine)->stats().accepted_draft_tokens);
  return {outputs[0].samples[0].tokens, said / (said - guessed)};
}

/// Over many stories they come to 3.4 and 1.6 (models/gale-tales-eagle/README.md).
TEST(BundledHeadsTest, GuessMuchOfAStory) {
  const auto with = [](Speculation method, const char* folder, int max_tokens) {
    return TellStory({.method = method,
                      .model = std::string(GALE_SOURCE_DIR "/models/") + folder,
                      .max_tokens = max_tokens,
                      .adaptive = false});
  };
  const Told without = TellStory({});
  const Told eagle = with(Speculation::kEagle, "gale-tales-eagle", 4);
  const Told medusa = with(Speculation::kMedusa, "gale-tales-medusa", 2);
  EXPECT_EQ(eagle.tokens, without.tokens);
  EXPECT_EQ(medusa.tokens, without.tokens);
  EXPECT_GT(eagle.per_step, 2.2);
  EXPECT_GT(medusa.per_step, 1.3);
}

TEST(MtpTest, TheModelsOwnLayerAltersNoToken) {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/tests/data/heads/mtp";
  config.device = TestDevice();
  config.numerics = Numerics::kBatchInvariant;
  config.max_model_len = 128;
  config.max_num_seqs = 4;
  std::vector<RequestParams> requests(4);
  for (int i = 0; i < 4; ++i) {
    RequestParams& request = requests[static_cast<size_t>(i)];
    request.prompt = std::vector<TokenId>{3 * i, 7, 11 + i, i};
    request.sampling.temperature = i % 2 == 0 ? 0.0F : 1.0F;
    request.sampling.seed = 5;
    request.sampling.max_tokens = 40;
    request.sampling.ignore_eos = true;
  }
  std::vector<RequestOutput> expected;
  for (const Speculation method : {Speculation::kOff, Speculation::kMtp}) {
    config.speculative = {.method = method, .model = "", .max_tokens = 3, .adaptive = false};
    auto engine = LlmEngine::Create(config);
    ASSERT_TRUE(engine) << engine.error().message;
    const std::vector<RequestOutput> outputs = (*engine)->Generate(requests);
    if (method == Speculation::kOff) expected = outputs;
    for (size_t i = 0; i < outputs.size(); ++i) {
      EXPECT_EQ(outputs[i].samples[0].tokens, expected[i].samples[0].tokens) << i;
      EXPECT_EQ(outputs[i].samples[0].tokens.size(), 40);
    }
    EXPECT_EQ((*engine)->stats().draft_tokens > 0, method == Speculation::kMtp);
  }
}

/// Where the device fuses decoders: guesses of the target itself, each pass one operation.
TEST(FastDraftTest, TheTargetItselfGuessesNearlyAll) {
  EngineConfig config = BaseConfig(kQwen3Bf16);
  config.model = GALE_SOURCE_DIR "/tests/data/configs/qwen3_dim64.json";
  config.load_format = LoadFormat::kDummy;
  config.numerics = Numerics::kFast;
  config.speculative = {
      .method = Speculation::kDraft, .model = config.model, .max_tokens = 3, .adaptive = false};
  auto engine = LlmEngine::Create(config);
  ASSERT_TRUE(engine) << engine.error().message;
  RequestParams request;
  request.prompt = std::vector<TokenId>{5, 17, 99, 3, 42};
  request.sampling.max_tokens = 80;
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  (*engine)->Generate({request});
  const EngineStats stats = (*engine)->stats();
  EXPECT_GT(stats.draft_tokens, 40);
  EXPECT_GT(stats.accepted_draft_tokens, 0.8 * static_cast<double>(stats.draft_tokens));
}

TEST(SpeculationErrorsTest, NameWhatIsWrong) {
  EngineConfig config = BaseConfig(kQwen3F32);
  config.speculative = {.method = Speculation::kDraft,
                        .model = GALE_SOURCE_DIR "/tests/data/models/qwen2_tied"};
  const auto refused = LlmEngine::Create(config);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("101 tokens, the model itself 113"), std::string::npos)
      << refused.error().message;

  auto engine = LlmEngine::Create(BaseConfig(kQwen3F32));
  ASSERT_TRUE(engine) << engine.error().message;
  RequestParams request;
  request.prompt = std::vector<TokenId>{5};
  request.sampling.speculative = Speculation::kNgram;
  const auto unknown = (*engine)->AddRequest(request, [](const RequestOutput&) {});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().message,
            "speculative: expected off, auto or what this engine was started with, off; got ngram");

  for (const char* text : {"", "fast", "draft", "draft:", "ngram:model"}) {
    EXPECT_FALSE(ParseSpeculativeConfig(text)) << text;
  }
  EXPECT_EQ(ParseSpeculativeConfig("draft:a:b")->model, "a:b");
}

}  // namespace
}  // namespace gale
