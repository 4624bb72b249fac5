// Quantized weights of random codes, for bench_op.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace gale::bench {

struct NamedQuantFormat {
  std::string_view name;
  QuantFormat format;
};
std::vector<NamedQuantFormat> QuantFormats();

/// Codes beside their scales in host memory.
struct QuantWeight {
  QuantWeight(const QuantFormat& format, int64_t in, int64_t out);
  double Bytes() const;  ///< of codes, and of scales and zeros as kernels keep them

  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<uint8_t> zeros;
  LinearWeight weight;
};

}  // namespace gale::bench
