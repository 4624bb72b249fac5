// The request path around a fake executor: every request ends once and rightly, whatever happens.
#include <atomic>
#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine_test_support.h"

namespace gale {
namespace {

using ::testing::HasSubstr;

RequestParams Tokens(std::vector<TokenId> prompt, int max_tokens) {
  RequestParams params;
  params.prompt = std::move(prompt);
  params.sampling.max_tokens = max_tokens;
  params.sampling.seed = 7;
  return params;
}

RequestParams Text(std::string prompt, int max_tokens) {
  RequestParams params = Tokens({}, max_tokens);
  params.prompt = std::move(prompt);
  return params;
}

/// What HashNextToken says after `prompt`, without any engine.
std::vector<TokenId> Oracle(std::vector<TokenId> tokens, int count, int sample_index = 0) {
  SamplingParams sampling;
  sampling.seed = 7;
  const size_t num_prompt = tokens.size();
  for (int i = 0; i < count; ++i) {
    tokens.push_back(HashNextToken(tokens, sampling, sample_index));
  }
  tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(num_prompt));
  return tokens;
}

/// Both loops.
class EngineTest : public ::testing::TestWithParam<bool> {
 protected:
  EngineParts Parts(NextToken next = HashNextToken) {
    auto executor = std::make_unique<FakeExecutor>(std::move(next));
    executor_ = executor.get();
    EngineParts parts = FakeParts(std::move(executor));
    parts.config.overlap = GetParam();
    return parts;
  }
  std::unique_ptr<LlmEngine> Engine(NextToken next = HashNextToken) {
    return StartEngine(Parts(std::move(next)));
  }

  FakeExecutor* executor_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Loops, EngineTest, ::testing::Values(false, true), [](const auto& tested) {
  return tested.param ? "Overlapped" : "Synchronous";
});

TEST_P(EngineTest, TokensAreTheModelsWhateverTheSchedule) {
  EngineParts parts = Parts();
  parts.num_blocks = 34;  // one sequence fits: the others are preempted again and again
  const auto engine = StartEngine(std::move(parts));
  std::mt19937 random(1);
  std::vector<RequestParams> requests;
  for (int i = 0; i < 40; ++i) {
    std::vector<TokenId> prompt(1 + random() % 60);
    for (TokenId& token : prompt) token = static_cast<TokenId>(random() % 256);
    requests.push_back(Tokens(std::move(prompt), static_cast<int>(random() % 60)));
  }
  const std::vector<RequestOutput> outputs = engine->Generate(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto& prompt = std::get<std::vector<TokenId>>(requests[i].prompt);
    const int count = requests[i].sampling.max_tokens;
    ASSERT_EQ(outputs[i].samples.size(), 1);
    EXPECT_EQ(outputs[i].samples[0].tokens, Oracle(prompt, count)) << i;
    EXPECT_EQ(outputs[i].samples[0].finish_reason, FinishReason::kLength);
    EXPECT_EQ(outputs[i].prompt_tokens, static_cast<int>(prompt.size()));
    EXPECT_FALSE(outputs[i].error);
  }
  EXPECT_GT(engine->stats().preemptions, 0);
  EXPECT_EQ(engine->stats().running_seqs, 0);
  EXPECT_EQ(engine->stats().waiting_seqs, 0);
}

TEST_P(EngineTest, SamplesAreIndependent) {
  const auto engine = Engine();
  RequestParams request = Tokens({1, 2, 3, 4, 5, 6}, 20);
  request.sampling.n = 12;  // more than run at once
  const RequestOutput output = engine->Generate({request})[0];
  ASSERT_EQ(output.samples.size(), 12);
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(output.samples[i].index, i);
    EXPECT_EQ(output.samples[i].tokens, Oracle({1, 2, 3, 4, 5, 6}, 20, i));
  }
}

TEST_P(EngineTest, TextInTextOut) {
  const auto engine = Engine(Script(5, "Well, he said."));
  const RequestOutput output = engine->Generate({Text("hello", 100)})[0];
  EXPECT_EQ(output.samples[0].text, "Well, he said.");
  EXPECT_EQ(output.samples[0].tokens.back(), kFakeEos);
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kStop);
  EXPECT_EQ(output.prompt_tokens, 5);
  EXPECT_GT(output.times.total_s, 0);
  EXPECT_GE(output.times.total_s, output.times.first_token_s);
  EXPECT_GE(output.times.first_token_s, output.times.queued_s);
}

TEST_P(EngineTest, StopStringFinishesTheSequenceEarly) {
  const auto engine = Engine(Script(2, "one two three four five six seven eight nine ten"));
  RequestParams request = Text("go", 100);
  request.sampling.stop = {"four f", "zz"};
  RequestOutput output = engine->Generate({request})[0];
  EXPECT_EQ(output.samples[0].text, "one two three ");
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kStop);
  request.sampling.include_stop = true;
  output = engine->Generate({request})[0];
  EXPECT_EQ(output.samples[0].text, "one two three four f");
}

TEST_P(EngineTest, StopTokensAndIgnoreEos) {
  const auto engine = Engine(Script(2, "abc"));
  RequestParams request = Text("go", 10);
  request.sampling.ignore_eos = true;
  RequestOutput output = engine->Generate({request})[0];
  EXPECT_EQ(output.samples[0].tokens.size(), 10);
  EXPECT_EQ(output.samples[0].text, "abc");  // "<eos>" is special
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kLength);
  request.sampling.stop_token_ids = {'b'};
  output = engine->Generate({request})[0];
  EXPECT_EQ(output.samples[0].tokens, Bytes("ab"));
  EXPECT_EQ(output.samples[0].text, "a");
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kStop);
}

TEST_P(EngineTest, FewTokens) {
  const auto engine = Engine();
  RequestOutput output = engine->Generate({Tokens({1, 2, 3}, 0)})[0];
  EXPECT_TRUE(output.finished);
  EXPECT_TRUE(output.samples[0].tokens.empty());
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kLength);
  EXPECT_EQ(engine->stats().steps, 0);
  output = engine->Generate({Tokens({1, 2, 3}, 1)})[0];
  EXPECT_EQ(output.samples[0].tokens, Oracle({1, 2, 3}, 1));
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kLength);
}

TEST_P(EngineTest, GenerationEndsWithTheContext) {
  const auto engine = Engine();
  const std::vector<TokenId> prompt(120, 5);
  const RequestOutput output = engine->Generate({Tokens(prompt, 100)})[0];
  EXPECT_EQ(output.samples[0].tokens, Oracle(prompt, 8));  // 128 in all
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kLength);
}

TEST_P(EngineTest, OverLongPromptIsAnErrorNeverATruncation) {
  const auto engine = Engine();
  Outcome outcome;
  ASSERT_TRUE(engine->AddRequest(Text(std::string(128, 'a'), 1), outcome.callback()));
  const RequestOutput output = outcome.Wait();
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kError);
  ASSERT_TRUE(output.error);
  EXPECT_EQ(output.error->code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(output.error->message,
              HasSubstr("prompt has 128 tokens, the model's context holds 128"));
  EXPECT_FALSE(engine->Generate({Text(std::string(127, 'a'), 1)})[0].error);
}

TEST_P(EngineTest, BadRequestsAreRefusedAtTheEdge) {
  const auto engine = Engine();
  const auto refused = [&](RequestParams params, std::string_view what) {
    const auto added = engine->AddRequest(std::move(params), [](const RequestOutput&) {});
    ASSERT_FALSE(added) << what;
    EXPECT_EQ(added.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(added.error().message, HasSubstr(what));
  };
  refused(Tokens({}, 1), "at least one token");
  refused(Tokens({1, kFakeVocab}, 1), "[0, 300)");
  refused(Tokens({1, -1}, 1), "got -1");
  refused(Tokens(std::vector<TokenId>(200, 1), 1), "prompt has 200 tokens");
  RequestParams bad = Tokens({1}, 1);
  bad.sampling.stop_token_ids = {kFakeVocab};
  refused(bad, "stop_token_ids");
  bad = Tokens({1}, 1);
  bad.sampling.top_p = 0;
  refused(bad, "top_p");

  const RequestOutput output = engine->Generate({bad, Tokens({1}, 1)})[0];
  EXPECT_TRUE(output.finished);
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kError);
  Outcome empty_text;
  ASSERT_TRUE(engine->AddRequest(Text("", 1), empty_text.callback()));
  EXPECT_THAT(empty_text.Wait().error->message, HasSubstr("at least one token"));
}

TEST_P(EngineTest, WithoutATokenizerThereAreTokensOnly) {
  EngineParts parts = Parts();
  parts.tokenizer.reset();
  const auto engine = StartEngine(std::move(parts));
  const RequestOutput output = engine->Generate({Tokens({1, 2}, 5)})[0];
  EXPECT_EQ(output.samples[0].tokens, Oracle({1, 2}, 5));
  EXPECT_EQ(output.samples[0].text, "");
  EXPECT_THAT(engine->Generate({Text("hi", 5)})[0].error->message, HasSubstr("no tokenizer"));
  RequestParams stop = Tokens({1, 2}, 5);
  stop.sampling.stop = {"x"};
  EXPECT_THAT(engine->Generate({stop})[0].error->message, HasSubstr("no tokenizer"));
}

TEST_P(EngineTest, FullQueueIsRefusedAndGenerateWaits) {
  EngineParts parts = Parts();
  parts.config.max_queued_requests = 2;
  parts.config.max_num_seqs = 1;
  const auto engine = StartEngine(std::move(parts));
  const std::vector<RequestOutput> outputs =
      engine->Generate(std::vector<RequestParams>(20, Tokens({1, 2}, 30)));
  for (const RequestOutput& output : outputs) EXPECT_EQ(output.samples[0].tokens.size(), 30);

  std::vector<Outcome> outcomes(3);
  std::atomic<bool> hold = true;
  for (Outcome& outcome : outcomes) {  // the output thread holds the first: none of them can end
    const OutputCallback callback = outcome.callback();
    ASSERT_TRUE(engine->AddRequest(Tokens({1}, 1), [&hold, callback](const RequestOutput& output) {
      while (hold) std::this_thread::yield();
      callback(output);
    }));
  }
  // The first has left the queue when its callback runs, the others have not.
  Result<RequestId> added(0);
  std::vector<std::unique_ptr<Outcome>> more;
  for (int i = 0; i < 2 && added; ++i) {
    more.push_back(std::make_unique<Outcome>());
    added = engine->AddRequest(Tokens({1}, 1), more.back()->callback());
  }
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code, ErrorCode::kResourceExhausted);
  hold = false;
  for (Outcome& outcome : outcomes) outcome.Wait();
  more.pop_back();  // refused: nothing is called back
  for (const auto& outcome : more) outcome->Wait();
}

TEST_P(EngineTest, SeedsAreDerivedPerRequest) {
  const auto run = [this](uint64_t engine_seed) {
    EngineParts parts = Parts();
    parts.config.seed = engine_seed;
    const auto engine = StartEngine(std::move(parts));
    RequestParams request = Tokens({1, 2}, 10);
    request.sampling.seed.reset();
    const auto outputs = engine->Generate({request, request});
    return std::pair(outputs[0].samples[0].tokens, outputs[1].samples[0].tokens);
  };
  const auto once = run(1);
  EXPECT_NE(once.first, once.second);
  EXPECT_EQ(once, run(1));
  EXPECT_NE(once, run(2));
}

TEST_P(EngineTest, CancelEndsARequestOnce) {
  const auto engine = Engine();
  Outcome outcome;
  Outcome other;
  const auto id = engine->AddRequest(Tokens({1, 2}, 100), outcome.callback());
  ASSERT_TRUE(engine->AddRequest(Tokens({3}, 20), other.callback()));
  engine->Cancel(*id);
  engine->Cancel(*id);
  engine->Cancel(*id + 1000);
  const RequestOutput output = outcome.Wait();
  const FinishReason reason = output.samples[0].finish_reason;
  EXPECT_TRUE(reason == FinishReason::kCancelled || reason == FinishReason::kLength);
  EXPECT_EQ(other.Wait().samples[0].tokens, Oracle({3}, 20));
  engine->Cancel(*id);
}

TEST_P(EngineTest, RandomCancelsAndStopsEndEveryRequestExactlyOnce) {
  EngineParts parts = Parts();
  parts.num_blocks = 60;
  auto engine = StartEngine(std::move(parts));
  constexpr int kThreads = 3;
  constexpr int kPerThread = 60;
  std::vector<std::unique_ptr<Outcome>> outcomes(kThreads * kPerThread);
  for (auto& outcome : outcomes) outcome = std::make_unique<Outcome>();
  std::vector<std::thread> clients;
  for (int t = 0; t < kThreads; ++t) {
    clients.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      std::vector<RequestId> ids;
      for (int i = 0; i < kPerThread; ++i) {
        RequestParams params = random() % 2 == 0 ? Tokens({1, 2, static_cast<TokenId>(i)}, 40)
                                                 : Text("prompt " + std::to_string(i), 40);
        params.sampling.n = 1 + static_cast<int>(random() % 3);
        if (random() % 3 == 0) params.sampling.stop = {"a", "qq"};
        const auto id = engine->AddRequest(
            std::move(params), outcomes[static_cast<size_t>(t * kPerThread + i)]->callback());
        ASSERT_TRUE(id);
        ids.push_back(*id);
        if (random() % 2 == 0) engine->Cancel(ids[random() % ids.size()]);
        if (random() % 4 == 0) std::this_thread::yield();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (auto& outcome : outcomes) {
    for (const SampleOutput& sample : outcome->Wait().samples) {
      EXPECT_NE(sample.finish_reason, FinishReason::kNone);
      EXPECT_NE(sample.finish_reason, FinishReason::kError);
    }
  }
  engine.reset();
  for (auto& outcome : outcomes) {
    EXPECT_EQ(outcome->num_final(), 1);
    EXPECT_EQ(outcome->num_after_final(), 0);
  }
}

TEST_P(EngineTest, DestructorDeliversEveryFinalOutput) {
  std::vector<std::unique_ptr<Outcome>> outcomes;
  {
    const auto engine = Engine();
    for (int i = 0; i < 50; ++i) {
      outcomes.push_back(std::make_unique<Outcome>());
      ASSERT_TRUE(engine->AddRequest(i % 2 == 0 ? Tokens({1, 2}, 120) : Text("some text", 100),
                                     outcomes.back()->callback()));
    }
  }
  for (auto& outcome : outcomes) EXPECT_EQ(outcome->num_final(), 1);
}

TEST_P(EngineTest, FailedStepEndsWhatWasInFlightAndNothingElse) {
  const auto engine = Engine();
  for (int failing_step = 0; failing_step < 6; ++failing_step) {
    executor_->FailAfter(failing_step);
    Outcome outcome;
    ASSERT_TRUE(engine->AddRequest(Tokens({1, 2, 3}, 50), outcome.callback()));
    const RequestOutput output = outcome.Wait();
    EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kError);
    ASSERT_TRUE(output.error);
    EXPECT_EQ(output.error->code, ErrorCode::kDevice);
    EXPECT_EQ(output.error->message, "the device fell");
    const RequestOutput next = engine->Generate({Tokens({1, 2, 3}, 50)})[0];
    EXPECT_FALSE(next.error) << next.error->message;
    EXPECT_EQ(next.samples[0].tokens, Oracle({1, 2, 3}, 50));
  }
}

TEST_P(EngineTest, CallbacksMayAddAndCancel) {
  Outcome second;
  const auto engine = Engine();
  ASSERT_TRUE(engine->AddRequest(Tokens({1}, 3), [&](const RequestOutput& output) {
    engine->Cancel(output.id);
    if (output.finished) {
      EXPECT_TRUE(engine->AddRequest(Tokens({2}, 5), second.callback()));
    }
  }));
  EXPECT_EQ(second.Wait().samples[0].tokens, Oracle({2}, 5));
}

}  // namespace
}  // namespace gale
