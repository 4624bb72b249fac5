// Host side of the Hopper linear kernels: tensor maps, the division of work, the launch.
#include <algorithm>
#include <utility>

#include "backend/cuda/linear_wgmma.cuh"
#include "backend/cuda/linear_wgmma_tiled.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/tensor_map.h"

namespace gale::cuda {
namespace {

/// A matrix of bf16 in boxes of box_rows x 64, for copies that swizzle by 128 bytes.
bool EncodeMatrix(const TensorView& matrix, int box_rows, CUtensorMap* map) {
  const cuuint64_t dims[2] = {static_cast<cuuint64_t>(matrix.dim(1)),
                              static_cast<cuuint64_t>(matrix.dim(0))};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(matrix.strides[0]) * sizeof(bf16)};
  const cuuint32_t box[2] = {kWgmmaK, static_cast<cuuint32_t>(box_rows)};
  return EncodeTensorMap(matrix.data, dims, strides, box, map);
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

/// The width of tiles that a product takes the least time with, by estimate.
struct TileChoice {
  int outputs = 0;
  double busy = 0;  ///< share of that time that the matrix units could not do without
};

/// `outputs`: of all weights.
TileChoice ChooseTile(int64_t rows, int64_t outputs) {
  // A stage of 128 rows by so many outputs, in cycles: narrow tiles read shared memory more often
  // (docs/performance.md).
  constexpr std::pair<int, double> kStageCycles[] = {{256, 1024}, {192, 791}, {128, 553}};
  constexpr int kRows = 128;
  const double needed =
      static_cast<double>(rows) / kRows * static_cast<double>(outputs) * 4 / Limits().num_sms;
  TileChoice best;
  for (const auto& [width, cycles] : kStageCycles) {
    const double busy =
        needed /
        (Tiles(int64_t{Tiles(rows, kRows)} * Tiles(outputs, width), Limits().num_sms) * cycles);
    if (busy > best.busy) best = {width, busy};
  }
  return best;
}

template <int kOutputs, bool kGated>
void RunTiles(CudaStream& stream, const LinearArgs& args, const TensorView& out) {
  using Tile = TiledLinear<kOutputs, kGated>;
  TiledLinearParams p;
  p.columns = static_cast<int>(out.dim(1));
  p.gap = static_cast<int>(args.weight->out) - p.columns;
  p.rows = static_cast<int>(args.x.dim(0));
  p.k_tiles = Tiles(args.weight->in, Tile::kK);
  p.row_tiles = Tiles(p.rows, Tile::kRows);
  p.tiles = p.row_tiles * Tiles(p.columns, Tile::kColumns);
  p.bias = Floats(args.bias);
  p.out = out.data;
  p.out_stride = out.strides[0];
  p.out_is_f32 = out.dtype == DType::kF32;
  CUtensorMap weight_map;
  CUtensorMap x_map;
  if (!EncodeMatrix(args.weight->data, kOutputs / 2, &weight_map) ||
      !EncodeMatrix(args.x, Tile::kRows, &x_map)) {
    stream.Record(cudaErrorInvalidValue);
    return;
  }
  const int blocks = std::min(p.tiles, Limits().num_sms);
  stream.Launch({.grid = dim3(static_cast<unsigned>(blocks)),
                 .block = dim3(Tile::kThreads),
                 .shared_bytes = Tile::kSharedBytes},
                LinearTiledWgmmaKernel<Tile>, weight_map, x_map, p);
}

template <bool kGated>
void RunTiled(CudaStream& stream, const LinearArgs& args, const TensorView& out, int outputs) {
  switch (outputs) {
    case 256: RunTiles<256, kGated>(stream, args, out); break;
    case 192: RunTiles<192, kGated>(stream, args, out); break;
    default: RunTiles<128, kGated>(stream, args, out); break;
  }
}

/// Whether tiles can read the operands and write the result, whatever their width.
bool TilesTake(const LinearArgs& args, const TensorView& out) {
  constexpr int64_t kMinK = TiledLinear<256, false>::kMinKTiles * kWgmmaK;
  return RowsArePacks(args.x) && RowsArePacks(out) && args.weight->in >= kMinK;
}

}  // namespace

bool SuitsWgmma(const LinearArgs& args) {
  // Up to eight rows are small enough that blocks read their weights straight into registers
  // (docs/performance.md).
  constexpr int64_t kFewRows = 8;
  return Limits().major == 9 && HasTensorMaps() && RowsArePacks(args.x) && args.x.dim(0) > kFewRows;
}

bool SuitsCublasLt(const LinearArgs& args) {
  const int64_t rows = args.x.dim(0);
  const int64_t outputs = args.weight->out;
  if (Limits().major != 9) return rows > 64;
  // Our kernels start before the one before them has ended, and let the next one do so, which
  // counts where layers are small; and where tiles fill the device, theirs are no faster
  // (docs/performance.md).
  if (rows <= 8) return false;
  if (rows <= 32) return outputs > 2048 && outputs < 16384;
  constexpr double kBusy = 0.9;
  return rows * outputs > 1 << 16 &&
         (rows < 2048 || ChooseTile(rows, outputs).busy < kBusy || !TilesTake(args, args.out));
}

void RunWgmma(CudaStream& stream, const LinearArgs& args) {
  constexpr double kBusy = 0.6;
  const int64_t rows = args.x.dim(0);
  const TileChoice tile = ChooseTile(rows, args.weight->out);
  if (rows <= 16) {
    RunFew<16>(stream, args);
  } else if (rows <= 32) {
    RunFew<32>(stream, args);
  } else if (rows <= 64) {
    RunFew<64>(stream, args);
  } else if (tile.busy >= kBusy && TilesTake(args, args.out)) {
    RunTiled<false>(stream, args, args.out, tile.outputs);
  } else {
    RunFew<128>(stream, args);
  }
}

bool RunGatedWgmma(CudaStream& stream, const LinearArgs& args, const TensorView& out) {
  constexpr double kBusy = 0.8;
  const TileChoice tile = ChooseTile(args.x.dim(0), args.weight->out);
  if (!SuitsWgmma(args) || tile.busy < kBusy || !TilesTake(args, out)) return false;
  RunTiled<true>(stream, args, out, tile.outputs);
  return true;
}

}  // namespace gale::cuda
