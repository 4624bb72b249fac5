// The weight of a linear layer whose parts a checkpoint stores each in its own way. Layer L2 of the
// compute column; used by nn/.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "quant/canonical_weight.h"
#include "quant/quant_scheme.h"

namespace gale {

/// One projection of the checkpoint; the layer's output is theirs side by side, in order.
struct LinearPart {
  std::string name;  ///< without ".weight"
  int64_t out = 0;
};

class MergedWeight {
 public:
  /// `shape` is the whole's. `scheme` outlives this.
  MergedWeight(const QuantScheme& scheme, const LinearShape& shape, std::vector<LinearPart> parts);

  /// Whether any part is stored otherwise than as one plain tensor.
  bool is_quantized() const { return is_quantized_; }
  /// The tensors of all parts, for Bind; and what is wrong with their shapes.
  void Declare(ParamBuilder& builder, BindParams bind) const;
  /// Of the whole; plain where the parts cannot be one weight of one format.
  const QuantFormat& format() const { return format_; }

  /// The weight in format(), or plain if `has_kernel` says no to that.
  /// Errors: kDataCorrupt naming the part, tensor and value that are wrong; kResourceExhausted.
  Result<CanonicalWeight> Bind(BindContext& context, const std::vector<RawParam>& params,
                               const std::function<bool(const QuantFormat&)>& has_kernel) const;

 private:
  LinearShape PartShape(const LinearPart& part) const {
    return {shape_.in, part.out, shape_.dtype, shape_.groups};
  }
  std::vector<QuantParam> PartParams(size_t part) const;
  QuantFormat PartFormat(size_t part) const;
  Status UnpackPart(size_t part, std::span<const RawParam> raw, LinearWeight& weight,
                    ThreadPool& threads) const;
  QuantFormat CommonFormat() const;
  Result<bool> UnpackAll(std::span<const RawParam> raw, LinearWeight& whole,
                         ThreadPool& threads) const;
  Result<CanonicalWeight> BindPlain(BindContext& context, std::span<const RawParam> raw,
                                    ThreadPool& threads) const;

  LinearShape shape_;
  std::vector<LinearPart> parts_;
  std::vector<const LinearLayout*> layouts_;  ///< [part] null: plain
  bool is_quantized_;
  QuantFormat format_;
};

}  // namespace gale
