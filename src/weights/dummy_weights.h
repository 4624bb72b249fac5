// Random weights of the true shapes, to measure speed and memory without a checkpoint. Made on the
// device that uses them.
#pragma once

#include <cstdint>
#include <string_view>

#include "backend/backend.h"

namespace gale {

struct DummySpec {
  std::string_view name;  ///< of the parameter in a checkpoint
  uint64_t seed = 0;
  float mean = 0;
  float std = 1;
};

/// Normal numbers for one device.
class DummyWeights {
 public:
  static Result<DummyWeights> Create(Backend& backend, Stream& stream);

  /// Fills `out` (contiguous f32 or bf16, in the device's memory) with normal numbers; element i
  /// depends on (name, i, seed) alone. They are drawn from the 65536 quantiles of the normal
  /// distribution, so that they stay within 4.4 deviations. Asynchronous; cost: see FillRandomArgs.
  void Fill(const DummySpec& spec, const TensorView& out);

 private:
  DummyWeights(Backend& backend, Stream& stream, Buffer quantiles)
      : backend_(&backend), stream_(&stream), quantiles_(std::move(quantiles)) {}

  Backend* backend_;
  Stream* stream_;
  Buffer quantiles_;  ///< f32 [65536]
};

}  // namespace gale
