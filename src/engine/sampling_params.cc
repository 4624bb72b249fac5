#include "gale/sampling_params.h"

#include <cmath>

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr int kMaxSamples = 1024;
constexpr int kMaxLogprobs = 20;

template <class T>
Status OutOfRange(std::string_view field, std::string_view range, T value) {
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("{}: expected {}, got {}", field, range, value));
}

Status CheckLogprobs(std::string_view field, std::optional<int> count) {
  if (count && (*count < 0 || *count > kMaxLogprobs)) {
    return OutOfRange(field, fmt::format("a number in [0, {}]", kMaxLogprobs), *count);
  }
  return {};
}

}  // namespace

Status SamplingParams::Validate() const {
  // Written so that NaN fails: every comparison with it is false.
  if (!(temperature >= 0) || std::isinf(temperature)) {
    return OutOfRange("temperature", "a finite number >= 0", temperature);
  }
  if (top_k < 0) return OutOfRange("top_k", "a number >= 0 (0 = off)", top_k);
  if (!(top_p > 0 && top_p <= 1)) return OutOfRange("top_p", "a number in (0, 1]", top_p);
  if (!(min_p >= 0 && min_p <= 1)) return OutOfRange("min_p", "a number in [0, 1]", min_p);
  if (n < 1 || n > kMaxSamples) {
    return OutOfRange("n", fmt::format("a number in [1, {}]", kMaxSamples), n);
  }
  if (max_tokens < 0) return OutOfRange("max_tokens", "a number >= 0", max_tokens);
  for (const std::string& text : stop) {
    if (text.empty()) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "stop: expected strings of at least one byte, got an empty one");
    }
  }
  for (const TokenId token : stop_token_ids) {
    if (token < 0) return OutOfRange("stop_token_ids", "token ids >= 0", token);
  }
  GALE_RETURN_IF_ERROR(CheckLogprobs("logprobs", logprobs));
  return CheckLogprobs("prompt_logprobs", prompt_logprobs);
}

}  // namespace gale
