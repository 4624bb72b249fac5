// The public engine: checks requests at the edge, tokenizes them beside the engine thread and hands
// them on. Threads: callers, one text thread, the engine thread (EngineCore), the output thread.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <unordered_map>

#include <fmt/format.h>

#include "base/rng.h"
#include "base/status_macros.h"
#include "engine/clock.h"
#include "engine/engine_core.h"
#include "engine/engine_parts.h"
#include "engine/generate.h"
#include "engine/output_processor.h"
#include "engine/resolve_sampling.h"

namespace gale {
namespace {

Error InvalidArgument(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}

/// The seed of a request that brings none: a function of the engine's seed and the request's id.
uint64_t DeriveSeed(uint64_t engine_seed, RequestId id) {
  const PhiloxCounter random =
      Philox4x32({{static_cast<uint32_t>(id), static_cast<uint32_t>(id >> 32), ~0U, ~0U}},
                 {{static_cast<uint32_t>(engine_seed), static_cast<uint32_t>(engine_seed >> 32)}});
  return uint64_t{random.words[0]} << 32 | random.words[1];
}

Fairness FairnessOf(const EngineConfig& config) {
  if (!config.fair) return Fairness::kNone;
  return config.take_turns ? Fairness::kTurns : Fairness::kShares;
}

Status CheckSpeculative(Speculation wanted, const SpeculativeConfig& config) {
  if (wanted == Speculation::kAuto || wanted == Speculation::kOff || wanted == config.method) {
    return {};
  }
  return tl::unexpected(InvalidArgument(fmt::format(
      "speculative: expected off, auto or what this engine was started with, {}; got {}",
      SpeculationName(config.method), SpeculationName(wanted))));
}

class LlmEngineImpl final : public LlmEngine {
 public:
  explicit LlmEngineImpl(EngineParts parts);
  ~LlmEngineImpl() override;

  Result<RequestId> AddRequest(RequestParams params, OutputCallback on_output) override;
  Status CheckQueue(int num_requests) const override;
  void Cancel(RequestId id) override;
  std::vector<RequestOutput> Generate(std::vector<RequestParams> requests) override;

  const Tokenizer* tokenizer() const override { return parts_.tokenizer.get(); }
  const ChatTemplate* chat_template() const override { return parts_.chat_template.get(); }
  const ModelInfo& model_info() const override { return parts_.info; }
  const EngineConfig& config() const override { return parts_.config; }
  const std::string& device() const override { return parts_.device; }
  EngineStats stats() const override;
  EngineMetrics metrics() const override;

 private:
  /// A request whose prompt is still text.
  struct TextJob {
    std::shared_ptr<Request> request;
    std::string text;
    EncodeOptions options;
  };

  Status CheckParams(const RequestParams& params) const;
  Status CheckPrompt(const std::vector<TokenId>& prompt, const SamplingParams& sampling) const;
  std::shared_ptr<Request> MakeRequest(const RequestParams& params) const;
  Status Register(const std::shared_ptr<Request>& request);
  Status CheckRoom(size_t num_requests) const;
  void OnFinished(RequestId id);
  void TokenizeLoop();
  void Submit(std::shared_ptr<Request> request);

  EngineParts parts_;
  std::atomic<RequestId> next_id_ = 1;
  mutable std::mutex live_mutex_;
  struct Live {
    std::shared_ptr<Request> request;
    int64_t counted_tokens = 0;  ///< of num_live_tokens_
  };
  std::unordered_map<RequestId, Live> live_;  ///< without a final output yet
  int64_t num_live_tokens_ = 0;               ///< of their prompts, as far as they came as tokens

  // In the order of the request path; the destructor ends them in that order too.
  BlockingQueue<TextJob> text_jobs_;
  std::thread text_thread_;
  std::unique_ptr<EngineCore> core_;
  std::unique_ptr<OutputProcessor> outputs_;
};

LlmEngineImpl::LlmEngineImpl(EngineParts parts) : parts_(std::move(parts)) {
  outputs_ = std::make_unique<OutputProcessor>(
      parts_.tokenizer.get(), parts_.config.max_model_len,
      OutputProcessor::Hooks{.on_stop_string = [this](SeqId id) { core_->FinishAtStopString(id); },
                             .on_finished = [this](RequestId id) { OnFinished(id); }});
  core_ = std::make_unique<EngineCore>(
      std::make_unique<Scheduler>(
          SchedulerConfig{.max_num_seqs = parts_.config.max_num_seqs,
                          .max_num_batched_tokens = parts_.config.max_num_batched_tokens,
                          .max_model_len = parts_.config.max_model_len,
                          .max_draft_tokens = parts_.config.speculative.max_tokens,
                          .adaptive_drafts = parts_.config.speculative.adaptive,
                          .fairness = FairnessOf(parts_.config),
                          .max_step_stretch = parts_.config.max_step_stretch,
                          .host_bytes_per_s = parts_.host_bytes_per_s},
          KvCacheConfig{.spec = parts_.kv,
                        .num_blocks = parts_.num_blocks,
                        .num_host_blocks = parts_.num_host_blocks,
                        .enable_prefix_cache = parts_.config.enable_prefix_cache}),
      std::move(parts_.executor), parts_.config.overlap, parts_.config.max_model_len,
      [this](std::vector<SequenceUpdate> updates) { outputs_->Push(std::move(updates)); });
  text_thread_ = std::thread([this] { TokenizeLoop(); });
}

LlmEngineImpl::~LlmEngineImpl() {
  {
    std::lock_guard lock(live_mutex_);
    for (const auto& [id, live] : live_) live.request->cancelled = true;
  }
  text_jobs_.Close();
  text_thread_.join();
  core_->Stop();
  outputs_.reset();
  core_.reset();
}

std::shared_ptr<Request> LlmEngineImpl::MakeRequest(const RequestParams& params) const {
  auto request = std::make_shared<Request>();
  request->task = params.task;
  request->pooling = parts_.info.pooling;
  if (params.timeout_s > 0) request->deadline_s = NowSeconds() + params.timeout_s;
  request->sampling = params.sampling;
  request->returns_logprobs = params.sampling.logprobs.has_value();
  if (params.sampling.best_of.value_or(0) > params.sampling.n) {
    request->num_returned = params.sampling.n;
    request->sampling.n = *params.sampling.best_of;
    request->sampling.logprobs = params.sampling.logprobs.value_or(0);
  }
  request->stop_token_ids = params.sampling.stop_token_ids;
  if (!params.sampling.ignore_eos) {
    request->stop_token_ids.insert(request->stop_token_ids.end(), parts_.info.eos_token_ids.begin(),
                                   parts_.info.eos_token_ids.end());
  }
  request->priority = params.priority;
  request->client = params.client;
  request->cache_salt = params.cache_salt;
  return request;
}

Result<RequestId> LlmEngineImpl::AddRequest(RequestParams params, OutputCallback on_output) {
  if (params.task == TaskKind::kEmbed) {
    params.sampling = {};
    params.sampling.max_tokens = 0;
  }
  GALE_RETURN_IF_ERROR(CheckParams(params));
  GALE_ASSIGN_OR_RETURN(params.sampling, ResolveSampling(std::move(params.sampling), parts_.info,
                                                         parts_.tokenizer.get()));
  const std::shared_ptr<Request> request = MakeRequest(params);
  auto* tokens = std::get_if<std::vector<TokenId>>(&params.prompt);
  if (tokens != nullptr) {
    GALE_RETURN_IF_ERROR(CheckPrompt(*tokens, params.sampling));
    request->prompt = std::move(*tokens);
  }
  GALE_RETURN_IF_ERROR(Register(request));
  const RequestId id = request->id;
  outputs_->Add(request, std::move(on_output));
  if (tokens != nullptr) {
    Submit(request);
  } else {
    text_jobs_.Push({.request = request,
                     .text = std::move(std::get<std::string>(params.prompt)),
                     .options = {.add_special_tokens = params.add_special_tokens,
                                 .parse_special = params.parse_special}});
  }
  return id;
}

/// Under live_mutex_.
Status LlmEngineImpl::CheckRoom(size_t num_requests) const {
  const auto limit = static_cast<size_t>(parts_.config.max_queued_requests) +
                     static_cast<size_t>(parts_.config.max_num_seqs);
  const int max_tokens = parts_.config.max_queued_tokens;
  if (max_tokens > 0 && num_live_tokens_ >= max_tokens) {
    return MakeError(ErrorCode::kResourceExhausted,
                     fmt::format("the queue is full: unfinished requests have {} prompt tokens "
                                 "(max_queued_tokens {}); try again later",
                                 num_live_tokens_, max_tokens));
  }
  if (live_.size() + num_requests <= limit) return {};
  return MakeError(ErrorCode::kResourceExhausted,
                   fmt::format("the queue is full: {} requests are unfinished "
                               "(max_queued_requests {}); try again later",
                               live_.size(), parts_.config.max_queued_requests));
}

Status LlmEngineImpl::CheckQueue(int num_requests) const {
  std::lock_guard lock(live_mutex_);
  return CheckRoom(static_cast<size_t>(num_requests));
}

/// Gives the request its id, unless the queue is full.
Status LlmEngineImpl::Register(const std::shared_ptr<Request>& request) {
  std::lock_guard lock(live_mutex_);
  GALE_RETURN_IF_ERROR(CheckRoom(1));
  request->id = next_id_++;
  if (!request->sampling.seed) {
    request->sampling.seed = DeriveSeed(parts_.config.seed, request->id);
  }
  const auto num_tokens = static_cast<int64_t>(request->prompt.size());
  live_.emplace(request->id, Live{request, num_tokens});
  num_live_tokens_ += num_tokens;
  return {};
}

void LlmEngineImpl::OnFinished(RequestId id) {
  std::lock_guard lock(live_mutex_);
  const auto found = live_.find(id);
  num_live_tokens_ -= found->second.counted_tokens;
  live_.erase(found);
}

void LlmEngineImpl::Cancel(RequestId id) {
  {
    std::lock_guard lock(live_mutex_);
    const auto found = live_.find(id);
    if (found == live_.end()) return;
    found->second.request->cancelled = true;
  }
  core_->Wake();
}

void LlmEngineImpl::TokenizeLoop() {
  while (std::optional<TextJob> job = text_jobs_.Pop()) {
    Request& request = *job->request;
    if (request.cancelled) {
      outputs_->End(request.id, FinishReason::kCancelled);
      continue;
    }
    request.prompt = parts_.tokenizer->Encode(job->text, job->options);
    if (Status checked = CheckPrompt(request.prompt, request.sampling); !checked) {
      outputs_->End(request.id, FinishReason::kError, std::move(checked).error());
    } else {
      Submit(std::move(job->request));
    }
  }
}

/// Hands a checked request to the scheduler, unless there is nothing to compute.
void LlmEngineImpl::Submit(std::shared_ptr<Request> request) {
  const SamplingParams& sampling = request->sampling;
  const bool embeds = request->task == TaskKind::kEmbed;
  if (sampling.max_tokens == 0 && !sampling.prompt_logprobs && !embeds) {
    outputs_->End(request->id, FinishReason::kLength);
  } else {
    core_->Add(std::move(request));
  }
}

Status LlmEngineImpl::CheckParams(const RequestParams& params) const {
  GALE_RETURN_IF_ERROR(params.sampling.Validate());
  GALE_RETURN_IF_ERROR(CheckSpeculative(params.sampling.speculative, parts_.config.speculative));
  if (parts_.tokenizer == nullptr) {
    if (std::holds_alternative<std::string>(params.prompt)) {
      return tl::unexpected(InvalidArgument(
          "prompt: this model has no tokenizer, so prompts must be token ids; got text"));
    }
  }
  return {};
}

Status LlmEngineImpl::CheckPrompt(const std::vector<TokenId>& prompt,
                                  const SamplingParams& sampling) const {
  if (prompt.empty()) {
    return tl::unexpected(InvalidArgument("prompt: expected at least one token, got none"));
  }
  for (const TokenId token : prompt) {
    GALE_RETURN_IF_ERROR(CheckTokenId("prompt", token, parts_.info.vocab_size));
  }
  const int room = parts_.config.max_model_len - (sampling.max_tokens > 0 ? 1 : 0);
  if (prompt.size() > static_cast<size_t>(room)) {
    return tl::unexpected(InvalidArgument(
        fmt::format("prompt has {} tokens, the model's context holds {} with those to be generated "
                    "(max_model_len); shorten the prompt",
                    prompt.size(), parts_.config.max_model_len)));
  }
  return {};
}

std::vector<RequestOutput> LlmEngineImpl::Generate(std::vector<RequestParams> requests) {
  return GenerateAll(*this, std::move(requests));
}

EngineStats LlmEngineImpl::stats() const {
  EngineStats stats = core_->stats();
  stats.mapped_bytes = parts_.mapped_bytes;
  stats.private_bytes = parts_.private_bytes;
  return stats;
}

EngineMetrics LlmEngineImpl::metrics() const {
  EngineMetrics metrics = outputs_->metrics();
  metrics.step_tokens = core_->step_tokens();
  return metrics;
}

}  // namespace

std::unique_ptr<LlmEngine> StartEngine(EngineParts parts) {
  return std::make_unique<LlmEngineImpl>(std::move(parts));
}

}  // namespace gale
