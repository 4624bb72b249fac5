// How checkpoints store the weights of linear layers: the only place that knows a quantization
// format's tensor names and bit order. Layer L2 of the compute column; used by nn/linear.
// A new format is one file beside none.cc that registers itself.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "gale/status.h"
#include "weights/param_builder.h"

namespace gale {

struct LinearShape {
  int64_t in = 0;
  int64_t out = 0;
  DType dtype = DType::kBf16;  ///< the model's; plain weights take it
};

/// One tensor of a linear layer in the checkpoint.
struct QuantParam {
  std::string suffix;          ///< after the layer's name, ".weight"
  std::vector<int64_t> shape;  ///< output features first, so that layers can be merged by stacking
  DType dtype = DType::kBf16;
  bool may_be_blocks = false;  ///< as in ParamSpec
};

class QuantScheme {
 public:
  virtual ~QuantScheme() = default;
  virtual std::string_view name() const = 0;  ///< quantization_config.quant_method
  virtual std::vector<QuantParam> Params(const LinearShape& shape) const = 0;
  /// `raw` holds Params(shape) in order; the result may point into it.
  virtual Result<LinearWeight> Canonicalize(const LinearShape& shape,
                                            std::span<const RawParam> raw) const = 0;
  /// The blocks that the plain weight of the layer called so is made into while it loads; kNone: it
  /// stays as it is.
  virtual GgmlType QuantizedType(const LinearShape&, std::string_view) const {
    return GgmlType::kNone;
  }
};

/// The layer that makes the logits, also where its weight is the embedding table.
inline constexpr std::string_view kHeadName = "lm_head";

/// Called by static initializers; a duplicate name is fatal. `scheme` lives for ever.
bool RegisterQuantScheme(const QuantScheme* scheme);
std::vector<std::string> QuantSchemeNames();  ///< sorted
/// Errors: kUnsupported, listing the known names.
Result<const QuantScheme*> FindQuantScheme(std::string_view name);

}  // namespace gale
