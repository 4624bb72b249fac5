// Products of groups of rows with a weight each, the experts of a mixture: the loops of linear.cu,
// whose blocks look up on the device which group they work for. The grid is an upper bound of the
// tiles there can be, so that nothing waits for the host; blocks without a tile end at once.
#include <algorithm>

#include "backend/cuda/linear_fma.cuh"
#include "backend/cuda/linear_mma.cuh"
#include "backend/cuda/ops.h"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

/// What blocks need to find their rows.
struct Groups {
  const int32_t* offsets;  // [count + 1]
  int count;
  const int32_t* x_rows;    // [entries] or null: an entry's own
  const int32_t* out_rows;  // [entries] or null: an entry's own
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

Groups MakeGroups(const GroupedLinearArgs& args) {
  return {.offsets = args.offsets.As<int32_t>(),
          .count = static_cast<int>(args.offsets.dim(0) - 1),
          .x_rows = args.x_rows ? args.x_rows.As<int32_t>() : nullptr,
          .out_rows = args.out_rows ? args.out_rows.As<int32_t>() : nullptr};
}

/// The most tiles that `entries` in `groups` groups can be cut into.
unsigned MaxTiles(int64_t entries, int64_t groups, int64_t tile_rows) {
  const int64_t used = std::min(entries, groups);
  return static_cast<unsigned>((entries + used * (tile_rows - 1)) / tile_rows);
}

void RunMma(CudaStream& stream, const GroupedLinearArgs& args) {
  const int64_t entries = args.out.dim(0);
  const Groups groups = MakeGroups(args);
  MmaLinearParams<EntryRows> p{.columns = static_cast<int>(args.out.dim(1)),
                               .bias = Floats(args.bias),
                               .out = args.out.data,
                               .out_stride = args.out.strides[0],
                               .out_is_f32 = false};
  if (!SetOperands(stream, *args.weight, args.x, &p)) return;
  const auto grid = [&](int outputs, int tile_rows) {
    return dim3(static_cast<unsigned>((p.columns + outputs - 1) / outputs),
                MaxTiles(entries, groups.count, tile_rows));
  };
  const auto run_stream = [&]<int kOutTiles, int kRowTiles, int kDepth>() {
    stream.Launch({grid(16 * kOutTiles, 8 * kRowTiles), dim3(kStreamThreads),
                   StreamSharedBytes(kOutTiles, kRowTiles)},
                  GroupedStreamKernel<kOutTiles, kRowTiles, kDepth>, p, groups);
  };
  // Tiles twice as high as the groups are on average: few weights are read a second time, and those
  // from the cache, and few rows are computed in vain.
  const int64_t average = entries / groups.count;
  if (average <= 4) {
    run_stream.template operator()<1, 1, 4>();
  } else if (average <= 8) {
    run_stream.template operator()<1, 2, 4>();
  } else if (average <= 16) {
    run_stream.template operator()<2, 4, 2>();
  } else if (average <= 48) {
    run_stream.template operator()<2, 8, 2>();
  } else {
    stream.Launch({grid(kTile, kTile), dim3(kTileThreads), kTileSharedBytes}, GroupedTileKernel, p,
                  groups);
  }
}

template <class X, class W>
void RunFma(CudaStream& stream, const GroupedLinearArgs& args) {
  const PackedLinear& weight = *args.weight;
  const Groups groups = MakeGroups(args);
  const FmaLinearParams<X, W, EntryRows> p{.x = args.x.As<X>(),
                                           .x_stride = args.x.strides[0],
                                           .rows = 0,
                                           .weight = weight.data.As<W>(),
                                           .weight_stride = weight.data.strides[0],
                                           .columns = static_cast<int>(args.out.dim(1)),
                                           .k = static_cast<int>(weight.in),
                                           .bias = Floats(args.bias),
                                           .out = args.out.data,
                                           .out_stride = args.out.strides[0],
                                           .out_is_f32 = args.out.dtype == DType::kF32};
  const dim3 grid(static_cast<unsigned>((p.columns + kFmaTile - 1) / kFmaTile),
                  MaxTiles(args.out.dim(0), groups.count, kFmaTile));
  stream.Launch({grid, dim3(kFmaThreads)}, GroupedFmaKernel<X, W>, p, groups);
}

}  // namespace

void RunGrouped(CudaStream& stream, const GroupedLinearArgs& args) {
  CheckGroupedLinearArgs(args);
  if (args.out.dim(0) == 0) return;
  const bool x_is_f32 = args.x.dtype == DType::kF32;
  if (args.weight->data.dtype == DType::kBf16) {
    x_is_f32 ? RunFma<float, bf16>(stream, args) : RunMma(stream, args);
  } else {
    x_is_f32 ? RunFma<float, float>(stream, args) : RunFma<bf16, float>(stream, args);
  }
}

}  // namespace gale::cuda
