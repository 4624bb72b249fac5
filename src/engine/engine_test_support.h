// Parts for engine tests: a tokenizer of single characters, an executor that computes tokens
// without a model, and an engine made of both.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/engine_parts.h"
#include "runner/executor.h"

namespace gale {

constexpr int kFakeVocab = 300;
constexpr TokenId kFakeEos = 299;

/// Byte-level: token b is byte b (0 to 255), 299 is the special token "<eos>".
std::unique_ptr<Tokenizer> MakeByteTokenizer();
/// The tokens of `text` under that tokenizer.
std::vector<TokenId> Bytes(const std::string& text);

/// What a fake executor draws after `tokens`.
using NextToken = std::function<TokenId(const std::vector<TokenId>& tokens,
                                        const SamplingParams& sampling, int sample_index)>;
/// A hash of everything so far: any lost, doubled or reordered token changes all that follow.
TokenId HashNextToken(const std::vector<TokenId>& tokens, const SamplingParams& sampling,
                      int sample_index);
/// Says `text` after the prompt, then "<eos>".
NextToken Script(size_t num_prompt, const std::string& text);

/// Keeps the sequences' tokens as a ModelRunner does and checks that the plans fit them.
class FakeExecutor : public Executor {
 public:
  explicit FakeExecutor(NextToken next) : next_(std::move(next)) {}

  StepHandle Launch(const SchedulerOutput& plan) override;
  void Sample(StepHandle handle, const SamplingInputs& inputs) override;
  Result<ModelRunnerOutput> Collect(StepHandle handle) override;

  /// The step counted from now on, 0 = the next, fails with kDevice.
  void FailAfter(int steps) { fail_in_ = steps; }

 private:
  struct State {
    std::vector<TokenId> tokens;
    int32_t num_computed = 0;
    SamplingParams sampling;
    int sample_index = 0;
  };

  NextToken next_;
  std::atomic<int> fail_in_ = -1;
  std::unordered_map<SeqId, State> states_;
  std::deque<Result<ModelRunnerOutput>> done_;  ///< launched and not collected
};

/// A configuration and parts around `executor`, small enough to be full at times.
EngineParts FakeParts(std::unique_ptr<Executor> executor);

/// Takes a request's outputs on the output thread; the test waits for the last.
class Outcome {
 public:
  OutputCallback callback();
  /// Waits for the final output; the merge of all.
  RequestOutput Wait();
  int num_outputs() const { return num_outputs_; }
  int num_final() const { return num_final_; }
  int num_after_final() const { return num_after_final_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  RequestOutput whole_;
  std::atomic<int> num_outputs_ = 0;
  std::atomic<int> num_final_ = 0;
  std::atomic<int> num_after_final_ = 0;
};

}  // namespace gale
