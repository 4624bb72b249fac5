// One decoder layer: its weights in f32, what calibration says of their inputs, and the tensors
// that they become.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "gale/quantize.h"
#include "quantize/calibration.h"
#include "quantize/layer_folds.h"
#include "quantize/packing.h"
#include "weights/checkpoint.h"

namespace gale {

/// Whether a checkpoint's tensor is the weight of a linear layer inside a decoder layer, other than
/// a router or one that attention takes apart (MLA's kv_b_proj).
bool IsQuantizable(const CheckpointTensor& tensor);
/// A linear layer's weight that is not quantized all the same.
bool IsPlainLinear(const CheckpointTensor& tensor);

struct LayerQuantizer {
  const QuantizeScheme& scheme;
  const QuantizeOptions& options;
  const HfConfig& config;
  const Checkpoint& checkpoint;
  IntegerFormat format;
  DType scale_dtype = DType::kBf16;  ///< of containers that store scales in the model's dtype
  ThreadPool& threads;

  /// Projections of this layer with the statistics of what they read; empty for a scheme that does
  /// not calibrate. Statistics are used up.
  struct Inputs {
    const LinearInputs* projections;
    InputStatistics* statistics;
  };
  /// `norm_weight_offset` as RmsNormArgs has it.
  Result<std::vector<OutputTensor>> Quantize(std::span<const CheckpointTensor* const> tensors,
                                             std::span<const Inputs> inputs,
                                             float norm_weight_offset) const;

 private:
  using Weights = std::map<std::string, Matrix>;

  void Rescale(Weights& weights, std::span<const Inputs> inputs, float norm_weight_offset) const;
  Result<std::vector<OutputTensor>> Pack(const std::string& name, const Matrix& weight,
                                         const InputStatistics* statistics) const;
};

}  // namespace gale
