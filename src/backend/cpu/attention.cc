// Paged attention without a score matrix: online softmax over tiles of kAttentionTile positions.
//
// A block holds, for each layer of the group and each kv head, its keys and then its values:
//   K  [block_tokens / tile][padded head_dim][tile]
//   V  [block_tokens][padded head_dim]
// or where queries and both are bf16, in pairs for the processor's dot products:
//   K  [block_tokens / tile][padded head_dim / 2][tile][2]
//   V  [block_tokens / 2][padded head_dim][2]
// Where a value is a part of its key (KvKind::kLatent), a block holds rows as those of V alone. Of
// a quantized cache (backend/kv_format.h) these are codes, of int4 in groups of two tiles' widths
// whose first half are the low halves of bytes, and each tile is made f32 first. A tile of keys is
// transposed, so that scores come by the vector, without horizontal sums. head_dim is padded with
// zeros to a multiple of the tile.
//
// Tiles are taken in ascending order by every query, by stretches of kStretch positions that each
// begin anew and are then merged in ascending order, on one thread or several: so a row's result
// depends neither on the chunk it came in nor on its neighbours.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/ops.h"
#include "backend/kv_format.h"
#include "tensor/bf16.h"

namespace gale::cpu {
namespace {

/// Query rows (tokens times heads of a group) of a task: enough to use each
/// loaded tile well.
constexpr int kTaskRows = 32;
/// Positions that one thread takes at least.
constexpr int32_t kStretch = 1024;

/// Query tokens [first, last) of one sequence, for one kv head.
struct Task {
  int32_t sequence = 0;
  int32_t kv_head = 0;
  int32_t first = 0;
  int32_t last = 0;
};

/// A task's part of the positions: stretch `number` of them.
struct Stretch {
  int64_t task = 0;
  int32_t number = 0;
};

/// What softmax over some positions has come to, a number or a vector for each query row.
struct RunningSoftmax {
  float* acc = nullptr;  ///< [rows, padded head_dim]
  float* max = nullptr;  ///< -inf where nothing was visible
  float* sum = nullptr;
};

class CpuAttention final : public AttentionBackend {
 public:
  CpuAttention(Context& context, const AttentionSpec& spec)
      : context_(context),
        spec_(spec),
        group_(spec.q_heads / spec.kv_heads),
        padded_dim_(PaddedDim(spec)),
        in_pairs_(spec.kind != KvKind::kLatent && spec.dtype == DType::kBf16 &&
                  spec.kv == KvFormat::kBf16),
        stored_(spec.kv == KvFormat::kBf16 ? DType::kBf16 : DType::kF32) {
    GALE_CHECK_EQ(spec.q_heads % spec.kv_heads, 0);
    if (spec.kind == KvKind::kSlidingWindow) GALE_CHECK_GE(spec.window, 1);
    GALE_CHECK_GE(spec.value_dim(), 1);
    GALE_CHECK_LE(spec.value_dim(), spec.head_dim);
  }

  std::span<const int> BlockTokens() const override {
    static constexpr std::array<int, 5> kAllowed = {16, 32, 64, 128, 256};
    return kAllowed;
  }

  size_t BytesPerBlock(int block_tokens) const override {
    const int64_t rows = int64_t{spec_.layers} * spec_.kv_heads * Parts() * block_tokens;
    return static_cast<size_t>(KvBytes(spec_.kv, rows, padded_dim_));
  }

  void BindCache(const KvCacheView& cache) override {
    GALE_CHECK_EQ(cache.block_tokens % kAttentionTile, 0);
    GALE_CHECK_GE(cache.blocks.dim(1), static_cast<int64_t>(BytesPerBlock(cache.block_tokens)));
    cache_ = cache;
  }

  size_t PlanBytes(int, int) const override { return 0; }

  void Plan(const AttentionBatch& batch) override {
    CheckDType(batch.seq_lens, DType::kI32);
    CheckDType(batch.block_tables, DType::kI32);
    CheckRows(batch.block_tables);
    batch_ = batch;
    tasks_.clear();
    const int tokens_per_task = std::max(1, kTaskRows / group_);
    for (size_t s = 0; s + 1 < batch.cu_seqlens_q.size(); ++s) {
      const int32_t end = batch.cu_seqlens_q[s + 1];
      for (int32_t first = batch.cu_seqlens_q[s]; first < end; first += tokens_per_task) {
        for (int head = 0; head < spec_.kv_heads; ++head) {
          tasks_.push_back(
              {static_cast<int32_t>(s), head, first, std::min(first + tokens_per_task, end)});
        }
      }
    }
    PlanStretches();
  }

  void WriteKv(Stream&, const KvWriteArgs& args) override {
    const std::lock_guard lock(context_.mutex);
    const int64_t tokens = args.k.dim(0);
    CheckActivation(args.k);
    CheckShape(args.k, {tokens, spec_.kv_heads, spec_.head_dim});
    if (!is_latent()) CheckShape(args.v, {tokens, spec_.kv_heads, spec_.head_dim});
    CheckDType(args.slot_mapping, DType::kI32);
    const int64_t cost = int64_t{2} * spec_.kv_heads * spec_.head_dim;
    ForRows(context_, tokens, cost, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t t = begin; t < end; ++t) WriteToken(args, t, thread);
    });
  }

  void Run(Stream&, const AttentionArgs& args) override {
    const std::lock_guard lock(context_.mutex);
    const int64_t tokens = args.q.dim(0);
    CheckActivation(args.q);
    CheckActivation(args.out);
    CheckShape(args.q, {tokens, spec_.q_heads, spec_.head_dim});
    CheckShape(args.out, {tokens, spec_.q_heads, spec_.value_dim()});
    if (args.sinks) CheckArray(args.sinks, DType::kF32, {spec_.q_heads});
    const auto num_tasks = std::ssize(tasks_);
    if (stretches_.empty()) {
      context_.pool.ParallelFor(num_tasks, [&](int64_t i, int thread) {
        RunTask(args, tasks_[static_cast<size_t>(i)], thread);
      });
      return;
    }
    float* memory = context_.shared_scratch.Floats(std::ssize(stretches_) * StateFloats());
    context_.pool.ParallelFor(std::ssize(stretches_), [&](int64_t i, int thread) {
      const Stretch& stretch = stretches_[static_cast<size_t>(i)];
      const Task& task = tasks_[static_cast<size_t>(stretch.task)];
      RunStretch(args, task, stretch.number, StateAt(memory + i * StateFloats(), Rows(task)),
                 thread);
    });
    context_.pool.ParallelFor(
        num_tasks, [&](int64_t t, int thread) { MergeStretches(args, t, memory, thread); });
  }

 private:
  /// Stretches of their own for threads that tasks would leave idle.
  void PlanStretches() {
    stretches_.clear();
    if (std::ssize(tasks_) >= 4 * context_.pool.threads()) return;
    for (int64_t t = 0; t < std::ssize(tasks_); ++t) {
      const auto s = static_cast<size_t>(tasks_[static_cast<size_t>(t)].sequence);
      const int32_t positions = batch_.seq_lens_upper[s];
      for (int32_t first = 0; first == 0 || first < positions; first += kStretch) {
        stretches_.push_back({t, first / kStretch});
      }
    }
    if (stretches_.size() == tasks_.size()) stretches_.clear();
  }

  int Rows(const Task& task) const { return (task.last - task.first) * group_; }
  int64_t StateFloats() const { return std::max(kTaskRows, group_) * (padded_dim_ + 2); }
  RunningSoftmax StateAt(float* memory, int rows) const {
    float* max = memory + rows * padded_dim_;
    return {memory, max, max + rows};
  }

  /// What a tile's head_dim is. 4-bit codes come in groups of two tiles' widths.
  static int64_t PaddedDim(const AttentionSpec& spec) {
    const int64_t unit = spec.kv == KvFormat::kInt4 ? 2 * kAttentionTile : kAttentionTile;
    return (spec.head_dim + unit - 1) / unit * unit;
  }

  bool is_latent() const { return spec_.kind == KvKind::kLatent; }
  int Parts() const { return is_latent() ? 1 : 2; }  ///< keys and values
  int64_t ElementBytes() const { return static_cast<int64_t>(DTypeBytes(stored_)); }
  int64_t RowBytes() const { return KvRowBytes(spec_.kv, padded_dim_); }
  /// Of the keys, or the values, of one head in one block.
  int64_t PartBytes() const { return cache_.block_tokens * RowBytes(); }
  int64_t PartNumber(int layer, int kv_head, int part) const {
    return (int64_t{layer} * spec_.kv_heads + kv_head) * Parts() + part;
  }

  /// Keys (part 0) or values of one head in one block.
  char* PartAt(int32_t block, int layer, int kv_head, int part) const {
    return static_cast<char*>(cache_.blocks.data) + block * cache_.blocks.strides[0] +
           PartNumber(layer, kv_head, part) * PartBytes();
  }
  /// Their scales, where they are quantized; these follow the codes of the whole block.
  uint32_t* ScalesAt(int32_t block, int layer, int kv_head, int part) const {
    return reinterpret_cast<uint32_t*>(PartAt(block, spec_.layers, 0, 0)) +
           PartNumber(layer, kv_head, part) * cache_.block_tokens;
  }

  void WriteToken(const KvWriteArgs& args, int64_t token, int thread) const {
    const CpuKernels& kernels = context_.kernels;
    const int32_t slot = args.slot_mapping.As<int32_t>()[token];
    if (slot < 0) return;
    const int32_t block = slot / cache_.block_tokens;
    const int32_t offset = slot % cache_.block_tokens;
    GALE_CHECK_LT(block, cache_.blocks.dim(0));
    float* row = context_.thread_scratch[static_cast<size_t>(thread)].Floats(2 * padded_dim_);
    std::fill(row + spec_.head_dim, row + padded_dim_, 0.0F);
    for (int head = 0; head < spec_.kv_heads; ++head) {
      for (int part = 0; part < Parts(); ++part) {
        const TensorView& all = part == 0 ? args.k : args.v;
        const TensorView source = all.Slice(0, token, token + 1).Slice(1, head, head + 1);
        kernels.to_f32(source.data, source.dtype, row, spec_.head_dim);
        char* tile = PartAt(block, args.layer, head, part) +
                     offset / kAttentionTile * kAttentionTile * RowBytes();
        const bool is_column = part == 0 && !is_latent();
        if (IsQuantized(spec_.kv)) {
          auto* codes = reinterpret_cast<uint8_t*>(row + padded_dim_);
          ScalesAt(block, args.layer, head, part)[offset] = Encode(row, codes);
          ScatterCodes(codes, is_column, offset % kAttentionTile, reinterpret_cast<uint8_t*>(tile));
        } else if (is_column) {
          ScatterKey(row, tile, offset % kAttentionTile);
        } else if (in_pairs_) {
          ScatterValue(row, tile, offset % kAttentionTile);
        } else {
          kernels.from_f32(row, tile + offset % kAttentionTile * RowBytes(), stored_, padded_dim_);
        }
      }
    }
  }

  /// One column of a K tile: elements kAttentionTile apart, of keys in pairs two beside each other.
  void ScatterKey(const float* row, char* tile, int64_t column) const {
    for (int64_t d = 0; d < padded_dim_; ++d) {
      const int64_t at =
          in_pairs_ ? (d / 2 * kAttentionTile + column) * 2 + d % 2 : d * kAttentionTile + column;
      char* element = tile + at * ElementBytes();
      if (stored_ == DType::kBf16) {
        const Bf16 rounded = ToBf16(row[d]);
        std::memcpy(element, &rounded, sizeof(rounded));
      } else {
        std::memcpy(element, &row[d], sizeof(row[d]));
      }
    }
  }

  /// One row of a V tile in pairs.
  void ScatterValue(const float* row, char* tile, int64_t position) const {
    auto* pairs = reinterpret_cast<Bf16*>(tile) + position / 2 * 2 * padded_dim_ + position % 2;
    for (int64_t d = 0; d < padded_dim_; ++d) pairs[2 * d] = ToBf16(row[d]);
  }

  /// A row's codes, a byte each, and its scale.
  uint32_t Encode(const float* row, uint8_t* codes) const {
    float low = 0;
    float high = 0;
    context_.kernels.row_range(row, spec_.head_dim, &low, &high);
    const KvScale scale = ScaleOfRow(spec_.kv, low, high);
    context_.kernels.encode_kv(spec_.kv, row, padded_dim_, scale.scale, scale.offset, codes);
    return PackScale(spec_.kv, scale);
  }

  /// Row `index` of a tile of codes, or its column.
  void ScatterCodes(const uint8_t* codes, bool is_column, int64_t index, uint8_t* tile) const {
    for (int64_t d = 0; d < padded_dim_; ++d) {
      const int64_t at = is_column ? d * kAttentionTile + index : index * padded_dim_ + d;
      if (spec_.kv != KvFormat::kInt4) {
        tile[at] = codes[d];
        continue;
      }
      uint8_t& both = tile[at / (2 * kAttentionTile) * kAttentionTile + at % kAttentionTile];
      const bool is_high = at / kAttentionTile % 2 == 1;
      both =
          static_cast<uint8_t>(is_high ? (both & 0x0F) | codes[d] << 4 : (both & 0xF0) | codes[d]);
    }
  }

  void RunTask(const AttentionArgs& args, const Task& task, int thread) const {
    if (PositionOf(task, task.first) < 0) return;  // fills up a graph
    std::vector<float> memory(static_cast<size_t>(2 * StateFloats()));
    const RunningSoftmax part = StateAt(memory.data(), Rows(task));
    const RunningSoftmax total = StateAt(memory.data() + StateFloats(), Rows(task));
    BeginSoftmax(args.sinks, task, total);
    const int32_t last = PositionOf(task, task.last - 1) / kStretch;
    for (int32_t n = FirstVisible(PositionOf(task, task.first)) / kStretch; n <= last; ++n) {
      RunStretch(args, task, n, part, thread);
      Merge(part, Rows(task), total);
    }
    StoreOutput(args.out, task, total);
  }

  /// Task `t` from what its stretches came to.
  void MergeStretches(const AttentionArgs& args, int64_t t, float* memory, int thread) const {
    const Task& task = tasks_[static_cast<size_t>(t)];
    if (PositionOf(task, task.first) < 0) return;
    const RunningSoftmax total = StateAt(
        context_.thread_scratch[static_cast<size_t>(thread)].Floats(StateFloats()), Rows(task));
    BeginSoftmax(args.sinks, task, total);
    for (size_t i = 0; i < stretches_.size(); ++i) {
      if (stretches_[i].task != t) continue;
      Merge(StateAt(memory + static_cast<int64_t>(i) * StateFloats(), Rows(task)), Rows(task),
            total);
    }
    StoreOutput(args.out, task, total);
  }

  void Merge(const RunningSoftmax& part, int rows, const RunningSoftmax& total) const {
    for (int r = 0; r < rows; ++r) {
      if (part.sum[r] == 0) continue;  // nothing visible
      const float max = std::max(total.max[r], part.max[r]);
      const float old_factor = std::exp(total.max[r] - max);
      const float new_factor = std::exp(part.max[r] - max);
      float* acc = total.acc + r * padded_dim_;
      const float* added = part.acc + r * padded_dim_;
      for (int64_t d = 0; d < padded_dim_; ++d)
        acc[d] = acc[d] * old_factor + added[d] * new_factor;
      total.sum[r] = total.sum[r] * old_factor + part.sum[r] * new_factor;
      total.max[r] = max;
    }
  }

  /// Positions [number, number + 1) * kStretch, as far as the task sees them.
  void RunStretch(const AttentionArgs& args, const Task& task, int32_t number,
                  const RunningSoftmax& state, int thread) const {
    const int rows = Rows(task);
    std::fill_n(state.acc, rows * padded_dim_, 0.0F);
    std::fill_n(state.max, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(state.sum, rows, 0.0F);
    const int32_t first_position = PositionOf(task, task.first);
    if (first_position < 0) return;
    const int32_t first_tile =
        std::max(FirstVisible(first_position), number * kStretch) / kAttentionTile;
    const int32_t last_tile =
        std::min(PositionOf(task, task.last - 1), (number + 1) * kStretch - 1) / kAttentionTile;
    if (first_tile > last_tile) return;

    const int64_t tile_floats = int64_t{kAttentionTile} * padded_dim_;
    float* q = context_.thread_scratch[static_cast<size_t>(thread)].Floats(rows * padded_dim_ +
                                                                           2 * tile_floats);
    LoadQueries(args.q, task, q);
    std::vector<int32_t> begins(static_cast<size_t>(rows));
    std::vector<int32_t> ends(static_cast<size_t>(rows));
    AttentionTile tile{.kv = is_latent() ? DType::kF32 : stored_,
                       .head_dim = static_cast<int>(padded_dim_),
                       .rows = rows,
                       .q = q,
                       .q_pairs = in_pairs_ ? reinterpret_cast<const Bf16*>(q) : nullptr,
                       .scale = spec_.scale,
                       .softcap = spec_.softcap,
                       .begin = begins.data(),
                       .end = ends.data(),
                       .max = state.max,
                       .sum = state.sum,
                       .acc = state.acc};
    for (int32_t t = first_tile; t <= last_tile; ++t) {
      for (int r = 0; r < rows; ++r) {
        const int32_t position = first_position + r / group_;
        begins[static_cast<size_t>(r)] = std::max(FirstVisible(position) - t * kAttentionTile, 0);
        ends[static_cast<size_t>(r)] = std::min(position + 1 - t * kAttentionTile, kAttentionTile);
      }
      LoadTile(args.layer, task, t, last_tile, q + rows * padded_dim_, &tile);
      context_.kernels.attend(tile);
    }
  }

  /// A sink is a score that comes before all others and has no value.
  void BeginSoftmax(const TensorView& sinks, const Task& task, const RunningSoftmax& state) const {
    std::fill_n(state.acc, Rows(task) * padded_dim_, 0.0F);
    for (int r = 0; r < Rows(task); ++r) {
      state.max[r] = sinks ? sinks.As<float>()[task.kv_head * group_ + r % group_]
                           : -std::numeric_limits<float>::infinity();
      state.sum[r] = sinks ? 1.0F : 0.0F;
    }
  }

  /// Position of query token `token` of the task's sequence.
  int32_t PositionOf(const Task& task, int32_t token) const {
    const auto s = static_cast<size_t>(task.sequence);
    return batch_.seq_lens.As<int32_t>()[s] - (batch_.cu_seqlens_q[s + 1] - token);
  }

  int32_t FirstVisible(int32_t position) const {
    if (spec_.kind != KvKind::kSlidingWindow) return 0;
    return std::max(position - spec_.window + 1, 0);
  }

  /// Rows of padded_dim_ floats, scaled; beside pairs rows of bf16 as
  /// they are.
  void LoadQueries(const TensorView& source, const Task& task, float* first) const {
    float* q = first;
    for (int32_t token = task.first; token < task.last; ++token) {
      for (int g = 0; g < group_; ++g, q += padded_dim_) {
        const int head = task.kv_head * group_ + g;
        const TensorView row = source.Slice(0, token, token + 1).Slice(1, head, head + 1);
        if (in_pairs_) {
          Bf16* pairs = reinterpret_cast<Bf16*>(first) + (q - first);
          std::memcpy(pairs, row.data, static_cast<size_t>(spec_.head_dim) * sizeof(Bf16));
          std::fill(pairs + spec_.head_dim, pairs + padded_dim_, Bf16{});
          continue;
        }
        context_.kernels.to_f32(row.data, row.dtype, q, spec_.head_dim);
        for (int d = 0; d < spec_.head_dim; ++d) q[d] *= spec_.scale;
        std::fill(q + spec_.head_dim, q + padded_dim_, 0.0F);
      }
    }
  }

  int32_t BlockOf(const Task& task, int32_t tile) const {
    const auto* table = static_cast<const int32_t*>(RowAt(batch_.block_tables, task.sequence));
    return table[tile / (cache_.block_tokens / kAttentionTile)];
  }
  /// Of the tile's first position in its block.
  int32_t OffsetOf(int32_t tile) const { return tile * kAttentionTile % cache_.block_tokens; }

  /// Keys, or values, of tile `t` of the task's sequence.
  const char* TileAt(int layer, const Task& task, int32_t t, int part) const {
    return PartAt(BlockOf(task, t), layer, task.kv_head, part) + OffsetOf(t) * RowBytes();
  }

  /// Points the tile at its keys and values; what is not as a kernel reads it is made in `buffer`,
  /// in f32.
  void LoadTile(int layer, const Task& task, int32_t t, int32_t last, float* buffer,
                AttentionTile* tile) const {
    float* rows = buffer + int64_t{kAttentionTile} * padded_dim_;
    if (is_latent() || IsQuantized(spec_.kv)) {
      tile->k = buffer;
      tile->v = rows;
      for (int part = 0; part < Parts(); ++part) {
        LoadRows(layer, task, t, part, part == 0 && !is_latent() ? buffer : rows);
        if (t < last) PrefetchTile(TileAt(layer, task, t + 1, part));
      }
      if (is_latent()) TransposeTile(rows, buffer);
      return;
    }
    tile->k = TileAt(layer, task, t, 0);
    tile->v = TileAt(layer, task, t, 1);
    const auto ahead = [&](int32_t tiles, int part) {
      return t + tiles > last ? nullptr : TileAt(layer, task, t + tiles, part);
    };
    constexpr int32_t kFarTiles = 3;  // 24 KB of heads of 128
    tile->next_k = ahead(1, 0);
    tile->next_v = ahead(1, 1);
    tile->far_k = ahead(kFarTiles, 0);
    tile->far_v = ahead(kFarTiles, 1);
  }

  /// A tile of the cache to f32, in the order in which it lies there.
  void LoadRows(int layer, const Task& task, int32_t t, int part, float* out) const {
    const char* tile = TileAt(layer, task, t, part);
    if (!IsQuantized(spec_.kv)) {
      context_.kernels.to_f32(tile, stored_, out, kAttentionTile * padded_dim_);
      return;
    }
    const auto* codes = reinterpret_cast<const uint8_t*>(tile);
    const uint32_t* words = ScalesAt(BlockOf(task, t), layer, task.kv_head, part) + OffsetOf(t);
    std::array<KvScale, kAttentionTile> of;
    for (size_t i = 0; i < of.size(); ++i) of[i] = UnpackScale(spec_.kv, words[i]);
    std::array<float, kAttentionTile> scales;
    std::array<float, kAttentionTile> offsets;
    if (part == 0 && !is_latent()) {
      for (size_t i = 0; i < of.size(); ++i) {
        scales[i] = of[i].scale;
        offsets[i] = of[i].offset;
      }
      context_.kernels.unpack_kv(spec_.kv, codes, kAttentionTile * padded_dim_, scales.data(),
                                 offsets.data(), out);
      return;
    }
    for (const KvScale& row : of) {
      scales.fill(row.scale);
      offsets.fill(row.offset);
      context_.kernels.unpack_kv(spec_.kv, codes, padded_dim_, scales.data(), offsets.data(), out);
      codes += RowBytes();
      out += padded_dim_;
    }
  }

  void PrefetchTile(const char* tile) const {
    constexpr int64_t kLine = 64;
    for (int64_t i = 0; i < kAttentionTile * RowBytes(); i += kLine) __builtin_prefetch(tile + i);
  }

  void TransposeTile(const float* rows, float* columns) const {
    for (int64_t d = 0; d < padded_dim_; ++d) {
      for (int64_t i = 0; i < kAttentionTile; ++i) {
        columns[d * kAttentionTile + i] = rows[i * padded_dim_ + d];
      }
    }
  }

  void StoreOutput(const TensorView& out, const Task& task, const RunningSoftmax& total) const {
    float* acc = total.acc;
    const float* sum = total.sum;
    for (int32_t token = task.first; token < task.last; ++token) {
      for (int g = 0; g < group_; ++g, acc += padded_dim_, ++sum) {
        const int head = task.kv_head * group_ + g;
        float* value = acc + (spec_.head_dim - spec_.value_dim());
        for (int d = 0; d < spec_.value_dim(); ++d) value[d] /= *sum;
        const TensorView row = out.Slice(0, token, token + 1).Slice(1, head, head + 1);
        context_.kernels.from_f32(value, row.data, row.dtype, spec_.value_dim());
      }
    }
  }

  Context& context_;
  AttentionSpec spec_;
  int group_;
  int64_t padded_dim_;
  bool in_pairs_;
  DType stored_;  ///< of plain elements in the cache
  KvCacheView cache_;
  AttentionBatch batch_;
  std::vector<Task> tasks_;
  std::vector<Stretch> stretches_;  ///< of all tasks, ascending; empty: tasks are not cut
};

}  // namespace

std::unique_ptr<AttentionBackend> CreateAttention(Context& context, const AttentionSpec& spec) {
  return std::make_unique<CpuAttention>(context, spec);
}

}  // namespace gale::cpu
