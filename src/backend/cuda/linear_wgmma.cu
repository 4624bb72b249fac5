// Host side of the Hopper linear kernel for few rows: tensor maps, the division of work, the
// launch.
#include <algorithm>

#include <cuda.h>

#include "backend/cuda/linear_wgmma.cuh"
#include "backend/cuda/linear_wgmma_tiled.cuh"
#include "backend/cuda/ops.h"

namespace gale::cuda {
namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, found at run time so that nothing links to libcuda. Null: driver too old.
EncodeTiled FindEncodeTiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status{};
    const bool ok = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                     cudaEnableDefault, &status) == cudaSuccess &&
                    status == cudaDriverEntryPointSuccess;
    return ok ? reinterpret_cast<EncodeTiled>(found) : nullptr;
  }();
  return function;
}

/// A matrix of bf16 in boxes of box_rows x 64, for copies that swizzle by 128 bytes.
bool EncodeMatrix(const TensorView& matrix, int box_rows, CUtensorMap* map) {
  const cuuint64_t dims[2] = {static_cast<cuuint64_t>(matrix.dim(1)),
                              static_cast<cuuint64_t>(matrix.dim(0))};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(matrix.strides[0]) * sizeof(bf16)};
  const cuuint32_t box[2] = {kWgmmaK, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  return FindEncodeTiled()(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, matrix.data, dims, strides,
                           box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                           CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                           CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

int Tiles(int64_t n, int size) { return static_cast<int>((n + size - 1) / size); }

template <int kN>
void RunFew(CudaStream& stream, const LinearArgs& args) {
  using Tile = WgmmaTile<kN>;
  const TensorView& weight = args.weight->data;
  WgmmaParams p;
  p.columns = static_cast<int>(args.weight->out);
  p.rows = static_cast<int>(args.x.dim(0));
  p.k_tiles = Tiles(args.weight->in, kWgmmaK);
  p.out_tiles = Tiles(p.columns, kWgmmaM);
  p.bias = Floats(args.bias);
  p.out = args.out.data;
  p.out_stride = args.out.strides[0];
  p.out_is_f32 = args.out.dtype == DType::kF32;
  CUtensorMap weight_map;
  CUtensorMap x_map;
  if (!EncodeMatrix(weight, kWgmmaM, &weight_map) || !EncodeMatrix(args.x, kN, &x_map)) {
    stream.Record(cudaErrorInvalidValue);
    return;
  }
  // As many blocks as run at once: what counts is how many bytes are on their way.
  constexpr int kBlocksPerSm = 2;
  const int tiles = p.out_tiles * Tiles(p.rows, kN);
  const int cluster =
      std::clamp(kBlocksPerSm * Limits().num_sms / tiles, 1, std::min(kMaxCluster, p.k_tiles));
  stream.Launch({.grid = dim3(static_cast<unsigned>(tiles * cluster)),
                 .block = dim3(kWgmmaThreads),
                 .shared_bytes = Tile::kSharedBytes,
                 .cluster = static_cast<unsigned>(cluster)},
                LinearWgmmaKernel<kN>, weight_map, x_map, p);
}

/// Whether tiles of 256 x 256 keep most of the device busy, and pairs of outputs may be written.
bool SuitsTiled(const LinearArgs& args) {
  using Tile = TiledLinear;
  constexpr double kBusy = 0.6;
  const auto element = static_cast<uintptr_t>(DTypeBytes(args.out.dtype));
  if (args.weight->out % 2 != 0 || args.out.strides[0] % 2 != 0 ||
      reinterpret_cast<uintptr_t>(args.out.data) % (2 * element) != 0) {
    return false;
  }
  const int64_t rows = args.x.dim(0);
  const int64_t columns = args.weight->out;
  const int clusters = Limits().num_sms / Tile::kCluster;
  const int tiles = Tiles(rows, Tile::kRows * Tile::kCluster) * Tiles(columns, Tile::kOutputs);
  const double rounds = Tiles(tiles, clusters);
  const double needed = static_cast<double>(rows * columns) /
                        (Tile::kRows * Tile::kCluster * Tile::kOutputs * clusters);
  return needed / rounds >= kBusy;
}

void RunTiled(CudaStream& stream, const LinearArgs& args) {
  using Tile = TiledLinear;
  TiledLinearParams p;
  p.columns = static_cast<int>(args.weight->out);
  p.rows = static_cast<int>(args.x.dim(0));
  p.k_tiles = Tiles(args.weight->in, Tile::kK);
  p.row_tiles = Tiles(p.rows, Tile::kRows * Tile::kCluster);
  p.tiles = p.row_tiles * Tiles(p.columns, Tile::kOutputs);
  p.bias = Floats(args.bias);
  p.out = args.out.data;
  p.out_stride = args.out.strides[0];
  p.out_is_f32 = args.out.dtype == DType::kF32;
  CUtensorMap weight_map;
  CUtensorMap x_map;
  if (!EncodeMatrix(args.weight->data, Tile::kOutputs / Tile::kCluster, &weight_map) ||
      !EncodeMatrix(args.x, Tile::kRows, &x_map)) {
    stream.Record(cudaErrorInvalidValue);
    return;
  }
  const int clusters = std::min(p.tiles, Limits().num_sms / Tile::kCluster);
  stream.Launch({.grid = dim3(static_cast<unsigned>(clusters * Tile::kCluster)),
                 .block = dim3(Tile::kThreads),
                 .shared_bytes = Tile::kSharedBytes,
                 .cluster = Tile::kCluster},
                LinearTiledWgmmaKernel, weight_map, x_map, p);
}

}  // namespace

bool SuitsWgmma(const LinearArgs& args) {
  if (Limits().major != 9 || FindEncodeTiled() == nullptr || !RowsArePacks(args.x)) return false;
  // Where x is small, many blocks that read their weights straight into registers hide one kernel's
  // end behind the next one's start (docs/performance.md).
  constexpr int64_t kManyOutputs = 16384;
  const int64_t rows = args.x.dim(0);
  return rows > 16 || (rows > 8 && args.weight->out >= kManyOutputs);
}

void RunWgmma(CudaStream& stream, const LinearArgs& args) {
  const int64_t rows = args.x.dim(0);
  if (rows <= 16) {
    RunFew<16>(stream, args);
  } else if (rows <= 32) {
    RunFew<32>(stream, args);
  } else if (rows <= 64) {
    RunFew<64>(stream, args);
  } else if (SuitsTiled(args)) {
    RunTiled(stream, args);
  } else {
    RunFew<128>(stream, args);
  }
}

}  // namespace gale::cuda
