// Plain weights: one tensor [out, in] of the model's own dtype, or in GGUF files ggml's blocks in
// its place, which the loader hands over as they are.
#include "quant/quant_scheme.h"

namespace gale {
namespace {

Result<std::unique_ptr<const QuantScheme>> MakePlain(const QuantSource&) {
  return std::make_unique<const QuantScheme>();
}

const bool registered =
    RegisterQuantScheme("none", MakePlain) && RegisterQuantScheme("gguf", MakePlain);

}  // namespace

const QuantScheme& PlainScheme() {
  static const QuantScheme scheme;
  return scheme;
}

}  // namespace gale
