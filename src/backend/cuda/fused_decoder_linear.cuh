// The weights' way through the persistent decoder kernel: which rows an SM owns, the ring that one
// warp fills by the copy engine, and the products that consumer warps take from it.
#pragma once

#include "backend/cuda/fused_decoder_tagged.cuh"
#include "backend/cuda/wgmma.cuh"

namespace gale::cuda::fused {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// This SM's rows of one weight matrix, or some columns of them, in tiles of 16 rows: rows i and
/// i + 8 of the matrix or, of a gate-up matrix, eight gates and their ups.
struct RowSlice {
  const CUtensorMap* maps;  // a whole tile's, then a last tile's of SMs that own the most, of
                            // others
  bool is_gate_up;
  int most;    // rows (gate-up: pairs) that any SM owns
  int count;   // that this one owns
  int first;   // global index of the first
  int column;  // where the columns begin
  int k;       // how many

  __device__ int step() const { return is_gate_up ? 8 : 16; }
  __device__ int groups() const { return (count + step() - 1) / step(); }
  /// Rows (pairs) of a tile.
  __device__ int Height(int group) const { return min(step(), count - group * step()); }
  __device__ int slices() const { return (k + kSliceK - 1) / kSliceK; }
  __device__ RowSlice Columns(int begin, int end) const {
    RowSlice columns = *this;
    columns.column = begin;
    columns.k = end - begin;
    return columns;
  }
};

/// The part of `n` rows that is this SM's. Found once a step: divisions take long.
struct OwnedRows {
  int first;
  int count;
  int most;

  /// `unit`: rows that are not parted.
  __device__ explicit OwnedRows(int n, uint32_t unit = 1)
      : first(static_cast<int>(n / unit * blockIdx.x / gridDim.x * unit)),
        count(static_cast<int>(n / unit * (blockIdx.x + 1) / gridDim.x * unit) - first),
        most(static_cast<int>((n / unit + gridDim.x - 1) / gridDim.x * unit)) {}

  __device__ RowSlice Slice(const CUtensorMap* maps, int k, bool is_gate_up = false) const {
    return {maps, is_gate_up, most, count, first, 0, k};
  }
};

/// This SM's parts of all that a step makes.
struct OwnedParts {
  /// `unit`: of rows that go on in vectors.
  __device__ OwnedParts(const FusedParams& p, int head_dim, uint32_t unit = 1)
      : q_width(p.q_heads * head_dim),
        qkv_width(q_width + 2 * p.kv_heads * head_dim),
        intermediate(p.intermediate),
        width(p.hidden),
        qkv(qkv_width),
        hidden(p.hidden, unit),
        mlp(p.intermediate, unit),
        vocab(p.vocab) {}

  /// The layer's matrices; the consumers, who do not copy, need no maps.
  __device__ RowSlice Qkv(const CUtensorMap* maps = nullptr) const {
    return qkv.Slice(maps, width);
  }
  __device__ RowSlice Out(const CUtensorMap* maps = nullptr) const {
    return hidden.Slice(maps, q_width);
  }
  __device__ RowSlice GateUp(const CUtensorMap* maps = nullptr) const {
    return mlp.Slice(maps, width, true);
  }
  __device__ RowSlice Down(const CUtensorMap* maps = nullptr) const {
    return hidden.Slice(maps, intermediate);
  }
  __device__ RowSlice Head(const CUtensorMap* maps = nullptr) const {
    return vocab.Slice(maps, width);
  }

  int q_width;
  int qkv_width;
  int intermediate;
  int width;
  OwnedRows qkv;
  OwnedRows hidden;
  OwnedRows mlp;
  OwnedRows vocab;
};

/// Position in the ring; producer and consumers walk it in the same order.
struct RingCursor {
  int slot = 0;
  uint32_t parity = 0;  // of the stage's `full` barrier

  __device__ void Advance(int ring_stages) {
    if (++slot == ring_stages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

/// Brings a layer's small vectors (past the last: the final norm) into L2 before the consumers ask
/// for them, a line per block, and the layer's tensor maps (then: the head's) close to the copy
/// engine. Called by the producer warp.
__device__ inline void PrefetchLayer(const FusedParams& p, const SharedLayout& s,
                                     const OwnedParts& owned, int layer) {
  const int lane = threadIdx.x & 31;
  const bool is_head = layer == p.num_layers;
  if (lane < (is_head ? 1 : kFusedMatrices) * kFusedMaps) {
    const CUtensorMap* map = p.maps + layer * kFusedMatrices * kFusedMaps + lane;
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
  }
  const auto prefetch = [&](int by_lane, const bf16* vector, int elements) {
    const int line = static_cast<int>(blockIdx.x) * 64;
    if (lane == by_lane && vector != nullptr && line < elements) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(vector + line));
    }
  };
  if (is_head) {
    prefetch(0, p.final_norm, p.hidden);
    return;
  }
  prefetch(0, s.layers[layer].input_norm, p.hidden);
  prefetch(1, s.layers[layer].mlp_norm, p.hidden);
  prefetch(2, s.layers[layer].qkv_bias, owned.qkv_width);
}

/// Copies this SM's rows into the ring, stage by stage. Called by the producer warp; `streamed`
/// counts the stages of the step.
__device__ inline void StreamSlice(const RowSlice& slice, const SharedLayout& s, int ring_stages,
                                   RingCursor& cursor, int& streamed) {
  const int lane = threadIdx.x & 31;
  const int groups = slice.groups();
  const int planes = slice.is_gate_up ? 2 : 1;
  for (int group = 0; group < groups; ++group) {
    const int height = slice.Height(group);
    const CUtensorMap* map = slice.maps + (height == slice.step()      ? 0
                                           : slice.count == slice.most ? 1
                                                                       : 2);
    const int box_bytes = height * planes * kBoxColumns * 2;
    const int row = slice.first + group * slice.step();
    for (int begin = 0; begin < slice.k; begin += kSliceK) {
      const int boxes = min(kConsumerWarps, (slice.k - begin + kBoxColumns - 1) / kBoxColumns);
      MbarrierWait(&s.empty[cursor.slot], cursor.parity ^ 1);
      const bool is_waiting = *static_cast<volatile int*>(s.is_waiting) != 0;
      const int in_flight = is_waiting ? kStagesInFlightWaiting : kStagesInFlight;
      if (streamed++ >= in_flight) {
        const int before = cursor.slot - in_flight;
        MbarrierWait(&s.full[before < 0 ? before + ring_stages : before],
                     before < 0 ? cursor.parity ^ 1 : cursor.parity);
      }
      uint64_t* full = &s.full[cursor.slot];
      if (lane == 0) MbarrierArriveExpect(full, boxes * box_bytes);
      __syncwarp();
      if (lane < boxes) {
        CopyBox(s.ring + cursor.slot * kStageBytes + lane * kBoxBytes, *map,
                {slice.column + begin + lane * kBoxColumns, row, 0, 0}, full, kEvictFirst);
      }
      cursor.Advance(ring_stages);
    }
  }
}

/// A lane's part of a stage: 16 columns of two tile rows.
struct StageWeights {
  uint4 low[2];
  uint4 high[2];
};

/// Takes this warp's box of stages of one tile into registers. A box has 128 bytes a row; 16-byte
/// piece c of the row at address a lies at piece c ^ (a / 128 % 8).
class StageReader {
 public:
  __device__ StageReader(const RowSlice& slice, int tile, const SharedLayout& s) {
    const int lane = threadIdx.x & 31;
    const int low_row = lane >> 2;
    const int high_row = low_row + (slice.is_gate_up ? slice.Height(tile) : 8);
    const uint8_t* box = s.ring + (threadIdx.x >> 5) * kBoxBytes;
    low_ = box + low_row * 128;
    high_ = box + high_row * 128;
    low_piece_ = ((lane & 3) * 2 ^ (low_row & 7)) * 16;
    high_piece_ = ((lane & 3) * 2 ^ (high_row & 7)) * 16;
  }
  __device__ void Read(int slot, StageWeights& weights) const {
    const int stage = slot * kStageBytes;
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      weights.low[u] = *reinterpret_cast<const uint4*>(low_ + stage + (low_piece_ ^ (u * 16)));
      weights.high[u] = *reinterpret_cast<const uint4*>(high_ + stage + (high_piece_ ^ (u * 16)));
    }
  }

 private:
  const uint8_t* low_;
  const uint8_t* high_;
  int low_piece_;
  int high_piece_;
};

__device__ inline void ReleaseStage(const SharedLayout& s, int ring_stages, RingCursor& cursor) {
  __syncwarp();
  if ((threadIdx.x & 31) == 0) MbarrierArrive(&s.empty[cursor.slot]);
  cursor.Advance(ring_stages);
}

/// First stages of a slice, held in registers: while a warp waits for its input, the ring has room
/// for as many more.
struct HeldStages {
  static constexpr int kMost = 3;  // with more, registers spill

  StageWeights stages[kMost];
  int count = 0;

  __device__ void Take(const RowSlice& slice, const SharedLayout& s, int ring_stages,
                       RingCursor& cursor) {
    const int slices = slice.slices();
    count = min(kMost, slices * slice.groups());
    int tile = 0;
    int part = 0;
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i >= count) continue;
      MbarrierWait(&s.full[cursor.slot], cursor.parity);
      StageReader(slice, tile, s).Read(cursor.slot, stages[i]);
      ReleaseStage(s, ring_stages, cursor);
      if (++part == slices) {
        part = 0;
        ++tile;
      }
    }
  }
};

/// y = input * slice^T of one row, from the input's column `first_column` on; `emit(group, tile
/// row, low, high)` gets, for each tile row r < 8, the sums of tile rows r and r + 8. Warp w
/// multiplies columns 64 w .. 64 w + 63 of every stage, of the first ones those held; the warps
/// meet once in kSumTiles tiles to add up their sums. `meetings` counts the step's.
///
/// Lane (g, t) holds columns 16t..16t+15 of a box, in two halves of four pairs p0 p1 p2 p3, of
/// weight row g: as they come, they are the MMA's operand A with p0, p2 in its row g and p1, p3 in
/// its row g + 8. Column 0 of operand B is the input at pairs p0, p2, column 1 at p1, p3: so the
/// product of weight row g is D[g][0] + D[g + 8][1], both of which lane (g, 0) has, and no register
/// has to move between memory and the instruction.
template <class Emit>
__device__ inline void MultiplySlice(const RowSlice& slice, int first_column, const FusedParams& p,
                                     const SharedLayout& s, RingCursor& cursor, int& meetings,
                                     const HeldStages& held, const Emit& emit) {
  const int warp = threadIdx.x >> 5;
  const int lane = threadIdx.x & 31;
  const int g = lane >> 2;
  const int lane_column = warp * kBoxColumns + (lane & 3) * 16;
  const uint8_t* lane_input = s.input + (first_column + lane_column) * 2 + (g & 1) * 8;
  const bool has_input = g < 2;
  const int groups = slice.groups();
  const int slices = slice.slices();

  float low_sums[4] = {};
  float high_sums[4] = {};
  int tile = 0;
  int part = 0;   // of the tile's stages
  int first = 0;  // tile that has not been added up
  const auto sums_of = [&](int meeting) {
    return reinterpret_cast<float2*>(s.reduce) + (meeting & 1) * kSumTiles * kConsumers / 4;
  };
  const auto multiply = [&](const StageWeights& weights) {
    const int begin = part * kSliceK;
    if (begin + warp * kBoxColumns >= slice.k) return;
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      uint2 x = {};
      if (has_input && begin + lane_column + u * 8 < slice.k) {
        x = *reinterpret_cast<const uint2*>(lane_input + begin * 2 + u * 16);
      }
      const uint4& low = weights.low[u];
      const uint4& high = weights.high[u];
      MmaBf16(low_sums, low.x, low.y, low.z, low.w, x.x, x.y);
      MmaBf16(high_sums, high.x, high.y, high.z, high.w, x.x, x.y);
    }
  };
  const auto meet = [&] {
    const float2* sums = sums_of(meetings);
    NamedBarrierSync(kConsumerBarrier, kConsumers);
    for (int index = threadIdx.x; index < (tile - first) * 8; index += kConsumers) {
      const float2* parts = sums + (index >> 3) * kConsumerWarps * 8 + (index & 7);
      float low = 0;
      float high = 0;
#pragma unroll
      for (int w = 0; w < kConsumerWarps; ++w) {
        low += parts[w * 8].x;
        high += parts[w * 8].y;
      }
      emit(first + (index >> 3), index & 7, low, high);
    }
    // The sums of the next meeting have another place: they are put down while some still add.
    ++meetings;
    first = tile;
  };
  const auto finish_tile = [&] {
    if ((lane & 3) == 0) {
      const int place = ((tile - first) * kConsumerWarps + warp) * 8 + g;
      sums_of(meetings)[place] = {low_sums[0] + low_sums[3], high_sums[0] + high_sums[3]};
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      low_sums[i] = 0;
      high_sums[i] = 0;
    }
    part = 0;
    ++tile;
    if (tile == groups || tile - first == kSumTiles) meet();
  };

#pragma unroll
  for (int i = 0; i < HeldStages::kMost; ++i) {
    if (i >= held.count) continue;
    multiply(held.stages[i]);
    if (++part == slices) finish_tile();
  }
  while (tile < groups) {
    const StageReader reader(slice, tile, s);
#pragma unroll 1
    for (; part < slices; ++part) {
      StageWeights weights;
      MbarrierWait(&s.full[cursor.slot], cursor.parity);
      reader.Read(cursor.slot, weights);
      multiply(weights);
      ReleaseStage(s, p.ring_stages, cursor);
    }
    finish_tile();
  }
}

#endif

}  // namespace gale::cuda::fused
