#include "engine/output_processor.h"

#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine_test_support.h"

namespace gale {
namespace {

using ::testing::ElementsAre;

class OutputProcessorTest : public ::testing::Test {
 protected:
  void Start() {
    outputs_ = std::make_unique<OutputProcessor>(
        tokenizer_.get(),
        /*max_model_len=*/1000,
        OutputProcessor::Hooks{.on_stop_string = [this](SeqId id) { stopped_.push_back(id); },
                               .on_finished = [this](RequestId id) { finished_.push_back(id); }});
  }
  /// Handles all that was pushed.
  void Drain() { outputs_.reset(); }

  std::shared_ptr<Request> Add(SamplingParams sampling, Outcome& outcome) {
    auto request = std::make_shared<Request>();
    request->id = ++last_id_;
    request->prompt = {1, 2, 3};
    request->sampling = std::move(sampling);
    outputs_->Add(request, outcome.callback());
    return request;
  }

  static SequenceUpdate Update(const std::shared_ptr<Request>& request, const std::string& bytes,
                               FinishReason reason = FinishReason::kNone, int sample_index = 0) {
    SequenceUpdate update;
    update.request = request;
    update.id = request->id * 10 + static_cast<SeqId>(sample_index);
    update.sample_index = sample_index;
    update.tokens = Bytes(bytes);
    update.finish_reason = reason;
    return update;
  }
  void Push(SequenceUpdate update) {
    std::vector<SequenceUpdate> step;
    step.push_back(std::move(update));
    outputs_->Push(std::move(step));
  }

  std::unique_ptr<Tokenizer> tokenizer_ = MakeByteTokenizer();
  std::vector<SeqId> stopped_;
  std::vector<RequestId> finished_;
  RequestId last_id_ = 0;
  std::unique_ptr<OutputProcessor> outputs_;
};

TEST_F(OutputProcessorTest, TextNeverEndsInsideACharacter) {
  Start();
  Outcome outcome;
  const auto request = Add({}, outcome);
  std::vector<std::string> seen;
  Push(Update(request, "a\xE2"));
  Push(Update(request, "\x82"));
  Push(Update(request, "\xAC!"));
  Push(Update(request, "\xC3", FinishReason::kLength));
  Drain();
  const RequestOutput output = outcome.Wait();
  EXPECT_EQ(output.samples[0].text, "a\u20AC!\uFFFD");
  EXPECT_EQ(output.samples[0].tokens, Bytes("a\xE2\x82\xAC!\xC3"));
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kLength);
  EXPECT_EQ(output.prompt_tokens, 3);
  EXPECT_EQ(outcome.num_outputs(), 4);
  EXPECT_THAT(finished_, ElementsAre(request->id));
}

TEST_F(OutputProcessorTest, StopStringEndsTheRequestAndTellsTheEngine) {
  Start();
  Outcome outcome;
  SamplingParams sampling;
  sampling.stop = {"END"};
  const auto request = Add(sampling, outcome);
  Push(Update(request, "so E"));
  Push(Update(request, "N"));
  Push(Update(request, "D and on"));
  Push(Update(request, "and on"));  // a step that was in flight already
  Push(Update(request, "", FinishReason::kCancelled));
  Drain();
  const RequestOutput output = outcome.Wait();
  EXPECT_EQ(output.samples[0].text, "so ");
  EXPECT_EQ(output.samples[0].tokens, Bytes("so END"));
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kStop);
  EXPECT_EQ(outcome.num_final(), 1);
  EXPECT_EQ(outcome.num_after_final(), 0);
  EXPECT_THAT(stopped_, ElementsAre(request->id * 10));
}

TEST_F(OutputProcessorTest, NoStopStringEndsInTheFirstMinTokens) {
  Start();
  Outcome outcome;
  SamplingParams sampling;
  sampling.stop = {"ab"};
  sampling.min_tokens = 3;
  const auto request = Add(sampling, outcome);
  Push(Update(request, "ab"));
  Push(Update(request, "abab"));  // the third token may begin what the fourth ends
  Push(Update(request, "", FinishReason::kCancelled));
  Drain();
  const RequestOutput output = outcome.Wait();
  EXPECT_EQ(output.samples[0].text, "ab");
  EXPECT_EQ(output.samples[0].tokens, Bytes("abab"));
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kStop);
}

TEST_F(OutputProcessorTest, EveryStopAtEverySplit) {
  // The text comes in two steps, cut everywhere; the stop string falls on either side or across.
  const std::string text = "one two three";
  for (const std::string stop : {"o", "ne t", "two", " three", "e", "zz"}) {
    const size_t found = text.find(stop);
    for (size_t cut = 0; cut <= text.size(); ++cut) {
      Start();
      Outcome outcome;
      SamplingParams sampling;
      sampling.stop = {stop};
      const auto request = Add(sampling, outcome);
      Push(Update(request, text.substr(0, cut)));
      Push(Update(request, text.substr(cut), FinishReason::kLength));
      Drain();
      const RequestOutput output = outcome.Wait();
      EXPECT_EQ(output.samples[0].text, text.substr(0, found)) << stop << " " << cut;
      EXPECT_EQ(output.samples[0].finish_reason,
                found == std::string::npos ? FinishReason::kLength : FinishReason::kStop);
      EXPECT_EQ(outcome.num_final(), 1);
    }
  }
}

TEST_F(OutputProcessorTest, StopTokenIsNoTextUnlessWanted) {
  for (const bool include : {false, true}) {
    Start();
    Outcome outcome;
    SamplingParams sampling;
    sampling.include_stop = include;
    const auto request = Add(sampling, outcome);
    Push(Update(request, "ab."));
    Push(Update(request, ";", FinishReason::kStop));
    Drain();
    EXPECT_EQ(outcome.Wait().samples[0].text, include ? "ab.;" : "ab.");
    EXPECT_EQ(outcome.Wait().samples[0].tokens, Bytes("ab.;"));
  }
}

TEST_F(OutputProcessorTest, FinalComesWhenTheLastSampleEnds) {
  Start();
  Outcome outcome;
  SamplingParams sampling;
  sampling.n = 2;
  const auto request = Add(sampling, outcome);
  Push(Update(request, "x", FinishReason::kStop, 1));
  Push(Update(request, "yz", FinishReason::kNone, 0));
  Push(Update(request, "!", FinishReason::kLength, 0));
  Drain();
  const RequestOutput output = outcome.Wait();
  ASSERT_EQ(output.samples.size(), 2);
  EXPECT_EQ(output.samples[0].text, "yz!");
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kLength);
  EXPECT_EQ(output.samples[1].finish_reason, FinishReason::kStop);
  EXPECT_EQ(outcome.num_final(), 1);
}

TEST_F(OutputProcessorTest, LogprobsComeOncePerToken) {
  Start();
  Outcome outcome;
  SamplingParams sampling;
  sampling.logprobs = 1;
  sampling.stop = {"b"};
  const auto request = Add(sampling, outcome);
  SequenceUpdate update = Update(request, "abc");
  for (int i = 0; i < 3; ++i) {
    update.logprobs.push_back(
        {.chosen = {update.tokens[static_cast<size_t>(i)], -0.5F * i}, .top = {}});
  }
  Push(std::move(update));
  Drain();
  const RequestOutput output = outcome.Wait();
  ASSERT_EQ(output.samples[0].logprobs.size(), 2);  // as many as tokens, cut at the stop
  EXPECT_EQ(output.samples[0].logprobs[1].chosen.logprob, -0.5F);
}

TEST_F(OutputProcessorTest, EndWithoutScheduling) {
  Start();
  Outcome outcome;
  const auto request = Add({}, outcome);
  outputs_->End(request->id, FinishReason::kError, Error{ErrorCode::kInvalidArgument, "too long"});
  Drain();
  const RequestOutput output = outcome.Wait();
  EXPECT_TRUE(output.finished);
  EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kError);
  ASSERT_TRUE(output.error.has_value());
  EXPECT_EQ(output.error->message, "too long");
}

}  // namespace
}  // namespace gale
