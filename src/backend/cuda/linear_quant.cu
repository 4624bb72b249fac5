// Host side of products with quantized weights: packing on the device, the division of work, the
// launch. Hopper only.
#include <algorithm>
#include <bit>

#include "backend/cuda/linear_quant.cuh"
#include "backend/cuda/linear_quant_tiled.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/tensor_map.h"
#include "backend/op_checks.h"
#include "base/status_macros.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;

int Tiles(int64_t n, int64_t size) { return static_cast<int>((n + size - 1) / size); }

dim3 Blocks(int64_t threads) {
  return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads));
}

/// Codes of unsigned bytes are stored as signed ones, 128 lower.
bool IsUInt8(const QuantFormat& format) { return format.codes == CodeType::kUInt8; }

/// Inputs that share a scale.
int64_t GroupOf(const QuantFormat& format, int64_t in) {
  return format.block.in == 0 ? in : std::min(format.block.in, in);
}

QuantBlock BlockOf(const PackedLinear& weight) {
  const QuantFormat& format = weight.format;
  const int64_t group = GroupOf(format, weight.in);
  return {.code_bytes = kQuantTile * kQuantTile * CodeBits(format.codes) / 8,
          .groups = group == weight.in || group % kQuantTile == 0 ? 1 : kCodeGroups,
          .scale_bytes = static_cast<int>(DTypeBytes(weight.scale)),
          .has_zeros = format.has_zeros};
}

/// The narrowest type that has all of them exactly; those of checkpoints are seldom f32.
DType NarrowestScale(const TensorView& scales) {
  const auto* values = scales.As<const float>();
  const int64_t n = scales.NumElements();
  const auto all = [&](auto round) {
    return std::all_of(values, values + n, [&](float value) { return round(value) == value; });
  };
  if (all([](float value) { return __half2float(__float2half(value)); })) return DType::kF16;
  if (all([](float value) { return __bfloat162float(__float2bfloat16(value)); })) {
    return DType::kBf16;
  }
  return DType::kF32;
}

/// What Prepare packs, in device memory.
struct CanonicalWeight {
  const uint8_t* codes;
  const float* scales;
  const uint8_t* zeros;
  int64_t in;
  int64_t out;
  int64_t block_in;
  int64_t block_out;
  bool is_u4;
  uint8_t flip;  // bits of codes and zeros that are stored the other way round

  __device__ uint32_t Code(int64_t row, int64_t column) const {
    if (row >= out || column >= in) return 0;
    if (!is_u4) return codes[row * in + column] ^ flip;
    return codes[(row * in + column) / 2] >> (column % 2 * 4) & 15;
  }
};

/// One thread for each word of packed codes.
__global__ void PackCodesKernel(CanonicalWeight weight, QuantBlock block, int k_tiles,
                                int64_t words, uint8_t* packed) {
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
__global__ void PackScalesKernel(CanonicalWeight weight, QuantBlock block, DType dtype, int k_tiles,
                                 int64_t scales, uint8_t* packed) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= scales) return;
  const int at = static_cast<int>(index % (block.groups * kQuantTile));
  const int64_t tile = index / (block.groups * kQuantTile);
  const int group = at / kQuantTile;
  const int place = at % kQuantTile;
  const int64_t row = tile / k_tiles * kQuantTile + place / 16 * 16 + place % 2 * 8 + place / 2 % 8;
  const int64_t column = tile % k_tiles * kQuantTile + group * (kQuantTile / block.groups);
  const int64_t per_row = (weight.in + weight.block_in - 1) / weight.block_in;
  const int64_t source = min(row, weight.out - 1) / weight.block_out * per_row +
                         min(column, weight.in - 1) / weight.block_in;
  uint8_t* out = packed + tile * block.Bytes();
  const float scale = weight.scales[source];
  switch (dtype) {
    case DType::kF16:
      reinterpret_cast<__half*>(out + block.code_bytes)[at] = __float2half(scale);
      break;
    case DType::kBf16:
      reinterpret_cast<bf16*>(out + block.code_bytes)[at] = __float2bfloat16(scale);
      break;
    default: reinterpret_cast<float*>(out + block.code_bytes)[at] = scale;
  }
  if (block.has_zeros) out[block.ZerosAt() + at] = weight.zeros[source] ^ weight.flip;
}

/// out[row][i] = x[row][i], or x[row][permutation[i]]; zeros from k on. Blocks: rows.
__global__ void __launch_bounds__(kThreads)
    GatherColumnsKernel(const bf16* x, int64_t x_stride, const int32_t* permutation, int k,
                        bf16* out, int width) {
  LaunchDependents();
  WaitForPrerequisites();
  const bf16* row = x + blockIdx.x * x_stride;
  bf16* out_row = out + int64_t{blockIdx.x} * width;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) {
    const int source = permutation == nullptr || i >= k ? i : permutation[i];
    out_row[i] = i < k ? row[source] : __float2bfloat16(0.0F);
  }
}

struct Rows {
  void* data = nullptr;  // bf16 [rows, in], 16-byte aligned rows; null: no memory for them
  int64_t stride = 0;
};

int64_t PackedCodeBytes(const PackedLinear& weight) {
  return int64_t{Tiles(weight.out, kQuantTile)} * Tiles(weight.in, kQuantTile) *
         BlockOf(weight).Bytes();
}

/// The rows of x as the weight's columns meet them.
Rows Gather(CudaStream& stream, const PackedLinear& weight, const TensorView& x) {
  if (!weight.format.has_permutation && RowsArePacks(x)) return {x.data, x.strides[0]};
  constexpr int64_t kPackElements = 8;
  const int64_t width = (weight.in + kPackElements - 1) / kPackElements * kPackElements;
  auto* rows =
      static_cast<bf16*>(stream.Scratch(static_cast<size_t>(x.dim(0) * width) * sizeof(bf16)));
  if (rows == nullptr) return {};
  const auto* permutation =
      weight.format.has_permutation
          ? reinterpret_cast<const int32_t*>(weight.data.As<uint8_t>() + PackedCodeBytes(weight))
          : nullptr;
  stream.Launch({dim3(static_cast<unsigned>(x.dim(0))), dim3(kThreads)}, GatherColumnsKernel,
                x.As<const bf16>(), x.strides[0], permutation, static_cast<int>(weight.in), rows,
                static_cast<int>(width));
  return {rows, width};
}

/// Rows in boxes of 64 columns.
bool EncodeRows(const Rows& x, int64_t rows, int64_t k, int box_rows, CUtensorMap* map) {
  const cuuint64_t dims[2] = {static_cast<cuuint64_t>(k), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(x.stride) * sizeof(bf16)};
  const cuuint32_t box[2] = {kQuantTile / 2, static_cast<cuuint32_t>(box_rows)};
  return EncodeTensorMap(x.data, dims, strides, box, map);
}

/// Blocks that share a tile, when `most` can run. Clusters do not fill a device quite.
int ClusterFor(int tiles, int k_tiles, int most) {
  const int blocks = std::clamp(most * 10 / 11 / tiles, 1, std::min(kMaxCluster, k_tiles));
  return static_cast<int>(std::bit_floor(static_cast<unsigned>(blocks)));
}

/// A product and how it is to be run.
struct QuantProduct {
  QuantParams params = {};
  Rows x = {};
  int64_t k = 0;
  Numerics numerics = Numerics::kFast;
};

template <CodeType kCode, int kN, int kGroups>
void Launch(CudaStream& stream, const QuantProduct& product) {
  constexpr int kBlocksPerSm = QuantBlocksPerSm(kN);
  constexpr int kXBytes = kN * kQuantTile * 2;
  constexpr int kSumsBytes = kN * kQuantTile * 4;
  constexpr int kAlignment = 1024;
  constexpr int kReserved = 2048;  // of an SM's shared memory, for each block
  QuantParams p = product.params;
  const int tiles = p.product.out_tiles * Tiles(p.product.rows, kN);
  // How K is cut must not depend on the number of rows where sums are to be the same for any.
  const int cluster =
      product.numerics == Numerics::kFast
          ? ClusterFor(tiles, p.product.k_tiles, kBlocksPerSm * Limits().num_sms)
          : ClusterFor(p.product.out_tiles, p.product.k_tiles, 2 * Limits().num_sms);
  const int shared = Limits().max_shared_bytes / kBlocksPerSm - kReserved - kAlignment - kSumsBytes;
  const int stage_bytes = kXBytes + p.block.Bytes();
  p.stages = std::min({shared / stage_bytes, kQuantStages, Tiles(p.product.k_tiles, cluster)});
  CUtensorMap x_map;
  if (!EncodeRows(product.x, p.product.rows, product.k, kN, &x_map)) {
    stream.Record(cudaErrorInvalidValue);
    return;
  }
  stream.Launch(
      {.grid = dim3(static_cast<unsigned>(tiles * cluster)),
       .block = dim3(kWgmmaThreads),
       .shared_bytes = static_cast<size_t>(p.stages * stage_bytes + kSumsBytes + kAlignment),
       .cluster = static_cast<unsigned>(cluster)},
      LinearQuantKernel<kCode, kN, kGroups>, x_map, p);
}

template <class Tile>
void LaunchTiled(CudaStream& stream, const QuantProduct& product) {
  constexpr int kPatches = Tile::kConsumers / kWarp * Tile::kPatchBytes;
  constexpr int kReserved = 1024;
  QuantParams p = product.params;
  const int stage_bytes = Tile::kXBytes + p.block.Bytes();
  const int shared = Limits().max_shared_bytes - kReserved - Tile::kAlignment - kPatches;
  p.stages = std::min(shared / stage_bytes, kQuantStages);
  CUtensorMap x_map;
  if (!EncodeRows(product.x, p.product.rows, product.k, Tile::kN, &x_map)) {
    stream.Record(cudaErrorInvalidValue);
    return;
  }
  const int tiles = p.product.out_tiles * Tiles(p.product.rows, Tile::kN);
  stream.Launch(
      {.grid = dim3(static_cast<unsigned>(std::min(tiles, Limits().num_sms))),
       .block = dim3(Tile::kThreads),
       .shared_bytes = static_cast<size_t>(p.stages * stage_bytes + Tile::kAlignment + kPatches)},
      LinearQuantTiledKernel<Tile>, x_map, p);
}

/// Rows of a tile that more than 64 rows take the least time with, by estimate: 64 shared by
/// clusters, or 128 or 256 by one block.
int ChooseRows(const WgmmaParams& product) {
  constexpr double kCyclesPerRow = 8;  // of a tile's block of 128 columns
  constexpr double kStart = 4000;
  const int sms = Limits().num_sms;
  const int few_tiles = product.out_tiles * Tiles(product.rows, 64);
  const int cluster = ClusterFor(few_tiles, product.k_tiles, 2 * sms);
  int best = 64;
  double least = Tiles(few_tiles * cluster, 2 * sms) * Tiles(product.k_tiles, cluster) * 2 * 64 *
                     kCyclesPerRow * 1.2 +
                 kStart;
  for (const int rows : {128, 256}) {
    const int tiles = product.out_tiles * Tiles(product.rows, rows);
    const double cycles =
        Tiles(tiles, sms) * (product.k_tiles * rows * kCyclesPerRow + 12 * rows) + kStart;
    if (cycles < least) {
      best = rows;
      least = cycles;
    }
  }
  return best;
}

template <CodeType kCode, int kGroups>
void RunRows(CudaStream& stream, const QuantProduct& product) {
  const int rows = product.params.product.rows;
  if (rows <= 8) {
    Launch<kCode, 8, kGroups>(stream, product);
  } else if (rows <= 16) {
    Launch<kCode, 16, kGroups>(stream, product);
  } else if (rows <= 32) {
    Launch<kCode, 32, kGroups>(stream, product);
  } else if (rows <= 64) {
    Launch<kCode, 64, kGroups>(stream, product);
  } else if (product.numerics != Numerics::kFast) {
    Launch<kCode, 128, kGroups>(stream, product);
  } else {
    switch (ChooseRows(product.params.product)) {
      case 64: Launch<kCode, 64, kGroups>(stream, product); break;
      case 128: LaunchTiled<TiledQuant<kCode, 128, kGroups>>(stream, product); break;
      default: LaunchTiled<TiledQuant<kCode, 256, kGroups>>(stream, product);
    }
  }
}

Result<Buffer> Upload(CudaStream& stream, const TensorView& view) {
  if (!view) return Buffer{};
  GALE_ASSIGN_OR_RETURN(Buffer buffer, Allocate(view.Bytes(), MemoryKind::kDevice));
  stream.Record(
      cudaMemcpyAsync(buffer.data(), view.data, view.Bytes(), cudaMemcpyDefault, stream.get()));
  return buffer;
}

class QuantLinear final : public LinearKernel {
 public:
  explicit QuantLinear(Numerics numerics) : numerics_(numerics) {}

  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    PackedLinear packed;
    packed.format = weight.format;
    packed.in = weight.in;
    packed.out = weight.out;
    const QuantFormat& format = weight.format;
    packed.scale = NarrowestScale(weight.scales);
    packed.activation_scale = weight.activation_scale;
    const QuantBlock block = BlockOf(packed);
    const auto code_bytes = static_cast<size_t>(PackedCodeBytes(packed));
    const size_t permutation_bytes = format.has_permutation ? weight.permutation.Bytes() : 0;
    GALE_ASSIGN_OR_RETURN(packed.storage,
                          Allocate(code_bytes + permutation_bytes, MemoryKind::kDevice));
    packed.data = TensorView(packed.storage.data(), DType::kU8,
                             {static_cast<int64_t>(code_bytes + permutation_bytes)});
    CudaStream stream;
    GALE_ASSIGN_OR_RETURN(const Buffer codes, Upload(stream, weight.data));
    GALE_ASSIGN_OR_RETURN(const Buffer scales, Upload(stream, weight.scales));
    GALE_ASSIGN_OR_RETURN(const Buffer zeros, Upload(stream, weight.zeros));
    const CanonicalWeight canonical = {
        .codes = static_cast<const uint8_t*>(codes.data()),
        .scales = static_cast<const float*>(scales.data()),
        .zeros = static_cast<const uint8_t*>(zeros.data()),
        .in = weight.in,
        .out = weight.out,
        .block_in = GroupOf(format, weight.in),
        .block_out = format.block.out == 0 ? weight.out : format.block.out,
        .is_u4 = CodeBits(format.codes) == 4,
        .flip = static_cast<uint8_t>(IsUInt8(format) ? 0x80 : 0)};
    auto* out = static_cast<uint8_t*>(packed.storage.data());
    const int k_tiles = Tiles(weight.in, kQuantTile);
    const int64_t blocks = int64_t{k_tiles} * Tiles(weight.out, kQuantTile);
    const int64_t words = blocks * (block.code_bytes / 4);
    const int64_t num_scales = blocks * block.groups * kQuantTile;
    stream.Launch({Blocks(words), dim3(kThreads)}, PackCodesKernel, canonical, block, k_tiles,
                  words, out);
    stream.Launch({Blocks(num_scales), dim3(kThreads)}, PackScalesKernel, canonical, block,
                  packed.scale, k_tiles, num_scales, out);
    if (permutation_bytes > 0) {
      stream.Record(cudaMemcpyAsync(out + code_bytes, weight.permutation.data, permutation_bytes,
                                    cudaMemcpyDefault, stream.get()));
    }
    GALE_RETURN_IF_ERROR(stream.Synchronize());  // what was uploaded goes away
    return packed;
  }

  void Run(Stream& stream, const LinearArgs& args) const override {
    CheckLinearArgs(args);
    if (args.x.dim(0) == 0) return;
    const PackedLinear& weight = *args.weight;
    QuantProduct product = {.k = weight.in, .numerics = numerics_};
    product.x = Gather(AsCuda(stream), weight, args.x);
    if (product.x.data == nullptr) return;
    product.params = {.product = {.columns = static_cast<int>(weight.out),
                                  .rows = static_cast<int>(args.x.dim(0)),
                                  .k_tiles = Tiles(weight.in, kQuantTile),
                                  .out_tiles = Tiles(weight.out, kQuantTile),
                                  .bias = Floats(args.bias),
                                  .out = args.out.data,
                                  .out_stride = args.out.strides[0],
                                  .out_is_f32 = args.out.dtype == DType::kF32},
                      .blocks = weight.data.As<const uint8_t>(),
                      .block = BlockOf(weight),
                      .scale = weight.scale,
                      .out_is_packs = RowsArePacks(args.out)};
    const auto run = [&]<CodeType kCode>() {
      product.params.block.groups == 1 ? RunRows<kCode, 1>(AsCuda(stream), product)
                                       : RunRows<kCode, kCodeGroups>(AsCuda(stream), product);
    };
    switch (weight.format.codes) {
      case CodeType::kUInt4: run.template operator()<CodeType::kUInt4>(); break;
      case CodeType::kF8E4M3: run.template operator()<CodeType::kF8E4M3>(); break;
      default: run.template operator()<CodeType::kInt8>(); break;
    }
  }

 private:
  Numerics numerics_;
};

const QuantLinear kInvariant(Numerics::kBatchInvariant);
const QuantLinear kFast(Numerics::kFast);

}  // namespace

const LinearKernel* FindQuantLinear(const LinearKey& key) {
  const QuantFormat& format = key.format;
  const int64_t group = GroupOf(format, key.in);
  const bool groups = group == key.in || group % kQuantTile == 0 || group == 64 || group == 32;
  const bool codes =
      format.codes != CodeType::kNf4 && !(format.codes == CodeType::kF8E4M3 && format.has_zeros);
  if (format.code != BlockCode::kScaled || !groups || !codes || key.grouped ||
      key.activation != DType::kBf16 || Limits().major != 9 || !HasTensorMaps()) {
    return nullptr;
  }
  return key.numerics == Numerics::kFast ? &kFast : &kInvariant;
}

}  // namespace gale::cuda
