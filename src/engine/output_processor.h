// From tokens to what the client sees: text, stop strings, log-probabilities, the final output.
// Layer L5, stop 10 of the request path; runs on a thread of its own, where callbacks run too.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/blocking_queue.h"
#include "engine/request_metrics.h"
#include "engine/stop_strings.h"
#include "gale/llm_engine.h"
#include "request/sequence.h"
#include "scheduler/scheduler.h"

namespace gale {

/// Every request that was added gets exactly one final output: when all its samples have ended,
/// or when End says that it never ran. Updates of a request that has had it are dropped.
class OutputProcessor {
 public:
  struct Hooks {
    /// A stop string ended a sequence that the engine still runs.
    std::function<void(SeqId)> on_stop_string;
    /// Called before the callback gets the final output.
    std::function<void(RequestId)> on_finished;
  };

  /// `tokenizer` may be null: outputs then have tokens and no text.
  OutputProcessor(const Tokenizer* tokenizer, int max_model_len, Hooks hooks);
  /// Handles what was pushed, then joins. The caller has ended every request.
  ~OutputProcessor();

  /// Before anything else of the request.
  void Add(std::shared_ptr<const Request> request, OutputCallback callback);
  void Push(std::vector<SequenceUpdate> step);
  /// Ends a request that never reached the scheduler.
  void End(RequestId id, FinishReason reason, std::optional<Error> error = {});

  EngineMetrics metrics() const { return metrics_.Snapshot(); }

 private:
  struct Sample {
    explicit Sample(const SamplingParams& sampling);
    std::optional<IncrementalDetokenizer> detokenizer;  ///< from the first token on
    StopStrings stop;
    FinishReason finish_reason = FinishReason::kNone;
    bool changed = false;
    int num_tokens = 0;       ///< generated
    double last_token_s = 0;  ///< by the engine's clock
    std::optional<double> cumulative_logprob;
    SampleOutput delta;  ///< since the last output
  };
  struct Record {
    std::shared_ptr<const Request> request;
    OutputCallback callback;
    double added_s = 0;
    bool scheduled = false;
    bool changed = false;  ///< in the step being handled
    int num_running = 0;   ///< samples that have not ended
    int cached_tokens = 0;
    int generated_tokens = 0;
    std::vector<Sample> samples;
    std::vector<PositionLogprobs> prompt_logprobs;
    std::vector<float> embedding;
    std::optional<Error> error;
    RequestTimes times;
  };
  struct Added {
    Record record;
  };
  struct Ended {
    RequestId id = 0;
    FinishReason reason = FinishReason::kNone;
    std::optional<Error> error;
  };
  using Event = std::variant<Added, std::vector<SequenceUpdate>, Ended>;

  void Run();
  void Handle(Added& event);
  void Handle(std::vector<SequenceUpdate>& step);
  void Handle(Ended& event);
  void Apply(Record& record, SequenceUpdate& update);
  void CountTokens(Record& record, Sample& sample, int num_tokens);
  void ApplyTokens(Record& record, Sample& sample, SequenceUpdate& update);
  static void TakeLogprobs(const Request& request, Sample& sample, PositionLogprobs& logprobs);
  std::string Detokenize(const Record& record, Sample& sample, const SequenceUpdate& update,
                         size_t i);
  static std::vector<SampleOutput> TakeDeltas(Record& record);
  static bool MayStop(const Record& record, const Sample& sample);
  static void EndSample(Record& record, Sample& sample, FinishReason reason);
  void Deliver(RequestId id, Record& record);

  const Tokenizer* tokenizer_;
  Hooks hooks_;
  RequestMetrics metrics_;
  std::unordered_map<RequestId, Record> records_;
  double now_s_ = 0;                  ///< when the step that is being handled came
  std::vector<double> token_gaps_s_;  ///< of that step
  BlockingQueue<Event> events_;
  std::thread thread_;
};

}  // namespace gale
