// Batches of draws with equal parameters, and the probabilities that they should have.
#pragma once

#include <cstdint>
#include <vector>

#include "conformance/test_device.h"

namespace gale::test {

struct Filters {
  double temperature = 1;
  int top_k = 0;
  double top_p = 1;
  double min_p = 0;
  std::vector<int> forbidden = {};  ///< by the bitmask
  double top_n_sigma = 0;
  double typical_p = 1;
  double xtc_probability = 0;
  double xtc_threshold = 0;
  double mirostat_tau = 0;
  double mirostat_eta = 0;
  double mirostat_mu = 0;  ///< before the draw

  bool has_rare() const {
    return top_n_sigma > 0 || typical_p < 1 || xtc_probability > 0 || mirostat_tau > 0;
  }
};

/// Filters in the documented order, by full sorts in f64; mirostat's cut is left out if so wanted.
std::vector<double> ExactProbabilities(const std::vector<double>& logits, const Filters& filters,
                                       bool with_mirostat = true);

/// Parameters of `rows` equal rows but for their counters, which begin at `first`. Row r has slot
/// r.
class SampleBatch {
 public:
  SampleBatch(Device& device, const HostTensor& logits, const Filters& filters, uint64_t seed,
              int64_t first);

  /// Tokens also go to last_tokens.
  void Scatter(const TensorView& slots, const TensorView& last_tokens) {
    args_.slots = slots;
    args_.last_tokens = last_tokens;
  }
  /// Columns stand for these.
  void UseTokenIds(const TensorView& token_ids) { args_.token_ids = token_ids; }
  /// Rows of the rare filters although this batch may use none of them.
  void AddRareFilters(const Filters& filters);

  std::vector<int64_t> Draw();
  /// Mirostat's state after Draw: what the table has, which is what was handed out.
  std::vector<double> Mu();

 private:
  const TensorView& Upload(const HostTensor& tensor, int64_t row_padding = 0);
  const TensorView& Constant(DType dtype, double value);

  Device& device_;
  int64_t rows_;
  std::vector<DeviceTensor> tensors_;
  SampleArgs args_;
};

HostTensor Repeat(const std::vector<double>& row, int64_t rows);
std::vector<double> RandomLogits(size_t vocab, double deviation, uint64_t seed);
/// How often each token is drawn.
std::vector<int64_t> CountDraws(Device& device, const std::vector<double>& logits,
                                const Filters& filters, int64_t draws);

/// A test fails at lower p; with fixed seeds it always does or never.
inline constexpr double kSignificance = 1e-4;

}  // namespace gale::test
