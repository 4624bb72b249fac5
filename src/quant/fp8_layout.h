// A linear layer in e4m3, as several containers store it: ".weight" [out, in] and its scales. Used
// by the formats of this folder.
#pragma once

#include "quant/quant_scheme.h"

namespace gale {

enum class Fp8Scales : uint8_t {
  kTensor,  ///< [1]
  kOutput,  ///< [out, 1]
  kBlock,   ///< [ceil(out / block.out), ceil(in / block.in)]
};

struct Fp8Options {
  Fp8Scales scales = Fp8Scales::kTensor;
  ScaleBlock block = {};                             ///< with kBlock
  std::string suffix = ".weight_scale";              ///< of the scales' tensor
  ActivationCode activation = ActivationCode::kRow;  ///< kTensor: ".input_scale" [1] beside it
};

/// One scale for all is canonical as one for each output, so that layers can be merged.
class Fp8Layout : public LinearLayout {
 public:
  explicit Fp8Layout(Fp8Options options) : options_(std::move(options)) {}

  QuantFormat Format(const LinearShape& shape) const override;
  std::vector<QuantParam> Params(const LinearShape& shape) const override;
  std::vector<std::string> Unused() const override;
  Status Unpack(std::span<const RawParam> raw, LinearWeight& weight,
                ThreadPool& threads) const override;

 private:
  Fp8Options options_;
};

}  // namespace gale
