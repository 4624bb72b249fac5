#include "engine/engine_test_support.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "engine/generate.h"

namespace gale {
namespace {

void AppendUtf8(std::string& out, int code_point) {
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else {
    out += static_cast<char>(0xC0 | code_point >> 6);
    out += static_cast<char>(0x80 | (code_point & 0x3F));
  }
}

/// The byte-level alphabet of GPT-2: printable bytes stand for themselves, the others for U+0100
/// on.
std::string ByteSymbol(int byte) {
  const auto printable = [](int b) {
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
  };
  int code_point = byte;
  if (!printable(byte)) {
    code_point = 256;
    for (int b = 0; b < byte; ++b) code_point += printable(b) ? 0 : 1;
  }
  std::string symbol;
  AppendUtf8(symbol, code_point);
  return symbol;
}

}  // namespace

std::unique_ptr<Tokenizer> MakeByteTokenizer() {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string symbol = ByteSymbol(byte);
    if (symbol == "\"" || symbol == "\\") symbol.insert(0, "\\");
    vocab += fmt::format("{}\"{}\": {}", byte == 0 ? "" : ", ", symbol, byte);
  }
  const std::string json = fmt::format(
      R"({{"version": "1.0", "truncation": null, "padding": null,
  "added_tokens": [{{"id": {}, "content": "<eos>", "single_word": false, "lstrip": false,
                     "rstrip": false, "normalized": false, "special": true}}],
  "normalizer": null,
  "pre_tokenizer": {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                     "use_regex": true}},
  "post_processor": null,
  "decoder": {{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
               "use_regex": true}},
  "model": {{"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
             "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
             "vocab": {{{}}}, "merges": []}}}})",
      kFakeEos, vocab);
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromJson(json);
  if (!tokenizer) ADD_FAILURE() << tokenizer.error().message;
  return *std::move(tokenizer);
}

std::vector<TokenId> Bytes(const std::string& text) {
  std::vector<TokenId> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

TokenId HashNextToken(const std::vector<TokenId>& tokens, const SamplingParams& sampling,
                      int sample_index) {
  uint64_t hash =
      0xCBF29CE484222325U ^ sampling.seed.value_or(0) ^ static_cast<uint64_t>(sample_index) << 40;
  for (const TokenId token : tokens) {
    hash = (hash ^ static_cast<uint64_t>(token)) * 0x100000001B3U;
    hash ^= hash >> 29;
  }
  return static_cast<TokenId>(hash % 256);
}

NextToken Script(size_t num_prompt, const std::string& text) {
  return
      [num_prompt, script = Bytes(text)](const std::vector<TokenId>& tokens,
                                         const SamplingParams& /*sampling*/, int /*sample_index*/) {
        const size_t i = tokens.size() - num_prompt;
        return i < script.size() ? script[i] : kFakeEos;
      };
}

StepHandle FakeExecutor::Launch(const SchedulerOutput& plan) {
  for (const SeqId id : plan.finished) states_.erase(id);
  for (const SeqId id : plan.preempted) states_.erase(id);
  ModelRunnerOutput output;
  output.step = plan.step;
  Status status;
  if (fail_in_ >= 0 && fail_in_-- == 0) status = MakeError(ErrorCode::kDevice, "the device fell");
  for (const ScheduledSeq& scheduled : plan.seqs) {
    if (scheduled.first_time) {
      const NewSeqData& data = *scheduled.first_time;
      states_[scheduled.id] = {data.tokens, data.num_computed, data.sampling, data.sample_index};
    }
    const auto found = states_.find(scheduled.id);
    if (found == states_.end()) {
      status = MakeError(ErrorCode::kInternal, "unknown sequence");
      continue;
    }
    State& state = found->second;
    state.num_computed += scheduled.num_tokens;
    GALE_CHECK_LE(static_cast<size_t>(state.num_computed), state.tokens.size());
    SeqOutput& seq = output.seqs.emplace_back();
    seq.id = scheduled.id;
    if (!scheduled.sample) continue;
    GALE_CHECK_EQ(static_cast<size_t>(state.num_computed), state.tokens.size());
    seq.tokens.push_back(next_(state.tokens, state.sampling, state.sample_index));
    state.tokens.push_back(seq.tokens.back());
  }
  if (status) {
    done_.emplace_back(std::move(output));
  } else {
    for (const ScheduledSeq& scheduled : plan.seqs) states_.erase(scheduled.id);
    done_.emplace_back(tl::unexpected(status.error()));
  }
  return {plan.step};
}

void FakeExecutor::Sample(StepHandle /*handle*/, const SamplingInputs& /*inputs*/) {}

Result<ModelRunnerOutput> FakeExecutor::Collect(StepHandle /*handle*/) {
  GALE_CHECK(!done_.empty());
  Result<ModelRunnerOutput> output = std::move(done_.front());
  done_.pop_front();
  return output;
}

EngineParts FakeParts(std::unique_ptr<Executor> executor) {
  EngineParts parts;
  parts.config.model = "fake";
  parts.config.max_model_len = 128;
  parts.config.block_tokens = 4;
  parts.config.max_num_seqs = 8;
  parts.config.max_num_batched_tokens = 32;
  parts.info.vocab_size = kFakeVocab;
  parts.info.eos_token_ids = {kFakeEos};
  parts.tokenizer = MakeByteTokenizer();
  parts.executor = std::move(executor);
  parts.kv.groups.push_back({.num_layers = 1, .block_tokens = 4, .bytes_per_block = 1});
  parts.num_blocks = 129;
  return parts;
}

OutputCallback Outcome::callback() {
  return [this](const RequestOutput& output) {
    std::lock_guard lock(mutex_);
    ++num_outputs_;
    if (num_final_ > 0) ++num_after_final_;
    MergeOutput(output, whole_);
    if (output.finished) ++num_final_;
    changed_.notify_all();
  };
}

RequestOutput Outcome::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return num_final_ > 0; });
  return whole_;
}

}  // namespace gale
