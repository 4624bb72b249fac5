// Attention over a paged KV cache: planned once a step on the host, run once a layer on the device.
// One object serves one group of layers that remember the past alike. Layer L1b.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/op_args.h"
#include "base/kv_kind.h"
#include "gale/engine_config.h"
#include "tensor/tensor_view.h"

namespace gale {

class Stream;

struct AttentionSpec {
  KvKind kind = KvKind::kFull;
  int layers = 0;  ///< in this group
  int q_heads = 0;
  int kv_heads = 0;  ///< divides q_heads
  int head_dim = 0;
  int window = 0;  ///< kSlidingWindow: positions seen, the current one included
  /// kLatent: a value is the last so many elements of its key, and nothing else is cached (MLA with
  /// its weights absorbed, arXiv:2405.04434, section 2.1). Else 0: values are as wide as keys.
  int latent_value_dim = 0;
  float scale = 1;             ///< multiplies q.k before the softmax
  float softcap = 0;           ///< then scores become softcap * tanh(score / softcap); 0: they stay
  DType dtype = DType::kBf16;  ///< of q and out
  KvFormat kv = KvFormat::kBf16;
  Numerics numerics = Numerics::kBatchInvariant;

  int value_dim() const { return kind == KvKind::kLatent ? latent_value_dim : head_dim; }
  friend bool operator==(const AttentionSpec&, const AttentionSpec&) = default;
};

/// The sequences of one step, flat. Row i of sequence s is query token cu_seqlens_q[s] + i, at
/// position seq_lens[s] - (number of its queries) + i; it sees positions up to its own.
struct AttentionBatch {
  std::span<const int32_t> cu_seqlens_q;    ///< host [seqs + 1]
  std::span<const int32_t> seq_lens_upper;  ///< host [seqs]: bound on seq_lens, for the plan only
  TensorView seq_lens;      ///< i32 [seqs]: positions visible to the last query; the truth
  TensorView block_tables;  ///< i32 [seqs, max_blocks]; entries past a sequence's end are unread,
                            ///< and those of blocks wholly out of the first query's window
  TensorView slot_mapping;  ///< i32 [tokens]: block * block_tokens + offset of each new KV row; -1:
                            ///< not written
  std::span<std::byte> host_plan = {};  ///< PlanBytes that Plan writes, in host memory
  void* device_plan = nullptr;          ///< where Run finds a copy of them, made by the caller
  /// For a captured graph: what is launched must follow from the numbers of sequences and of tokens
  /// alone. Where these are equal, sequences that do anything have one query each. Those that only
  /// fill up the graph have a seq_len of 0, any number of queries or none, and outputs of no
  /// meaning.
  bool fixed_launches = false;
};

/// The group's share of the block pool. Block b starts at data + b * row bytes; inside a block the
/// back end lays out the group's layers as it likes, within BytesPerBlock.
struct KvCacheView {
  TensorView blocks;  ///< u8 [num_blocks, bytes_per_block]; rows may be wider than this group needs
  int block_tokens = 0;
};

struct KvWriteArgs {
  int layer = 0;            ///< index within the group
  TensorView k;             ///< [tokens, kv_heads, head_dim]; strided
  TensorView v;             ///< the same; empty when latent
  TensorView slot_mapping;  ///< i32 [tokens]
};

struct AttentionArgs {
  int layer = 0;
  TensorView q;    ///< [tokens, q_heads, head_dim]; strided
  TensorView out;  ///< [tokens, q_heads, value_dim]; strided
  /// f32 [q_heads] or empty: a logit for each head that takes its share of the softmax and has no
  /// value (arXiv:2309.17453 and gpt-oss).
  TensorView sinks = {};
};

class AttentionBackend {
 public:
  virtual ~AttentionBackend() = default;

  virtual std::span<const int> BlockTokens() const = 0;  ///< allowed block sizes, preferred first
  virtual size_t BytesPerBlock(int block_tokens) const = 0;  ///< of all layers of the group
  virtual void BindCache(const KvCacheView& cache) = 0;      ///< once, before the first Plan
  /// Bytes that plans of such steps take; 0 when the device needs none.
  virtual size_t PlanBytes(int max_tokens, int max_seqs) const = 0;
  /// Splits the step's work, on the host; keeps `batch` until the next Plan (its views must live
  /// until the step has run). Runs enqueued before are not affected.
  virtual void Plan(const AttentionBatch& batch) = 0;
  virtual void WriteKv(Stream& stream, const KvWriteArgs& args) = 0;
  virtual void Run(Stream& stream, const AttentionArgs& args) = 0;  ///< after this layer's WriteKv
};

}  // namespace gale
