// What checkpoint formats have in common when their tensors are read: lists of layers left plain,
// scales, and packed integers. Used by the formats of this folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "gale/status.h"
#include "quant/layer_filter.h"
#include "quant/quant_scheme.h"

namespace gale {

/// An optional member: `otherwise` when it is absent or null.
Result<bool> BoolOr(const JsonObject& object, std::string_view key, bool otherwise);
Result<std::string_view> StringOr(const JsonObject& object, std::string_view key,
                                  std::string_view otherwise);
/// Of one of `choices`. Errors: kUnsupported naming them.
Result<std::string_view> Choice(const JsonValue& value, std::vector<std::string_view> choices);
/// Errors: kUnsupported unless the value is one of these numbers.
Status OneOf(const JsonValue& value, std::vector<int64_t> numbers);
/// The kUnsupported error of a value.
Error NotSupported(const JsonValue& value, std::string_view expected);
/// "group_size": -1 (given back as 0: all inputs share a scale) or a multiple of `multiple`.
Result<int64_t> GroupSize(const JsonValue& value, int64_t multiple);

/// "weight_block_size": [128, 128].
Result<ScaleBlock> BlockSize(const JsonValue& value);

/// Layers that are plain though the rest of a checkpoint is quantized. Where there is a checkpoint
/// its tensors tell; otherwise, for dummy weights, lists of names.
class PlainLayers {
 public:
  /// `keys` of the quantization_config are arrays of strings, null or absent; `quantized` is what a
  /// quantized layer has in place of, or beside, ".weight".
  static Result<PlainLayers> Read(const QuantSource& source, std::vector<std::string_view> keys,
                                  std::string quantized);

  /// Without a checkpoint the head is plain, which most formats take for granted.
  void AddHead() { has_head_ = true; }
  bool Has(std::string_view layer) const;

 private:
  const Checkpoint* checkpoint_ = nullptr;
  std::string quantized_;
  LayerFilter names_;
  bool has_head_ = false;
};

/// Where numbers of a tensor end up: entry [row, column] of the tensor is [column, row] there.
enum class Order : uint8_t { kSame, kTransposed };

/// Copies scales, any float dtype, into f32. Errors: kDataCorrupt naming the first that is not
/// finite, or not positive, and its place; `name`: of the tensor.
Status CopyScales(const RawParam& scales, std::string_view name, Order order,
                  const TensorView& out);

/// The kDataCorrupt error of a tensor's value.
tl::unexpected<Error> WrongValue(std::string_view tensor, std::string_view what);

}  // namespace gale
