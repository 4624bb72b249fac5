// Linear layers. Several projections of one input are merged into a single weight, so that the
// input is read once and the device is asked once.
#pragma once

#include <string>
#include <vector>

#include "nn/forward_context.h"
#include "quant/merged_weight.h"
#include "quant/quant_scheme.h"
#include "weights/param_builder.h"

namespace gale {

/// Rows by the group whose part of the weight they meet, as GroupedLinearArgs has them.
struct LinearGroups {
  TensorView offsets;   ///< i32 [groups + 1]
  TensorView x_rows;    ///< i32 [entries] or empty
  TensorView out_rows;  ///< i32 [entries] or empty
};

/// y = x * W^T (+ bias), W [out, in].
/// Memory: a merged weight whose parts follow one another in the file is used in place like a plain
/// one; otherwise the parts are copied together, once, before the device packs them. So are parts
/// that the checkpoint stores in a quantized format; where the device has no kernel for that they
/// become plain numbers of the model's dtype.
class Linear {
 public:
  /// `groups` > 1: parts of as many weights, all of the first, then all of the second...
  Linear(ParamBuilder& builder, const QuantScheme& scheme, int64_t in,
         std::vector<LinearPart> parts, bool bias, int groups = 1);
  /// Declares nothing: whoever has the weight calls Bind. `out`: of all groups.
  Linear(const ParamBuilder& builder, int64_t in, int64_t out, int groups = 1)
      : shape_{in, out, builder.dtype(), groups}, numerics_(builder.numerics()) {}
  Linear(const Linear&) = delete;
  Linear& operator=(const Linear&) = delete;

  /// Whether the device multiplies by such weights as they are.
  bool HasKernel(const BindContext& context, const QuantFormat& format) const {
    return FindKernel(context, format) != nullptr;
  }
  /// Packs the weight for the device. What it points into must live on if the kernel borrows it.
  Status Bind(BindContext& context, const LinearWeight& weight, const TensorView& bias = {});
  /// The same; `memory` holds the weight, and is kept if the kernel borrows it.
  Status BindKept(BindContext& context, const LinearWeight& weight, RawParam memory,
                  const TensorView& bias = {});
  /// The same of a plain weight [out, in] in host memory.
  Status BindOwned(BindContext& context, RawParam weight, const TensorView& bias = {}) {
    const LinearWeight plain = PlainOrBlocks(weight, shape_.in);
    return BindKept(context, plain, std::move(weight), bias);
  }
  /// The same of a plain weight [out, in] in host memory, rounded to `format` first.
  Status BindRounded(BindContext& context, const QuantFormat& format, const TensorView& plain);
  /// x [rows, in], out [rows, out]; out may be f32 for logits.
  void Forward(ForwardContext& context, const TensorView& x, const TensorView& out) const;
  /// x [rows, in]; the outputs are gates and what they gate, and come to gated.out.
  void ForwardGated(ForwardContext& context, const TensorView& x,
                    const GatedActivationArgs& gated) const;
  /// x [rows, in], out [entries, out / groups].
  void Forward(ForwardContext& context, const LinearGroups& groups, const TensorView& x,
               const TensorView& out) const;
  /// x [rows, groups, in], out [rows, groups, out / groups].
  void ForwardBatched(ForwardContext& context, const TensorView& x, const TensorView& out) const;

  const TensorView& weight() const { return weight_.data; }  ///< as packed, for fused operations
  const TensorView& bias() const { return bias_; }           ///< [out] or empty

 private:
  void DeclarePlain(ParamBuilder& builder, const QuantScheme& scheme,
                    const std::vector<LinearPart>& parts);
  Status BindPlain(BindContext& context, const QuantFormat& made_into, RawParam param);
  bool Borrows(const TensorView& memory) const;
  const LinearKernel* FindKernel(const BindContext& context, const QuantFormat& format) const;

  LinearShape shape_;
  Numerics numerics_;
  const LinearKernel* kernel_ = nullptr;
  PackedLinear weight_;
  TensorView bias_;
};

}  // namespace gale
