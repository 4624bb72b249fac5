// Runs a calibration text through the plain model and gathers what its linear layers are given.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "gale/engine_config.h"
#include "gale/sampling_params.h"
#include "gale/status.h"
#include "models/load_model.h"
#include "models/sequence_runner.h"
#include "quantize/input_statistics.h"
#include "quantize/observing_backend.h"

namespace gale {

/// Projections that read the same inputs, as the model runs them.
struct LinearInputs {
  std::vector<std::string> names;  ///< of the projections, without ".weight"
  int64_t in = 0;
};

class Calibrator {
 public:
  /// Loads the model of the folder on `device`. `sequences` are of equal length, and outlive this.
  /// Errors: those of loading.
  static Result<std::unique_ptr<Calibrator>> Create(
      const std::string& folder, const std::string& device, int threads,
      std::span<const std::vector<TokenId>> sequences);

  /// Of all of the model's plain linear layers, in the order of the model.
  const std::vector<LinearInputs>& inputs() const { return inputs_; }
  static size_t Bytes(const LinearInputs& inputs, StatisticsKind kind);
  /// One pass of all sequences; statistics of the inputs at `which`, in that order. `progress` is
  /// given sequences done and in total.
  Result<std::vector<InputStatistics>> Collect(
      std::span<const size_t> which, StatisticsKind kind,
      const std::function<void(uint64_t, uint64_t)>& progress);
  /// As RmsNormArgs has it; known after Collect.
  float norm_weight_offset() const { return backend_->norm_weight_offset(); }

 private:
  Calibrator(std::unique_ptr<Backend> device, std::span<const std::vector<TokenId>> sequences);
  Status Load(const std::string& folder);
  void Observe(Stream& stream, const void* weight, const TensorView& rows);

  std::span<const std::vector<TokenId>> sequences_;
  std::unique_ptr<Backend> device_;
  std::unique_ptr<ObservingBackend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<SequenceRunner> runner_;
  ThreadPool threads_;
  std::vector<LinearInputs> inputs_;
  std::unordered_map<const void*, size_t> index_of_;  ///< packed weight -> of inputs_
  // Of one Collect.
  StatisticsKind kind_ = StatisticsKind::kNone;
  std::unordered_map<size_t, InputStatistics> statistics_;
  Status status_;
};

/// `count` stretches of `length` tokens that do not overlap, drawn from `tokens` by `seed`.
/// Errors: kInvalidArgument when there are not so many.
Result<std::vector<std::vector<TokenId>>> DrawSequences(std::span<const TokenId> tokens, int count,
                                                        int length, uint64_t seed);

}  // namespace gale
