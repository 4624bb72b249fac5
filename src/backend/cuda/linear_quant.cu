// Host side of products with quantized weights: which kernel, the division of work, the launch.
// Hopper only.
#include <algorithm>
#include <bit>

#include "backend/cuda/cublas_lt.h"
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

/// Which input each column meets; null: its own.
const int32_t* PermutationOf(const PackedLinear& weight) {
  if (!weight.format.has_permutation) return nullptr;
  const int64_t blocks = int64_t{QuantTiles(weight.in)} * QuantTiles(weight.out);
  return reinterpret_cast<const int32_t*>(weight.data.As<uint8_t>() +
                                          blocks * BlockOf(weight).Bytes());
}

/// The rows of x as the weight's columns meet them.
Rows Gather(CudaStream& stream, const PackedLinear& weight, const TensorView& x) {
  if (!weight.format.has_permutation && RowsArePacks(x)) return {x.data, x.strides[0]};
  constexpr int64_t kPackElements = 8;
  const int64_t width = (weight.in + kPackElements - 1) / kPackElements * kPackElements;
  auto* rows =
      static_cast<bf16*>(stream.Scratch(static_cast<size_t>(x.dim(0) * width) * sizeof(bf16)));
  if (rows != nullptr) GatherColumns(stream, x, PermutationOf(weight), rows, width);
  return {rows, width};
}

/// Rows in boxes of 64 columns.
bool EncodeRows(const Rows& x, int64_t rows, int64_t k, int box_rows, CUtensorMap* map) {
  const cuuint64_t dims[2] = {static_cast<cuuint64_t>(k), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(x.stride) * sizeof(bf16)};
  const cuuint32_t box[2] = {kQuantTile / 2, static_cast<cuuint32_t>(box_rows)};
  return EncodeTensorMap(x.data, dims, strides, box, map);
}

/// Blocks that share a tile, when `most` can run. Clusters of more than two do not fill a device.
int ClusterFor(int tiles, int k_tiles, int most) {
  const int blocks = std::clamp(most / tiles, 1, std::min(kMaxCluster, k_tiles));
  auto cluster = static_cast<int>(std::bit_floor(static_cast<unsigned>(blocks)));
  while (cluster > 2 && tiles * cluster > most * 10 / 11) cluster /= 2;
  return cluster;
}

/// How more than 64 rows are multiplied where sums may be in any order.
enum class ManyRows { kClustered64, kClustered128, kTiled128, kTiled256, kUnpacked };

/// A product and how it is to be run.
struct QuantProduct {
  QuantParams params = {};
  Rows x = {};
  int64_t k = 0;
  Numerics numerics = Numerics::kFast;
  ManyRows way = ManyRows::kClustered128;  // that sums as few rows do
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

/// The way that takes the least time by estimate (docs/performance.md).
ManyRows ChooseWay(const QuantParams& p, bool is_f8, bool has_library) {
  constexpr double kStageUs = 0.92;         // of 128 rows by a block of codes, on each SM
  constexpr double kStageOfGroupsUs = 1.5;  // the same where each 32 columns are scaled
  constexpr double kTwoStagesUs = 2.1;      // of 64 rows by two blocks
  constexpr double kStartUs = 3;
  constexpr double kUnpackUs = 0.67e-6;  // an element
  const int sms = Limits().num_sms;
  const WgmmaParams& product = p.product;
  ManyRows best = ManyRows::kClustered64;
  double least = 1e30;
  const auto consider = [&](ManyRows way, double us) {
    if (us < least) best = way, least = us;
  };
  const auto clustered = [&](int rows, int blocks_per_sm, double stage_us) {
    const int tiles = product.out_tiles * Tiles(product.rows, rows);
    const int cluster = ClusterFor(tiles, product.k_tiles, blocks_per_sm * sms);
    return Tiles(tiles * cluster, blocks_per_sm * sms) * Tiles(product.k_tiles, cluster) *
               stage_us +
           kStartUs;
  };
  const auto tiled = [&](int rows) {
    const int tiles = product.out_tiles * Tiles(product.rows, rows);
    return Tiles(tiles, sms) * (product.k_tiles + 1.5) * kStageUs * rows / 128 + kStartUs;
  };
  consider(ManyRows::kClustered64, clustered(64, 2, kTwoStagesUs));
  consider(ManyRows::kClustered128,
           clustered(128, 1, p.block.groups == 1 ? kStageUs : kStageOfGroupsUs));
  consider(ManyRows::kTiled128, tiled(128));
  consider(ManyRows::kTiled256, tiled(256));
  if (!has_library) return best;
  const double elements = double{kQuantTile} * kQuantTile * product.k_tiles * product.out_tiles;
  const double bf16_us =
      std::max(2 * elements / 4.4e6, 2 * product.rows * elements / 740e6) + kStartUs;
  const double f8_us = 2 * product.rows * elements / 1000e6 *
                           std::max(1.0, 132.0 / (product.out_tiles * Tiles(product.rows, 128))) +
                       2 * kStartUs;
  consider(ManyRows::kUnpacked, elements * kUnpackUs + 2 + (is_f8 ? f8_us : bf16_us));
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
  } else {
    switch (product.way) {
      case ManyRows::kClustered64: Launch<kCode, 64, kGroups>(stream, product); break;
      case ManyRows::kTiled128:
        LaunchTiled<TiledQuant<kCode, 128, kGroups>>(stream, product);
        break;
      case ManyRows::kTiled256:
        LaunchTiled<TiledQuant<kCode, 256, kGroups>>(stream, product);
        break;
      default: Launch<kCode, 128, kGroups>(stream, product);
    }
  }
}

class QuantLinear final : public LinearKernel {
 public:
  explicit QuantLinear(Numerics numerics) : numerics_(numerics) {}

  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    if (numerics_ == Numerics::kFast) CublasLt::Preload();
    return PackQuant(weight);
  }

  void Run(Stream& stream, const LinearArgs& args) const override {
    CheckLinearArgs(args);
    if (args.x.dim(0) == 0) return;
    const PackedLinear& weight = *args.weight;
    QuantProduct product = {.k = weight.in, .numerics = numerics_};
    product.params = {.product = {.columns = static_cast<int>(weight.out),
                                  .rows = static_cast<int>(args.x.dim(0)),
                                  .k_tiles = QuantTiles(weight.in),
                                  .out_tiles = QuantTiles(weight.out),
                                  .bias = Floats(args.bias),
                                  .out = args.out.data,
                                  .out_stride = args.out.strides[0],
                                  .out_is_f32 = args.out.dtype == DType::kF32},
                      .blocks = weight.data.As<const uint8_t>(),
                      .block = BlockOf(weight),
                      .scale = weight.scale,
                      .out_is_packs = RowsArePacks(args.out)};
    if (numerics_ == Numerics::kFast && args.x.dim(0) > 64) {
      product.way = ChooseWay(product.params, RoundsToF8(weight), CublasLt::Get() != nullptr);
      if (product.way == ManyRows::kUnpacked) {
        RunUnpackedQuant(AsCuda(stream), product.params, PermutationOf(weight), args);
        return;
      }
    }
    product.x = Gather(AsCuda(stream), weight, args.x);
    if (product.x.data == nullptr) return;
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

void GatherColumns(CudaStream& stream, const TensorView& x, const int32_t* permutation, bf16* out,
                   int64_t width) {
  stream.Launch({dim3(static_cast<unsigned>(x.dim(0))), dim3(kThreads)}, GatherColumnsKernel,
                x.As<const bf16>(), x.strides[0], permutation, static_cast<int>(x.dim(1)), out,
                static_cast<int>(width));
}

const LinearKernel* FindQuantLinear(const LinearKey& key) {
  const bool takes = key.activation == DType::kBf16 && !key.grouped &&
                     CanPackQuant(key.format, key.in) && Limits().major == 9 && HasTensorMaps();
  if (!takes) return nullptr;
  return key.numerics == Numerics::kFast ? &kFast : &kInvariant;
}

}  // namespace gale::cuda
