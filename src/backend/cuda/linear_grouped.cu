// Products of groups of rows with a weight each, the experts of a mixture or the heads of MLA: the
// loops of linear.cu, whose blocks look up on the device which group they work for. The grid is an
// upper bound of the tiles there can be, so that nothing waits for the host; blocks without a tile
// end at once.
#include <algorithm>

#include "backend/cuda/linear_fma.cuh"
#include "backend/cuda/linear_mma.cuh"
#include "backend/cuda/ops.h"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

/// What blocks need to find their rows.
struct Groups {
  int count = 0;
  const int32_t* offsets = nullptr;   // [count + 1]; null: each group has `rows` of its own
  const int32_t* x_rows = nullptr;    // [entries] or null: an entry's own
  const int32_t* out_rows = nullptr;  // [entries] or null: an entry's own
  // Without offsets: elements from a group's rows to those of the next.
  int rows = 0;
  int64_t x_stride = 0;
  int64_t out_stride = 0;
};

/// Rows of one group: entries from `first` on.
struct EntryRows {
  const int32_t* x_rows;
  const int32_t* out_rows;
  int first;

  __device__ __forceinline__ int64_t Read(int row) const {
    return x_rows == nullptr ? first + row : x_rows[first + row];
  }
  __device__ __forceinline__ int64_t Written(int row) const {
    return out_rows == nullptr ? first + row : out_rows[first + row];
  }
};

struct GroupTile {
  int group = 0;
  int first = 0;  // entry
  int rows = 0;   // 0: there is no such tile
};

/// The index-th tile when each group is cut into tiles of `tile_rows` entries. Every warp finds it
/// by itself: a lane counts the tiles of a stretch of groups, the lanes add up.
__device__ __forceinline__ GroupTile FindTile(const Groups& groups, int tile_rows, int index) {
  if (groups.offsets == nullptr) {
    const int tiles_of_group = (groups.rows + tile_rows - 1) / tile_rows;
    const int first = index % tiles_of_group * tile_rows;
    return {index / tiles_of_group, first, min(tile_rows, groups.rows - first)};
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int stretch = (groups.count + kWarp - 1) / kWarp;
  const int begin = min(lane * stretch, groups.count);
  const int end = min(begin + stretch, groups.count);
  const auto tiles = [&](int group) {
    return (groups.offsets[group + 1] - groups.offsets[group] + tile_rows - 1) / tile_rows;
  };
  int own = 0;
  for (int group = begin; group < end; ++group) own += tiles(group);
  int through = own;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset <<= 1) {
    const int before = __shfl_up_sync(~0U, through, offset);
    if (lane >= offset) through += before;
  }
  const bool is_here = index >= through - own && index < through;
  GroupTile tile;
  if (is_here) {
    int left = index - (through - own);
    int group = begin;
    for (int n = tiles(group); left >= n; n = tiles(++group)) left -= n;
    tile.group = group;
    tile.first = groups.offsets[group] + left * tile_rows;
    tile.rows = min(tile_rows, groups.offsets[group + 1] - tile.first);
  }
  const unsigned finder = __ballot_sync(~0U, is_here);
  if (finder == 0) return {};
  const int source = __ffs(static_cast<int>(finder)) - 1;
  return {__shfl_sync(~0U, tile.group, source), __shfl_sync(~0U, tile.first, source),
          __shfl_sync(~0U, tile.rows, source)};
}

/// `params` of all groups as those of one tile.
template <class Params>
__device__ __forceinline__ void Select(const Groups& groups, const GroupTile& tile,
                                       int64_t weight_stride, Params* params) {
  const int64_t first_column = int64_t{tile.group} * params->columns;
  params->weight += first_column * weight_stride;
  params->bias = params->bias.From(first_column);
  params->x += tile.group * groups.x_stride;
  params->out = static_cast<char*>(params->out) +
                tile.group * groups.out_stride * (params->out_is_f32 ? 4 : 2);
  params->rows = tile.rows;
  params->map = {groups.x_rows, groups.out_rows, tile.first};
}

/// Blocks: (16 * kOutTiles outputs, tile of 8 * kRowTiles entries). Cost: each chosen group's
/// weights once a tile.
template <int kOutTiles, int kRowTiles, int kDepth>
__global__ void __launch_bounds__(kStreamThreads, StreamBlocksPerSm(kRowTiles))
    GroupedStreamKernel(MmaLinearParams<EntryRows> p, Groups groups) {
  LaunchDependents();
  WaitForPrerequisites();
  const GroupTile tile = FindTile(groups, 8 * kRowTiles, static_cast<int>(blockIdx.y));
  if (tile.rows == 0) return;
  Select(groups, tile, int64_t{p.units} * kUnit, &p);
  MultiplyStreamed<kOutTiles, kRowTiles, kDepth>(p, static_cast<int>(blockIdx.x) * 16 * kOutTiles);
}

/// Blocks: (128 outputs, tile of 128 entries).
__global__ void __launch_bounds__(kTileThreads, 1)
    GroupedTileKernel(MmaLinearParams<EntryRows> p, Groups groups) {
  LaunchDependents();
  WaitForPrerequisites();
  const GroupTile tile = FindTile(groups, kTile, static_cast<int>(blockIdx.y));
  if (tile.rows == 0) return;
  Select(groups, tile, int64_t{p.units} * kUnit, &p);
  MultiplyTile(p, static_cast<int>(blockIdx.x) * kTile, 0);
}

/// Blocks: (64 outputs, tile of 64 entries).
template <class X, class W>
__global__ void __launch_bounds__(kFmaThreads)
    GroupedFmaKernel(FmaLinearParams<X, W, EntryRows> p, Groups groups) {
  LaunchDependents();
  WaitForPrerequisites();
  const GroupTile tile = FindTile(groups, kFmaTile, static_cast<int>(blockIdx.y));
  if (tile.rows == 0) return;
  Select(groups, tile, p.weight_stride, &p);
  MultiplyFma(p, static_cast<int>(blockIdx.x) * kFmaTile, 0);
}

/// The most tiles that there can be.
unsigned MaxTiles(const Groups& groups, int64_t entries, int64_t tile_rows) {
  if (groups.offsets == nullptr) {
    return static_cast<unsigned>(groups.count * ((groups.rows + tile_rows - 1) / tile_rows));
  }
  const int64_t used = std::min<int64_t>(entries, groups.count);
  return static_cast<unsigned>((entries + used * (tile_rows - 1)) / tile_rows);
}

void LaunchMma(CudaStream& stream, const MmaLinearParams<EntryRows>& p, const Groups& groups,
               int64_t entries) {
  const auto grid = [&](int outputs, int tile_rows) {
    return dim3(static_cast<unsigned>((p.columns + outputs - 1) / outputs),
                MaxTiles(groups, entries, tile_rows));
  };
  const auto run_stream = [&]<int kOutTiles, int kRowTiles, int kDepth>() {
    stream.Launch({grid(16 * kOutTiles, 8 * kRowTiles), dim3(kStreamThreads),
                   StreamSharedBytes(kOutTiles, kRowTiles)},
                  GroupedStreamKernel<kOutTiles, kRowTiles, kDepth>, p, groups);
  };
  // Where groups differ, tiles twice as high as the groups are on average: few weights are read a
  // second time, and those from the cache, and few rows are computed in vain.
  const int64_t height = (groups.offsets == nullptr ? 1 : 2) * (entries / groups.count);
  if (height <= 8) {
    run_stream.template operator()<1, 1, 4>();
  } else if (height <= 16) {
    run_stream.template operator()<1, 2, 4>();
  } else if (height <= 32) {
    run_stream.template operator()<2, 4, 2>();
  } else if (height <= 96) {
    run_stream.template operator()<2, 8, 2>();
  } else {
    stream.Launch({grid(kTile, kTile), dim3(kTileThreads), kTileSharedBytes}, GroupedTileKernel, p,
                  groups);
  }
}

/// x [x rows, in] or [x rows, groups, in]; out [entries, columns] or [entries, groups, columns].
struct Product {
  TensorView x;
  const PackedLinear* weight;
  TensorView bias;
  TensorView out;
  Groups groups;
  int64_t entries;

  int columns() const { return static_cast<int>(out.dims[out.rank - 1]); }
};

void RunMma(CudaStream& stream, Product product) {
  MmaLinearParams<EntryRows> p{.columns = product.columns(),
                               .bias = Floats(product.bias),
                               .out = product.out.data,
                               .out_stride = product.out.strides[0]};
  int64_t* group_stride = product.x.rank == 3 ? &product.groups.x_stride : nullptr;
  if (!SetOperands(stream, *product.weight, product.x, &p, group_stride)) return;
  LaunchMma(stream, p, product.groups, product.entries);
}

template <class X, class W>
void RunFma(CudaStream& stream, const Product& product) {
  const PackedLinear& weight = *product.weight;
  const FmaLinearParams<X, W, EntryRows> p{.x = product.x.As<X>(),
                                           .x_stride = product.x.strides[0],
                                           .rows = 0,
                                           .weight = weight.data.As<W>(),
                                           .weight_stride = weight.data.strides[0],
                                           .columns = product.columns(),
                                           .k = static_cast<int>(weight.in),
                                           .bias = Floats(product.bias),
                                           .out = product.out.data,
                                           .out_stride = product.out.strides[0],
                                           .out_is_f32 = product.out.dtype == DType::kF32};
  const dim3 grid(static_cast<unsigned>((p.columns + kFmaTile - 1) / kFmaTile),
                  MaxTiles(product.groups, product.entries, kFmaTile));
  stream.Launch({grid, dim3(kFmaThreads)}, GroupedFmaKernel<X, W>, p, product.groups);
}

void Run(CudaStream& stream, const Product& product) {
  if (product.entries == 0) return;
  const bool x_is_f32 = product.x.dtype == DType::kF32;
  if (product.weight->data.dtype == DType::kBf16) {
    x_is_f32 ? RunFma<float, bf16>(stream, product) : RunMma(stream, product);
  } else {
    x_is_f32 ? RunFma<float, float>(stream, product) : RunFma<bf16, float>(stream, product);
  }
}

}  // namespace

void RunGrouped(CudaStream& stream, const GroupedLinearArgs& args) {
  CheckGroupedLinearArgs(args);
  Groups groups;
  groups.count = static_cast<int>(args.offsets.dim(0) - 1);
  groups.offsets = args.offsets.As<int32_t>();
  if (args.x_rows) groups.x_rows = args.x_rows.As<int32_t>();
  if (args.out_rows) groups.out_rows = args.out_rows.As<int32_t>();
  Run(stream, {args.x, args.weight, args.bias, args.out, groups, args.out.dim(0)});
}

void RunBatched(CudaStream& stream, const BatchedLinearArgs& args) {
  CheckBatchedLinearArgs(args);
  Groups groups;
  groups.count = static_cast<int>(args.x.dim(1));
  groups.rows = static_cast<int>(args.x.dim(0));
  groups.x_stride = args.x.strides[1];
  groups.out_stride = args.out.strides[1];
  Run(stream,
      {args.x, args.weight, {}, args.out, groups, int64_t{groups.count} * int64_t{groups.rows}});
}

}  // namespace gale::cuda
