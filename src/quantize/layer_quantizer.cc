#include "quantize/layer_quantizer.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "quantize/awq.h"
#include "quantize/gptq.h"
#include "quantize/smooth_quant.h"
#include "weights/float_convert.h"

namespace gale {
namespace {

constexpr std::string_view kWeight = ".weight";

std::string LayerOf(const std::string& tensor) {
  return tensor.substr(0, tensor.size() - kWeight.size());
}

bool IsInDecoder(const CheckpointTensor& tensor) {
  return tensor.shape.size() == 2 && tensor.name.ends_with(kWeight) &&
         tensor.name.find("layers.") != std::string::npos;
}

/// As [rows, columns]; a vector is one row.
Matrix ToMatrix(const CheckpointTensor& tensor) {
  const bool is_vector = tensor.shape.size() == 1;
  const int64_t rows = is_vector ? 1 : tensor.shape[0];
  const int64_t columns = tensor.shape.back();
  Matrix matrix(rows, columns);
  ConvertElements(tensor.data, *tensor.dtype,
                  TensorView(matrix.data(), DType::kF32, {rows, columns}));
  return matrix;
}

OutputTensor ToTensor(const CheckpointTensor& tensor, const Matrix& matrix) {
  return {tensor.name, tensor.dtype_name, tensor.shape,
          ToBytes({matrix.data(), static_cast<size_t>(matrix.size())}, *tensor.dtype)};
}

/// Divides what makes the inputs by `scales`, of which those with one producer are equal.
void ScaleProducer(std::map<std::string, Matrix>& tensors, const Fold& fold, const Vector& scales,
                   float norm_weight_offset) {
  Vector by_producer = Vector::Ones(*std::ranges::max_element(fold.map) + 1);
  for (size_t i = 0; i < fold.map.size(); ++i) {
    by_producer[fold.map[i]] = scales[static_cast<int64_t>(i)];
  }
  Matrix& weight = tensors.at(fold.producer + ".weight");
  if (fold.is_norm) {
    const auto whole = weight.row(0).array() + norm_weight_offset;
    weight.row(0) = (whole / by_producer.transpose().array() - norm_weight_offset).matrix().eval();
  } else {
    weight.middleRows(fold.first_row, by_producer.size()).array().colwise() /= by_producer.array();
  }
  const auto bias = tensors.find(fold.producer + ".bias");
  if (bias != tensors.end()) {
    bias->second.row(0).segment(fold.first_row, by_producer.size()).array() /=
        by_producer.transpose().array();
  }
}

void ScaleStatistics(InputStatistics& statistics, const Vector& scales) {
  const Vector inverse = scales.cwiseInverse();
  statistics.mean_abs.array() *= inverse.array();
  statistics.max_abs.array() *= inverse.array();
  if (statistics.gram.size() > 0) {
    statistics.gram = inverse.asDiagonal() * statistics.gram * inverse.asDiagonal();
  }
}

}  // namespace

bool IsPlainLinear(const CheckpointTensor& tensor) {
  if (!IsInDecoder(tensor)) return false;
  const std::string layer = LayerOf(tensor.name);
  for (const char* plain : {".gate", ".router", ".shared_expert_gate", ".kv_b_proj"}) {
    if (layer.ends_with(plain)) return true;
  }
  return false;
}

bool IsQuantizable(const CheckpointTensor& tensor) {
  return IsInDecoder(tensor) && !IsPlainLinear(tensor);
}

void LayerQuantizer::Rescale(Weights& weights, std::span<const Inputs> inputs,
                             float norm_weight_offset) const {
  const bool is_awq = scheme.method == QuantizeMethod::kAwq;
  for (const Inputs& one : inputs) {
    const LinearInputs& projections = *one.projections;
    const auto fold = FindFold(projections.names, projections.in, config, checkpoint);
    if (!fold || (!is_awq && !fold->is_norm)) continue;
    std::vector<Matrix*> readers;
    for (const std::string& name : projections.names)
      readers.push_back(&weights.at(name + ".weight"));
    const std::vector<const Matrix*> read_only(readers.begin(), readers.end());
    const Vector scales =
        is_awq ? FindAwqScales(read_only, *one.statistics, fold->map, format, threads)
               : FindSmoothingScales(read_only, *one.statistics, options.smoothing);
    for (Matrix* reader : readers) *reader = (*reader * scales.asDiagonal()).eval();
    ScaleProducer(weights, *fold, scales, norm_weight_offset);
    ScaleStatistics(*one.statistics, scales);
  }
  if (!is_awq) return;
  for (const Inputs& one : inputs) {
    for (const std::string& name : one.projections->names) {
      // Their product decides where attention looks: the paper's authors leave them as they are.
      if (name.ends_with(".q_proj") || name.ends_with(".k_proj")) continue;
      ClipGroups(weights.at(name + ".weight"), one.statistics->gram, format, threads);
    }
  }
}

Result<std::vector<OutputTensor>> LayerQuantizer::Pack(const std::string& name,
                                                       const Matrix& weight,
                                                       const InputStatistics* statistics) const {
  switch (scheme.container) {
    case QuantizeContainer::kAwq:
    case QuantizeContainer::kGptq:
    case QuantizeContainer::kPackedInt: break;
    default: return PackScaled(name, weight, scheme.container, scale_dtype);
  }
  if (scheme.method != QuantizeMethod::kGptq) {
    return PackIntegers(name, RoundToNearest(weight, format, threads), scheme.container);
  }
  const GptqOptions gptq{.act_order = options.act_order, .damping = options.damping};
  Result<IntegerWeight> codes = Gptq(weight, statistics->gram, format, gptq, threads);
  if (!codes) {
    return MakeError(codes.error().code, fmt::format("{}: {}", name, codes.error().message));
  }
  return PackIntegers(name, *codes, scheme.container);
}

Result<std::vector<OutputTensor>> LayerQuantizer::Quantize(
    std::span<const CheckpointTensor* const> tensors, std::span<const Inputs> inputs,
    float norm_weight_offset) const {
  std::map<std::string, const InputStatistics*> statistics_of;
  for (const Inputs& one : inputs) {
    for (const std::string& name : one.projections->names) statistics_of[name] = one.statistics;
  }
  const bool rescales =
      scheme.method == QuantizeMethod::kAwq || scheme.method == QuantizeMethod::kSmoothQuant;
  Weights weights;
  for (const CheckpointTensor* tensor : tensors) {
    const bool is_part = tensor->dtype && tensor->shape.size() <= 2 && !tensor->shape.empty();
    if (is_part && (rescales || IsQuantizable(*tensor))) weights[tensor->name] = ToMatrix(*tensor);
  }
  if (rescales) Rescale(weights, inputs, norm_weight_offset);

  std::vector<OutputTensor> results;
  for (const CheckpointTensor* tensor : tensors) {
    const auto weight = weights.find(tensor->name);
    if (weight == weights.end()) {
      results.push_back({tensor->name, tensor->dtype_name, tensor->shape, {}, tensor->data});
      continue;
    }
    if (!IsQuantizable(*tensor)) {
      results.push_back(ToTensor(*tensor, weight->second));
      continue;
    }
    const std::string name = LayerOf(tensor->name);
    const auto known = statistics_of.find(name);
    if (NeededStatistics(scheme) != StatisticsKind::kNone && known == statistics_of.end()) {
      return MakeError(ErrorCode::kUnsupported,
                       fmt::format("{} is not a layer that calibration sees; use a scheme without "
                                   "calibration, such as int4 or fp8",
                                   name));
    }
    const InputStatistics* statistics = known == statistics_of.end() ? nullptr : known->second;
    GALE_ASSIGN_OR_RETURN(std::vector<OutputTensor> packed, Pack(name, weight->second, statistics));
    std::ranges::move(packed, std::back_inserter(results));
    weights.erase(weight);
  }
  return results;
}

}  // namespace gale
