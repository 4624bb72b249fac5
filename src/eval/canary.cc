// A quantized weight through the device's kernel and through plain arithmetic: whether a model that
// was just loaded computes what its checkpoint says.
#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "backend/registry.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "gale/eval.h"
#include "gale/model_info.h"
#include "models/model_source.h"
#include "quant/dequantize.h"
#include "quant/merged_weight.h"
#include "weights/float_convert.h"
#include "weights/weight_loader.h"

namespace gale {
namespace {

constexpr const char* kLayer = "model.layers.0.self_attn.o_proj";
constexpr int64_t kRows = 4;
constexpr int64_t kMostOutputs = 256;
/// Kernels round activations to 8 bits, which costs e4m3 about 3%; codes in a wrong order are as
/// far from right as random ones.
constexpr double kTolerance = 0.1;

struct Rows {
  std::vector<std::byte> bytes;  ///< [kRows, in] of the model's dtype
  std::vector<float> values;     ///< the same numbers
};

Rows RandomRows(int64_t in, DType dtype) {
  const auto count = static_cast<size_t>(kRows * in);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(2 * UniformDouble(1, i, 0) - 1);
  }
  Rows rows{std::vector<std::byte>(count * DTypeBytes(dtype)), std::vector<float>(count)};
  ConvertElements(std::as_bytes(std::span(values)), DType::kF32,
                  TensorView(rows.bytes.data(), dtype, {kRows, in}));
  ConvertElements(rows.bytes, dtype, TensorView(rows.values.data(), DType::kF32, {kRows, in}));
  return rows;
}

/// [kRows, out] f32 of the device.
Result<std::vector<float>> RunKernel(BindContext& context, const LinearKernel& kernel,
                                     const LinearWeight& weight, const Rows& rows, DType dtype) {
  GALE_ASSIGN_OR_RETURN(const PackedLinear packed, kernel.Prepare(weight));
  std::vector<float> result(static_cast<size_t>(kRows * weight.out));
  const size_t result_bytes = result.size() * sizeof(float);
  GALE_ASSIGN_OR_RETURN(const Buffer x,
                        context.backend.Allocate(rows.bytes.size(), MemoryKind::kDevice));
  GALE_ASSIGN_OR_RETURN(const Buffer out,
                        context.backend.Allocate(result_bytes, MemoryKind::kDevice));
  context.backend.Copy(context.stream, x.data(), rows.bytes.data(), rows.bytes.size());
  kernel.Run(context.stream, {.x = TensorView(x.data(), dtype, {kRows, weight.in}),
                              .weight = &packed,
                              .bias = {},
                              .out = TensorView(out.data(), DType::kF32, {kRows, weight.out})});
  context.backend.Copy(context.stream, result.data(), out.data(), result_bytes);
  GALE_RETURN_IF_ERROR(context.stream.Synchronize());
  return result;
}

/// The distance from plain sums over the dequantized weight, as a share of their magnitude; some
/// outputs of every row.
double RelativeError(const LinearWeight& weight, const Rows& rows,
                     const std::vector<float>& result) {
  const int64_t outputs = std::min(kMostOutputs, weight.out);
  std::vector<float> elements(static_cast<size_t>(weight.in));
  double difference = 0;
  double magnitude = 0;
  for (int64_t i = 0; i < outputs; ++i) {
    const int64_t output = i * weight.out / outputs;
    DequantizeRow(weight, output, elements);
    for (int64_t row = 0; row < kRows; ++row) {
      double sum = 0;
      for (int64_t j = 0; j < weight.in; ++j) {
        sum += static_cast<double>(elements[static_cast<size_t>(j)]) *
               rows.values[static_cast<size_t>(row * weight.in + j)];
      }
      const double error = sum - result[static_cast<size_t>(row * weight.out + output)];
      difference += error * error;
      magnitude += sum * sum;
    }
  }
  return magnitude > 0 ? std::sqrt(difference / magnitude) : std::sqrt(difference);
}

}  // namespace

Result<std::string> CheckQuantizedKernels(const EngineConfig& config) {
  GALE_ASSIGN_OR_RETURN(const std::string folder, ResolveModel(config.model, config.load_format));
  if (config.load_format == LoadFormat::kDummy) return "";
  GALE_ASSIGN_OR_RETURN(const ModelSource source, ReadModelSource(folder));
  const HfConfig& model = source.config;
  if (model.quant_method == "none" || source.folder.empty()) return "";
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<const Checkpoint> checkpoint, Checkpoint::Open(folder));
  GALE_ASSIGN_OR_RETURN(const auto scheme, MakeQuantScheme(model, checkpoint.get()));

  const DType dtype = ResolveDType(config.dtype, DType::kBf16);
  const int head_dim = model.mla.kv_lora_rank > 0 ? model.mla.v_head_dim : model.head_dim;
  const LinearShape shape{int64_t{model.num_heads} * head_dim, model.hidden_size, dtype};
  const MergedWeight merged(*scheme, shape, {{kLayer, shape.out}});
  if (!merged.is_quantized()) return "";
  GALE_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend,
                        CreateBackend(config.device, {.threads = config.threads}));
  const Numerics by_device =
      backend->info().name == "cpu" ? Numerics::kBatchInvariant : Numerics::kFast;
  ParamBuilder builder(dtype, config.numerics.value_or(by_device));
  builder.IgnorePrefix("");
  double error = 0;
  merged.Declare(builder, [&](BindContext& context, std::vector<RawParam> raw) -> Status {
    const auto find = [&](const QuantFormat& which) {
      return context.backend.FindLinear(builder.Key({which, shape.in, shape.out}));
    };
    GALE_ASSIGN_OR_RETURN(const CanonicalWeight made,
                          merged.Bind(context, raw, [&](const QuantFormat& which) {
                            return find(which) != nullptr;
                          }));
    const LinearKernel* kernel = find(made.weight.format);
    if (kernel == nullptr) return {};  // loading has said so
    const Rows rows = RandomRows(shape.in, dtype);
    GALE_ASSIGN_OR_RETURN(const std::vector<float> result,
                          RunKernel(context, *kernel, made.weight, rows, dtype));
    error = RelativeError(made.weight, rows, result);
    return {};
  });
  GALE_RETURN_IF_ERROR(LoadWeights(builder, std::move(checkpoint), *backend, {}));
  if (error <= kTolerance) return "";  // not for what is no number
  return fmt::format(
      "{}: device '{}' computes with its {} weights otherwise than they are written ({} is {:.0f}% "
      "off, expected at most {:.0f}%): its replies cannot be trusted; try another --device",
      config.model, backend->info().name, model.quant_method, kLayer, 100 * error,
      100 * kTolerance);
}

}  // namespace gale
