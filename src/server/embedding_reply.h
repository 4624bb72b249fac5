// Runs one embedding request and answers it. Layer L6; between the handlers and the engine's
// callbacks.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "gale/llm_engine.h"
#include "server/http_exchange.h"
#include "server/openai_answer.h"
#include "server/openai_protocol.h"
#include "server/server_metrics.h"

namespace gale::server {

/// One HTTP request with some inputs, each of which becomes a vector. Kept alive by the engine's
/// callbacks until the last final output.
class EmbeddingReply : public std::enable_shared_from_this<EmbeddingReply> {
 public:
  /// `engine` and `metrics` must outlive the last callback.
  EmbeddingReply(LlmEngine& engine, ServerMetrics& metrics, std::shared_ptr<HttpExchange> exchange,
                 EmbeddingRequest request, std::vector<std::vector<TokenId>> inputs);

  /// Hands the inputs to the engine; what it refuses becomes the answer. If the client goes, all of
  /// them are cancelled.
  void Start();

 private:
  void OnOutput(size_t input, const RequestOutput& output);
  void Finish();
  void Fail(const ApiError& error);
  void CancelAll();

  LlmEngine& engine_;
  ServerMetrics& metrics_;
  const std::shared_ptr<HttpExchange> exchange_;
  const EmbeddingRequest request_;

  std::mutex mutex_;  ///< of everything below: Start and the client's going meet the callbacks
  std::vector<std::vector<TokenId>> inputs_;
  std::vector<RequestId> ids_;
  std::vector<std::vector<float>> vectors_;
  size_t num_unfinished_;
  Usage usage_;
  bool done_ = false;  ///< answered, or nobody is there to read it
};

/// The first `dimensions` elements, of length one again; 0: all. For models that were trained so
/// that the first ones say the most (arXiv:2205.13147).
std::vector<float> Shortened(std::vector<float> vector, int dimensions);

/// "[0.25,-1]"
std::string JsonNumbers(std::span<const float> values);
/// The base64 of little-endian floats.
std::string Base64Floats(std::span<const float> values);

}  // namespace gale::server
