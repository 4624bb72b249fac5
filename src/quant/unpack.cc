#include "quant/unpack.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/status_macros.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace gale {
namespace {

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBf16;
}

float FloatAt(const TensorView& view, int64_t i) {
  if (view.dtype == DType::kF32) return view.As<float>()[i];
  return view.dtype == DType::kF16 ? ToFloat(view.As<F16>()[i]) : ToFloat(view.As<Bf16>()[i]);
}

}  // namespace

Result<bool> BoolOr(const JsonObject& object, std::string_view key, bool otherwise) {
  const auto value = object.Find(key);
  if (!value) return otherwise;
  return value->Bool();
}

Result<std::string_view> StringOr(const JsonObject& object, std::string_view key,
                                  std::string_view otherwise) {
  const auto value = object.Find(key);
  if (!value) return otherwise;
  return value->String();
}

Result<std::string_view> Choice(const JsonValue& value, std::vector<std::string_view> choices) {
  GALE_ASSIGN_OR_RETURN(const std::string_view word, value.String());
  if (std::ranges::find(choices, word) != choices.end()) return word;
  return tl::unexpected(NotSupported(value, fmt::format("\"{}\"", fmt::join(choices, "\" or \""))));
}

Status OneOf(const JsonValue& value, std::vector<int64_t> numbers) {
  GALE_ASSIGN_OR_RETURN(const int64_t number, value.Int());
  if (std::ranges::find(numbers, number) != numbers.end()) return {};
  return tl::unexpected(NotSupported(value, fmt::format("{}", fmt::join(numbers, " or "))));
}

Error NotSupported(const JsonValue& value, std::string_view expected) {
  Error error = value.Wrong(expected);
  error.code = ErrorCode::kUnsupported;
  error.message += " (nothing else is supported)";
  return error;
}

Result<int64_t> GroupSize(const JsonValue& value, int64_t multiple) {
  constexpr int64_t kMost = int64_t{1} << 20;
  GALE_ASSIGN_OR_RETURN(const int64_t size, value.Int(-1, kMost));
  if (size == -1) return 0;
  if (size > 0 && size % multiple == 0) return size;
  return tl::unexpected(value.Wrong(fmt::format("-1 or a multiple of {}", multiple)));
}

Result<ScaleBlock> BlockSize(const JsonValue& value) {
  constexpr int64_t kMost = int64_t{1} << 20;
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> sizes, value.Items());
  if (sizes.size() != 2) return tl::unexpected(value.Wrong("[rows, columns]"));
  ScaleBlock block;
  GALE_ASSIGN_OR_RETURN(block.out, sizes[0].Int(1, kMost));
  GALE_ASSIGN_OR_RETURN(block.in, sizes[1].Int(1, kMost));
  return block;
}

Result<PlainLayers> PlainLayers::Read(const QuantSource& source, std::vector<std::string_view> keys,
                                      std::string quantized) {
  PlainLayers layers;
  layers.checkpoint_ = source.checkpoint;
  layers.quantized_ = std::move(quantized);
  for (const std::string_view key : keys) {
    const auto value = source.config.Find(key);
    if (!value) continue;
    GALE_RETURN_IF_ERROR(layers.names_.AddAll(*value));
  }
  return layers;
}

bool PlainLayers::Has(std::string_view layer) const {
  if (checkpoint_ != nullptr) {
    const std::string name(layer);
    if (checkpoint_->Find(name + quantized_) != nullptr) return false;
    const CheckpointTensor* weight = checkpoint_->Find(name + ".weight");
    if (weight != nullptr && weight->dtype && IsFloat(*weight->dtype)) return true;
  }
  return (has_head_ && layer == kHeadName) || names_.Has(layer);
}

Status CopyScales(const RawParam& scales, std::string_view name, Order order,
                  const TensorView& out) {
  const int64_t rows = out.dim(0);
  const int64_t columns = out.dim(1);
  auto* target = out.As<float>();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t at = order == Order::kSame ? row * columns + column : column * rows + row;
      const float scale = FloatAt(scales.view, at);
      if (!std::isfinite(scale) || scale <= 0) {
        return WrongValue(name, fmt::format("expected scales that are positive numbers, got {} at "
                                            "[{}, {}]",
                                            scale, order == Order::kSame ? row : column,
                                            order == Order::kSame ? column : row));
      }
      target[row * columns + column] = scale;
    }
  }
  return {};
}

tl::unexpected<Error> WrongValue(std::string_view tensor, std::string_view what) {
  return MakeError(ErrorCode::kDataCorrupt, fmt::format("{}: {}", tensor, what));
}

}  // namespace gale
