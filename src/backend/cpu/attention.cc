// Paged attention without a score matrix: online softmax over tiles of
// kAttentionTile positions.
//
// A block holds, for each layer of the group and each kv head, its keys and
// then its values:
//   K  [block_tokens / tile][padded head_dim][tile], or where queries and keys
//   are bf16 in pairs
//      [block_tokens / tile][padded head_dim / 2][tile][2], for the processor's
//      dot products
//   V  [block_tokens][padded head_dim]
// Where a value is a part of its key (KvKind::kLatent), a block holds rows as
// those of V alone. A tile of keys is transposed, so that scores come by the
// vector, without horizontal sums. head_dim is padded with zeros to a multiple
// of the tile. Tiles are cut at absolute positions and taken in ascending order
// by every query, so a row's result depends neither on the chunk it came in nor
// on its neighbours.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "backend/cpu/ops.h"
#include "tensor/bf16.h"

namespace gale::cpu {
namespace {

/// Query rows (tokens times heads of a group) of a task: enough to use each
/// loaded tile well.
constexpr int kTaskRows = 32;

/// Query tokens [first, last) of one sequence, for one kv head.
struct Task {
  int32_t sequence = 0;
  int32_t kv_head = 0;
  int32_t first = 0;
  int32_t last = 0;
};

class CpuAttention final : public AttentionBackend {
 public:
  CpuAttention(Context& context, const AttentionSpec& spec)
      : context_(context),
        spec_(spec),
        group_(spec.q_heads / spec.kv_heads),
        padded_dim_((spec.head_dim + kAttentionTile - 1) / kAttentionTile * kAttentionTile),
        keys_in_pairs_(spec.kind != KvKind::kLatent && spec.dtype == DType::kBf16 &&
                       spec.kv == DType::kBf16) {
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
    return static_cast<size_t>(spec_.layers) * static_cast<size_t>(LayerBytes(block_tokens));
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
    context_.pool.ParallelFor(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int thread) {
      RunTask(args, tasks_[static_cast<size_t>(i)], thread);
    });
  }

 private:
  int64_t ElementBytes() const { return static_cast<int64_t>(DTypeBytes(spec_.kv)); }
  bool is_latent() const { return spec_.kind == KvKind::kLatent; }
  int64_t HeadBytes(int block_tokens) const {
    return (is_latent() ? 1 : 2) * block_tokens * padded_dim_ * ElementBytes();
  }
  int64_t LayerBytes(int block_tokens) const { return spec_.kv_heads * HeadBytes(block_tokens); }

  /// Keys of one head in one block; its values follow after half of HeadBytes.
  char* HeadAt(int32_t block, int layer, int kv_head) const {
    return static_cast<char*>(cache_.blocks.data) + block * cache_.blocks.strides[0] +
           layer * LayerBytes(cache_.block_tokens) + kv_head * HeadBytes(cache_.block_tokens);
  }

  void WriteToken(const KvWriteArgs& args, int64_t token, int thread) const {
    const CpuKernels& kernels = context_.kernels;
    const int32_t slot = args.slot_mapping.As<int32_t>()[token];
    if (slot < 0) return;
    const int32_t block = slot / cache_.block_tokens;
    const int32_t offset = slot % cache_.block_tokens;
    GALE_CHECK_LT(block, cache_.blocks.dim(0));
    float* row = context_.thread_scratch[static_cast<size_t>(thread)].Floats(padded_dim_);
    std::fill(row + spec_.head_dim, row + padded_dim_, 0.0F);
    for (int head = 0; head < spec_.kv_heads; ++head) {
      char* keys = HeadAt(block, args.layer, head);
      char* values = keys + HeadBytes(cache_.block_tokens) / 2;
      const auto read = [&](const TensorView& view) {
        const TensorView source = view.Slice(0, token, token + 1).Slice(1, head, head + 1);
        kernels.to_f32(source.data, source.dtype, row, spec_.head_dim);
      };
      read(args.k);
      if (is_latent()) {
        kernels.from_f32(row, keys + offset * padded_dim_ * ElementBytes(), spec_.kv, padded_dim_);
        continue;
      }
      const int64_t tile = offset / kAttentionTile * int64_t{kAttentionTile} * padded_dim_;
      ScatterKey(row, keys + tile * ElementBytes(), offset % kAttentionTile);
      read(args.v);
      kernels.from_f32(row, values + offset * padded_dim_ * ElementBytes(), spec_.kv, padded_dim_);
    }
  }

  /// One column of a K tile: elements kAttentionTile apart, of keys in pairs
  /// two beside each other.
  void ScatterKey(const float* row, char* tile, int64_t column) const {
    for (int64_t d = 0; d < padded_dim_; ++d) {
      const int64_t at = keys_in_pairs_ ? (d / 2 * kAttentionTile + column) * 2 + d % 2
                                        : d * kAttentionTile + column;
      char* element = tile + at * ElementBytes();
      if (spec_.kv == DType::kBf16) {
        const Bf16 rounded = ToBf16(row[d]);
        std::memcpy(element, &rounded, sizeof(rounded));
      } else {
        std::memcpy(element, &row[d], sizeof(row[d]));
      }
    }
  }

  void RunTask(const AttentionArgs& args, const Task& task, int thread) const {
    if (PositionOf(task, task.first) < 0) return;  // fills up a graph
    const int rows = (task.last - task.first) * group_;
    const int64_t tile_floats = int64_t{kAttentionTile} * padded_dim_;
    float* q = context_.thread_scratch[static_cast<size_t>(thread)].Floats(
        2 * rows * padded_dim_ + 2 * tile_floats + 2 * rows);
    float* acc = q + rows * padded_dim_;
    float* tiles = acc + rows * padded_dim_;
    float* max = tiles + 2 * tile_floats;
    float* sum = max + rows;
    LoadQueries(args.q, task, q);
    std::fill_n(acc, rows * padded_dim_, 0.0F);
    BeginSoftmax(args.sinks, task, max, sum);

    std::vector<int32_t> begins(static_cast<size_t>(rows));
    std::vector<int32_t> ends(static_cast<size_t>(rows));
    AttentionTile tile{.kv = is_latent() ? DType::kF32 : spec_.kv,
                       .head_dim = static_cast<int>(padded_dim_),
                       .rows = rows,
                       .q = q,
                       .q_pairs = keys_in_pairs_ ? reinterpret_cast<const Bf16*>(q) : nullptr,
                       .scale = spec_.scale,
                       .softcap = spec_.softcap,
                       .begin = begins.data(),
                       .end = ends.data(),
                       .max = max,
                       .sum = sum,
                       .acc = acc};
    const int32_t first_position = PositionOf(task, task.first);
    const int32_t last_position = PositionOf(task, task.last - 1);
    const int32_t first_tile = FirstVisible(first_position) / kAttentionTile;
    const int32_t last_tile = last_position / kAttentionTile;
    for (int32_t t = first_tile; t <= last_tile; ++t) {
      for (int r = 0; r < rows; ++r) {
        const int32_t position = first_position + r / group_;
        begins[static_cast<size_t>(r)] = std::max(FirstVisible(position) - t * kAttentionTile, 0);
        ends[static_cast<size_t>(r)] = std::min(position + 1 - t * kAttentionTile, kAttentionTile);
      }
      LoadTile(args.layer, task, t, t == last_tile, tiles, &tile);
      context_.kernels.attend(tile);
    }
    StoreOutput(args.out, task, acc, sum);
  }

  /// A sink is a score that comes before all others and has no value.
  void BeginSoftmax(const TensorView& sinks, const Task& task, float* max, float* sum) const {
    const int rows = (task.last - task.first) * group_;
    for (int r = 0; r < rows; ++r) {
      max[r] = sinks ? sinks.As<float>()[task.kv_head * group_ + r % group_]
                     : -std::numeric_limits<float>::infinity();
      sum[r] = sinks ? 1.0F : 0.0F;
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

  /// Rows of padded_dim_ floats, scaled; beside keys in pairs rows of bf16 as
  /// they are.
  void LoadQueries(const TensorView& source, const Task& task, float* first) const {
    float* q = first;
    for (int32_t token = task.first; token < task.last; ++token) {
      for (int g = 0; g < group_; ++g, q += padded_dim_) {
        const int head = task.kv_head * group_ + g;
        const TensorView row = source.Slice(0, token, token + 1).Slice(1, head, head + 1);
        if (keys_in_pairs_) {
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

  /// Keys of tile `t` of the task's sequence; its values follow after
  /// ValuesAfter().
  const char* KeysAt(int layer, const Task& task, int32_t t) const {
    const int tiles_per_block = cache_.block_tokens / kAttentionTile;
    const auto* table = static_cast<const int32_t*>(RowAt(batch_.block_tables, task.sequence));
    return HeadAt(table[t / tiles_per_block], layer, task.kv_head) +
           t % tiles_per_block * kAttentionTile * padded_dim_ * ElementBytes();
  }
  int64_t ValuesAfter() const { return HeadBytes(cache_.block_tokens) / 2; }

  /// Points the tile at its keys and values; those of a latent cache are made
  /// in `buffer`, f32.
  void LoadTile(int layer, const Task& task, int32_t t, bool is_last, float* buffer,
                AttentionTile* tile) const {
    const char* k = KeysAt(layer, task, t);
    if (is_latent()) {
      const int64_t tile_floats = int64_t{kAttentionTile} * padded_dim_;
      float* rows = buffer + tile_floats;
      context_.kernels.to_f32(k, spec_.kv, rows, tile_floats);
      for (int64_t d = 0; d < padded_dim_; ++d) {
        for (int64_t i = 0; i < kAttentionTile; ++i) {
          buffer[d * kAttentionTile + i] = rows[i * padded_dim_ + d];
        }
      }
      tile->k = buffer;
      tile->v = rows;
      return;
    }
    tile->k = k;
    tile->v = k + ValuesAfter();
    tile->next_k = is_last ? nullptr : KeysAt(layer, task, t + 1);
    tile->next_v = is_last ? nullptr : static_cast<const char*>(tile->next_k) + ValuesAfter();
  }

  void StoreOutput(const TensorView& out, const Task& task, float* acc, const float* sum) const {
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
  bool keys_in_pairs_;
  KvCacheView cache_;
  AttentionBatch batch_;
  std::vector<Task> tasks_;
};

}  // namespace

std::unique_ptr<AttentionBackend> CreateAttention(Context& context, const AttentionSpec& spec) {
  return std::make_unique<CpuAttention>(context, spec);
}

}  // namespace gale::cpu
