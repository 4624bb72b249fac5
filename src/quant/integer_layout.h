// A linear layer of integers with outputs first, as compressed-tensors stores it: signed bytes, or
// codes packed into 32-bit words from the low bits up, with an offset of half their range. Used by
// the formats of this folder.
#pragma once

#include "quant/quant_scheme.h"

namespace gale {

struct IntegerOptions {
  int bits = 8;              ///< 4 (packed) or 8
  bool is_packed = false;    ///< ".weight_packed"; otherwise ".weight"
  bool is_symmetric = true;  ///< otherwise ".weight_zero_point"
  bool is_per_tensor = false;
  bool has_order = false;  ///< ".weight_g_idx": inputs are spread over groups
  int64_t group = 0;       ///< inputs that share a scale; 0: all
  ActivationCode activation = ActivationCode::kNone;
};

class IntegerLayout : public LinearLayout {
 public:
  explicit IntegerLayout(const IntegerOptions& options) : options_(options) {}

  std::string Fault(const LinearShape& shape) const override;
  QuantFormat Format(const LinearShape& shape) const override;
  std::vector<QuantParam> Params(const LinearShape& shape) const override;
  std::vector<std::string> Unused() const override;
  Status Unpack(std::span<const RawParam> raw, LinearWeight& weight,
                ThreadPool& threads) const override;

 private:
  int64_t InWord() const { return 32 / options_.bits; }
  int64_t Groups(int64_t in) const {
    return options_.group == 0 ? 1 : (in + options_.group - 1) / options_.group;
  }
  Status UnpackScales(const RawParam& raw, const LinearWeight& weight) const;
  void UnpackZeros(const TensorView& zeros, const LinearWeight& weight) const;
  void UnpackRow(const TensorView& codes, int64_t output, const LinearWeight& weight) const;

  IntegerOptions options_;
};

}  // namespace gale
