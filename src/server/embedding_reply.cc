#include "server/embedding_reply.h"

#include <bit>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/evp.h>

#include "server/sse.h"

namespace gale::server {

std::vector<float> Shortened(std::vector<float> vector, int dimensions) {
  if (dimensions == 0 || vector.size() <= static_cast<size_t>(dimensions)) return vector;
  vector.resize(static_cast<size_t>(dimensions));
  double squares = 0;
  for (const float value : vector) squares += static_cast<double>(value) * value;
  if (squares == 0) return vector;
  for (float& value : vector) value = static_cast<float>(value / std::sqrt(squares));
  return vector;
}

std::string JsonNumbers(std::span<const float> values) {
  return fmt::format("[{}]", fmt::join(values, ","));
}

std::string Base64Floats(std::span<const float> values) {
  static_assert(std::endian::native == std::endian::little);
  const std::span<const std::byte> bytes = std::as_bytes(values);
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // it writes an end as well
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(length));
  return text;
}

EmbeddingReply::EmbeddingReply(LlmEngine& engine, ServerMetrics& metrics,
                               std::shared_ptr<HttpExchange> exchange, EmbeddingRequest request,
                               std::vector<std::vector<TokenId>> inputs)
    : engine_(engine),
      metrics_(metrics),
      exchange_(std::move(exchange)),
      request_(std::move(request)),
      inputs_(std::move(inputs)),
      ids_(inputs_.size()),
      vectors_(inputs_.size()),
      num_unfinished_(inputs_.size()) {
  for (const std::vector<TokenId>& input : inputs_) {
    usage_.prompt_tokens += static_cast<int>(input.size());
  }
}

void EmbeddingReply::Start() {
  for (size_t i = 0; i < ids_.size(); ++i) {
    RequestParams params;
    params.task = TaskKind::kEmbed;
    params.client = exchange_->key_name();
    params.timeout_s = request_.timeout_s;
    params.cache_salt = request_.cache_salt;
    params.priority = request_.priority;
    {
      const std::lock_guard lock(mutex_);
      if (done_) return;
      params.prompt = std::move(inputs_[i]);
    }
    // Not under the lock, which the callback takes on another thread.
    const Result<RequestId> id = engine_.AddRequest(
        std::move(params),
        [self = shared_from_this(), i](const RequestOutput& output) { self->OnOutput(i, output); });
    const std::lock_guard lock(mutex_);
    if (!id) return Fail(FromEngine(id.error(), /*was_queued=*/false));
    ids_[i] = *id;
    if (done_) engine_.Cancel(*id);
  }
  exchange_->OnGone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      const std::lock_guard lock(self->mutex_);
      self->CancelAll();
    }
  });
}

void EmbeddingReply::OnOutput(size_t input, const RequestOutput& output) {
  const std::lock_guard lock(mutex_);
  if (done_ || !output.finished) return;
  if (output.error) return Fail(FromEngine(*output.error, /*was_queued=*/true));
  if (output.embedding.empty()) {
    return Fail(Unavailable("The server is shutting down; try again"));
  }
  usage_.cached_tokens += output.cached_tokens;
  vectors_[input] = Shortened(output.embedding, request_.dimensions);
  if (--num_unfinished_ == 0) Finish();
}

void EmbeddingReply::Finish() {
  done_ = true;
  metrics_.CountTokens(exchange_->key_name(), usage_);
  std::string body = R"({"object":"list","data":[)";
  for (size_t i = 0; i < vectors_.size(); ++i) {
    const std::string embedding =
        request_.is_base64 ? '"' + Base64Floats(vectors_[i]) + '"' : JsonNumbers(vectors_[i]);
    fmt::format_to(std::back_inserter(body),
                   R"({}{{"object":"embedding","index":{},"embedding":{}}})", i == 0 ? "" : ",", i,
                   embedding);
  }
  body += R"(],"model":)";
  AppendJsonString(request_.model, body);
  fmt::format_to(std::back_inserter(body),
                 R"(,"usage":{{"prompt_tokens":{0},"total_tokens":{0}}}}})", usage_.prompt_tokens);
  exchange_->Send({.body = std::move(body)});
}

void EmbeddingReply::Fail(const ApiError& error) {
  CancelAll();
  exchange_->Send(ErrorResponse(error));
}

void EmbeddingReply::CancelAll() {
  done_ = true;
  for (const RequestId id : ids_) {
    if (id != 0) engine_.Cancel(id);
  }
}

}  // namespace gale::server
