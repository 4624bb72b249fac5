// Packing of quantized weights into the blocks of linear_quant.cuh, on the device.
#include <algorithm>

#include "backend/cuda/linear_quant.cuh"
#include "base/status_macros.h"
#include "tensor/ggml_block.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;

dim3 Blocks(int64_t threads) {
  return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads));
}

/// Inputs that share a scale.
int64_t GroupOf(const QuantFormat& format, int64_t in) {
  return format.block.in == 0 ? in : std::min(format.block.in, in);
}

/// ggml's blocks of 32 as codes beside their scales.
QuantFormat AsScaled(const QuantFormat& format) {
  if (format.code == BlockCode::kScaled) return format;
  QuantFormat scaled{.code = BlockCode::kScaled, .data = DType::kU8};
  scaled.codes = format.ggml == GgmlType::kQ4_0 ? CodeType::kUInt4 : CodeType::kInt8;
  scaled.block = {1, kGgmlBlockElements};
  return scaled;
}

/// The narrowest type that has all of them exactly; those of checkpoints are seldom f32.
DType NarrowestScale(const LinearWeight& weight) {
  if (weight.format.code == BlockCode::kGgmlBlock) return DType::kF16;
  const auto* values = weight.scales.As<const float>();
  const int64_t n = weight.scales.NumElements();
  const auto all = [&](auto round) {
    return std::all_of(values, values + n, [&](float value) { return round(value) == value; });
  };
  if (all([](float value) { return __half2float(__float2half(value)); })) return DType::kF16;
  if (all([](float value) { return __bfloat162float(__float2bfloat16(value)); })) {
    return DType::kBf16;
  }
  return DType::kF32;
}

/// A weight to be packed, in device memory.
struct Source {
  const uint8_t* codes;  // or blocks of ggml
  const float* scales;
  const uint8_t* zeros;
  int64_t in;
  int64_t out;
  int64_t block_in;
  int64_t block_out;
  int64_t ggml_bytes;  // of a block; 0: codes by themselves
  bool is_u4;
  uint8_t flip;  // bits of codes and zeros that are stored the other way round

  __device__ const uint8_t* GgmlBlock(int64_t row, int64_t column) const {
    return codes + (row * (in / kGgmlBlockElements) + column / kGgmlBlockElements) * ggml_bytes;
  }

  __device__ uint32_t Code(int64_t row, int64_t column) const {
    if (row >= out || column >= in) return 0;
    if (ggml_bytes > 0) {
      const uint8_t* q = GgmlBlock(row, column) + kGgmlScaleBytes;
      const auto i = static_cast<int>(column % kGgmlBlockElements);
      return is_u4 ? q[i % 16] >> (i / 16 * 4) & 15 : q[i];
    }
    if (!is_u4) return codes[row * in + column] ^ flip;
    return codes[(row * in + column) / 2] >> (column % 2 * 4) & 15;
  }

  __device__ int64_t ScaleIndex(int64_t row, int64_t column) const {
    return row / block_out * ((in + block_in - 1) / block_in) + column / block_in;
  }
  __device__ float Scale(int64_t row, int64_t column) const {
    if (ggml_bytes == 0) return scales[ScaleIndex(row, column)];
    return __half2float(*reinterpret_cast<const __half*>(GgmlBlock(row, column)));
  }
};

/// One thread for each word of packed codes.
__global__ void PackCodesKernel(Source weight, QuantBlock block, int k_tiles, int64_t words,
                                uint8_t* packed) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= words) return;
  const int block_words = block.code_bytes / 4;
  const int64_t tile = index / block_words;
  const int at = static_cast<int>(index % block_words);
  const int warp_words = block_words / 8;
  const int lane = at / 4 % kWarp;
  const int word = at % warp_words / (4 * kWarp) * 4 + at % 4;  // of the lane
  const int64_t row = tile / k_tiles * kQuantTile + at / warp_words * 16 + lane / 4;
  const int64_t column = tile % k_tiles * kQuantTile + lane % 4 * 2;
  uint32_t bits = 0;
  if (weight.is_u4) {
    for (int i = 0; i < 4; ++i) {
      for (int next = 0; next < 2; ++next) {
        bits |= weight.Code(row + i % 2 * 8, column + word * 16 + i / 2 * 8 + next)
                << (4 * i + 16 * next);
      }
    }
  } else {
    for (int i = 0; i < 4; ++i) {
      bits |= weight.Code(row + i % 2 * 8, column + word * 8 + i / 2) << (8 * i);
    }
  }
  reinterpret_cast<uint32_t*>(packed + tile * block.Bytes())[at] = bits;
}

/// One thread for each scale.
__global__ void PackScalesKernel(Source weight, QuantBlock block, DType dtype, int k_tiles,
                                 int64_t scales, uint8_t* packed) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= scales) return;
  const int at = static_cast<int>(index % (block.groups * kQuantTile));
  const int64_t tile = index / (block.groups * kQuantTile);
  const int place = at % kQuantTile;
  const int64_t row =
      min(tile / k_tiles * kQuantTile + place / 16 * 16 + place % 2 * 8 + place / 2 % 8,
          weight.out - 1);
  const int64_t column = min(
      tile % k_tiles * kQuantTile + at / kQuantTile * (kQuantTile / block.groups), weight.in - 1);
  uint8_t* out = packed + tile * block.Bytes();
  const float scale = weight.Scale(row, column);
  switch (dtype) {
    case DType::kF16:
      reinterpret_cast<__half*>(out + block.code_bytes)[at] = __float2half(scale);
      break;
    case DType::kBf16:
      reinterpret_cast<bf16*>(out + block.code_bytes)[at] = __float2bfloat16(scale);
      break;
    default: reinterpret_cast<float*>(out + block.code_bytes)[at] = scale;
  }
  if (block.has_zeros) {
    out[block.ZerosAt() + at] = weight.zeros[weight.ScaleIndex(row, column)] ^ weight.flip;
  }
}

Result<Buffer> Upload(CudaStream& stream, const void* data, size_t bytes) {
  if (bytes == 0) return Buffer{};
  GALE_ASSIGN_OR_RETURN(Buffer buffer, Allocate(bytes, MemoryKind::kDevice));
  stream.Record(cudaMemcpyAsync(buffer.data(), data, bytes, cudaMemcpyDefault, stream.get()));
  return buffer;
}

}  // namespace

bool CanPackQuant(const QuantFormat& format, int64_t in) {
  if (format.code == BlockCode::kGgmlBlock) {
    return format.ggml == GgmlType::kQ4_0 || format.ggml == GgmlType::kQ8_0;
  }
  const int64_t group = GroupOf(format, in);
  const bool groups = group == in || group % kQuantTile == 0 || group == 64 || group == 32;
  const bool codes =
      format.codes != CodeType::kNf4 && !(format.codes == CodeType::kF8E4M3 && format.has_zeros);
  return format.code == BlockCode::kScaled && groups && codes;
}

QuantBlock BlockOf(const PackedLinear& weight) {
  const QuantFormat& format = weight.format;
  const int64_t group = GroupOf(format, weight.in);
  return {.code_bytes = kQuantTile * kQuantTile * CodeBits(format.codes) / 8,
          .groups = group == weight.in || group % kQuantTile == 0 ? 1 : kCodeGroups,
          .scale_bytes = static_cast<int>(DTypeBytes(weight.scale)),
          .has_zeros = format.has_zeros};
}

Result<PackedLinear> PackQuant(const LinearWeight& weight) {
  PackedLinear packed;
  packed.format = AsScaled(weight.format);
  packed.in = weight.in;
  packed.out = weight.out;
  packed.scale = NarrowestScale(weight);
  packed.activation_scale = weight.activation_scale;
  const QuantFormat& format = packed.format;
  const QuantBlock block = BlockOf(packed);
  const int64_t k_tiles = QuantTiles(weight.in);
  const int64_t blocks = k_tiles * QuantTiles(weight.out);
  const auto block_bytes = static_cast<size_t>(blocks * block.Bytes());
  const size_t permutation_bytes = format.has_permutation ? weight.permutation.Bytes() : 0;
  GALE_ASSIGN_OR_RETURN(packed.storage,
                        Allocate(block_bytes + permutation_bytes, MemoryKind::kDevice));
  auto* out = static_cast<uint8_t*>(packed.storage.data());
  packed.data =
      TensorView(out, DType::kU8, {static_cast<int64_t>(block_bytes + permutation_bytes)});

  const bool is_ggml = weight.format.code == BlockCode::kGgmlBlock;
  const auto data_bytes =
      is_ggml ? static_cast<size_t>(weight.out * weight.data.strides[0]) : weight.data.Bytes();
  CudaStream stream;
  GALE_ASSIGN_OR_RETURN(const Buffer codes, Upload(stream, weight.data.data, data_bytes));
  GALE_ASSIGN_OR_RETURN(const Buffer scales, Upload(stream, weight.scales.data,
                                                    weight.scales ? weight.scales.Bytes() : 0));
  GALE_ASSIGN_OR_RETURN(const Buffer zeros,
                        Upload(stream, weight.zeros.data, weight.zeros ? weight.zeros.Bytes() : 0));
  const Source source = {.codes = static_cast<const uint8_t*>(codes.data()),
                         .scales = static_cast<const float*>(scales.data()),
                         .zeros = static_cast<const uint8_t*>(zeros.data()),
                         .in = weight.in,
                         .out = weight.out,
                         .block_in = GroupOf(format, weight.in),
                         .block_out = format.block.out == 0 ? weight.out : format.block.out,
                         .ggml_bytes = is_ggml ? GgmlBlockBytes(weight.format.ggml) : 0,
                         .is_u4 = CodeBits(format.codes) == 4,
                         .flip = static_cast<uint8_t>(format.codes == CodeType::kUInt8 ? 0x80 : 0)};
  const int64_t words = blocks * (block.code_bytes / 4);
  const int64_t num_scales = blocks * block.groups * kQuantTile;
  stream.Launch({Blocks(words), dim3(kThreads)}, PackCodesKernel, source, block,
                static_cast<int>(k_tiles), words, out);
  stream.Launch({Blocks(num_scales), dim3(kThreads)}, PackScalesKernel, source, block, packed.scale,
                static_cast<int>(k_tiles), num_scales, out);
  if (permutation_bytes > 0) {
    stream.Record(cudaMemcpyAsync(out + block_bytes, weight.permutation.data, permutation_bytes,
                                  cudaMemcpyDefault, stream.get()));
  }
  GALE_RETURN_IF_ERROR(stream.Synchronize());  // what was uploaded goes away
  return packed;
}

}  // namespace gale::cuda
