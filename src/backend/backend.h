// One object per device: memory, streams, ops. The compute column sees devices only through this.
// Layer L1b. Every op is asynchronous on its stream; launch errors surface at Stream::Synchronize.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "backend/attention_backend.h"
#include "backend/fused_decoder.h"
#include "backend/op_args.h"
#include "gale/engine_config.h"
#include "gale/status.h"
#include "tensor/quant_format.h"
#include "tensor/tensor_view.h"

namespace gale {

enum class MemoryKind { kDevice, kPinnedHost };

struct DeviceInfo {
  std::string name;         ///< "cpu"
  std::string description;  ///< "AMD EPYC, avx512, 2 threads"
  size_t total_bytes = 0;
  size_t free_bytes = 0;         ///< now
  bool is_host_memory = false;   ///< device pointers may be read by the host
  bool is_asynchronous = false;  ///< ops return before they are done
  size_t workspace_bytes = 0;    ///< what ops and graphs may take beside what they are given
};

/// Owned memory of one device; move-only.
class Buffer {
 public:
  using Deleter = void (*)(void* data, size_t bytes);
  Buffer() = default;
  Buffer(void* data, size_t bytes, Deleter deleter)
      : data_(data), bytes_(bytes), deleter_(deleter) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) deleter_(data_, bytes_);
  }
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(deleter_, other.deleter_);
  }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Deleter deleter_ = nullptr;
};

/// A point in a stream's work; recorded again and again.
class Event {
 public:
  virtual ~Event() = default;
  /// Whether the device has done all that was enqueued before the last Record; kDevice if any of it
  /// failed. Does not wait. True before the first Record.
  virtual Result<bool> HasPassed() = 0;
  /// Seconds of the device's clock from `earlier` to this event, both of which have passed. 0 where
  /// work is done before it is recorded.
  virtual double SecondsSince(const Event& earlier) const = 0;
};

/// An ordered queue of device work.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual Status Synchronize() = 0;  ///< waits; kDevice if anything on the stream failed
  /// `event` stands for the end of what is on the stream so far, and takes over its errors.
  virtual void Record(Event& event) = 0;
  /// What comes next on this stream starts after `event`, which another stream has recorded. The
  /// host does not wait. An error that `event` stands for becomes this stream's.
  virtual void Wait(Event& event) = 0;
};

/// Device work recorded once, to be launched again and again as one. Addresses and shapes are those
/// of the recording; what the addresses hold is read anew by each launch.
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void Launch(Stream& stream) = 0;
};

/// A linear layer's weight in canonical form, as a quantization scheme yields it.
struct LinearWeight {
  QuantFormat format;
  int64_t in = 0;
  int64_t out = 0;
  /// [out, in], where Copy can read it; outlives a packed weight that borrows it. Of ggml's blocks
  /// u8 [out, in] whose rows lie GgmlRowBytes apart: only whole rows are to be addressed. Of
  /// kScaled u8 [out, in * CodeBits / 8], contiguous.
  TensorView data;
  // The rest with BlockCode::kScaled, in host memory, contiguous.
  /// f32 [ceil(out / block.out), ceil(in / block.in)].
  TensorView scales = {};
  /// u8 like `scales`: the code that stands for 0 (with has_zeros).
  TensorView zeros = {};
  /// i32 [in]: column i of `data` meets input permutation[i] (with has_permutation).
  TensorView permutation = {};
  float activation_scale = 0;  ///< with ActivationCode::kTensor
};

/// A weight as one device's kernel wants it. Owns what it does not borrow from the LinearWeight.
struct PackedLinear {
  QuantFormat format;
  int64_t in = 0;
  int64_t out = 0;
  TensorView data;
  Buffer storage;
  DType scale = DType::kF32;   ///< of kScaled's scales in `data`, where a kernel narrows them
  float activation_scale = 0;  ///< as the LinearWeight's
};

struct LinearArgs {
  TensorView x;                          ///< [rows, in]; rows may be strided
  const PackedLinear* weight = nullptr;  ///< y = x * weight^T + bias
  TensorView bias;                       ///< [out] or empty
  TensorView out;                        ///< [rows, out]; activation dtype, or f32 for logits
};

/// Many products in one: rows that belong to group g meet the g-th of the weight's equal stretches
/// of outputs. Which rows those are is known to the device only, so that nothing waits for the host
/// and a graph can hold the call.
struct GroupedLinearArgs {
  TensorView x;                          ///< [x rows, in]; rows may be strided
  const PackedLinear* weight = nullptr;  ///< `out` = groups * columns
  TensorView bias;                       ///< [groups * columns] or empty
  TensorView offsets;                    ///< i32 [groups + 1]: entries of group g, ascending
  TensorView x_rows;    ///< i32 [entries]: the row of x that an entry reads; empty: the entry's own
  TensorView out_rows;  ///< i32 [entries]: the row of `out` that it writes; empty: the entry's own
  TensorView out;       ///< [entries, columns], dtype of x
};

/// Every row meets every group: row r of out[:, g] is row r of x[:, g] times group g's stretch of
/// the weight's outputs.
struct BatchedLinearArgs {
  TensorView x;                          ///< [rows, groups, in]; strided
  const PackedLinear* weight = nullptr;  ///< `out` = groups * columns
  TensorView out;                        ///< [rows, groups, columns], dtype of x; strided
};

struct LinearKey {
  QuantFormat format;
  int64_t in = 0;
  int64_t out = 0;                  ///< of all groups
  DType activation = DType::kBf16;  ///< bf16 rows may meet ggml's blocks rounded to 8 bits, 32 at a
                                    ///< time; f32 rows as they are
  Numerics numerics = Numerics::kBatchInvariant;
  bool grouped = false;  ///< RunGrouped or RunBatched will be called
};

/// One weight layout for every number of rows; how many rows there are is decided inside Run.
class LinearKernel {
 public:
  virtual ~LinearKernel() = default;
  virtual Result<PackedLinear> Prepare(const LinearWeight& weight) const = 0;
  /// Bytes of its own that Prepare makes of such a weight in host memory; 0: it borrows the weight.
  virtual size_t PackedBytes(const LinearKey&) const { return 0; }
  virtual void Run(Stream& stream, const LinearArgs& args) const = 0;
  /// Each row is summed as Run sums it. Reads the weights of groups that have entries, and few
  /// times each however many entries there are. Kernels found for a key with `grouped` have both.
  virtual void RunGrouped(Stream& stream, const GroupedLinearArgs& args) const;
  virtual void RunBatched(Stream& stream, const BatchedLinearArgs& args) const;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual DeviceInfo info() const = 0;
  /// Errors: kResourceExhausted with the bytes asked for and the bytes free.
  virtual Result<Buffer> Allocate(size_t bytes, MemoryKind kind) = 0;
  virtual std::unique_ptr<Stream> CreateStream() = 0;
  virtual std::unique_ptr<Event> CreateEvent() = 0;
  /// Records what `enqueue` puts on `stream`, which is not run now. Null when the device has no
  /// graphs. Errors: those of what was enqueued.
  virtual Result<std::unique_ptr<Graph>> Capture(Stream& stream,
                                                 const std::function<void()>& enqueue);
  /// Either side may be device or host memory. On the CPU back end the copy is done on return.
  virtual void Copy(Stream& stream, void* dst, const void* src, size_t bytes) = 0;

  /// Null when this back end has no kernel for the key. The kernel lives as long as the back end.
  virtual const LinearKernel* FindLinear(const LinearKey& key) const = 0;
  /// Whether Embedding reads tables of such blocks.
  virtual bool EmbedsBlocks(GgmlType type) const {
    return type == GgmlType::kQ4_0 || type == GgmlType::kQ8_0;
  }
  /// Null when this back end has no attention for heads of these sizes.
  virtual std::unique_ptr<AttentionBackend> CreateAttention(const AttentionSpec& spec) = 0;
  /// Null when this back end does not fuse such a decoder. Its weights outlive it.
  virtual Result<std::unique_ptr<FusedDecoder>> CreateFusedDecoder(
      const DecoderDescription& description);

  virtual void Embedding(Stream& stream, const EmbeddingArgs& args) = 0;
  virtual void RmsNorm(Stream& stream, const RmsNormArgs& args) = 0;
  virtual void QkvRope(Stream& stream, const QkvRopeArgs& args) = 0;
  virtual void Rotate(Stream& stream, const RotateArgs& args) = 0;
  virtual void GatedActivation(Stream& stream, const GatedActivationArgs& args) = 0;
  virtual void AddSilu(Stream& stream, const AddSiluArgs& args) = 0;
  virtual void Softcap(Stream& stream, const SoftcapArgs& args) = 0;
  virtual void MoeRoute(Stream& stream, const MoeRouteArgs& args) = 0;
  virtual void MoeCombine(Stream& stream, const MoeCombineArgs& args) = 0;
  virtual void GatherRows(Stream& stream, const GatherRowsArgs& args) = 0;
  virtual void EditLogits(Stream& stream, const EditLogitsArgs& args) = 0;
  virtual void Sample(Stream& stream, const SampleArgs& args) = 0;
  virtual void Logprobs(Stream& stream, const LogprobsArgs& args) = 0;
  virtual void FillRandom(Stream& stream, const FillRandomArgs& args) = 0;

  /// Work that meets one limit of the device and does nothing else, for benchmarks to time (see
  /// device_speed.h). Reads `memory` once.
  virtual void ProbeRead(Stream& stream, const TensorView& memory) = 0;
  /// Multiply-adds of the units that large linear layers run on, with operands at hand. Returns how
  /// many floating-point operations, a multiply-add counting two.
  virtual double ProbeProducts(Stream& stream) = 0;
  /// One product of 8,192 x 8,192 bf16 matrices by the vendor's library, in `memory`, which holds
  /// bf16 numbers and of which a part is overwritten. Returns the operations as ProbeProducts does;
  /// 0 where there is no library or too little memory.
  virtual double ProbeLibraryProduct(Stream& stream, const TensorView& memory);

  /// `kernel` runs `linear`, whose out is `gated.gate_up`, followed by GatedActivation. A device
  /// that fuses them overrides this, and may leave gate_up unwritten.
  virtual void GatedLinear(Stream& stream, const LinearKernel& kernel, const LinearArgs& linear,
                           const GatedActivationArgs& gated);
  /// QkvRope followed by the attention's KV write; a device that fuses them overrides this.
  virtual void QkvRopeWrite(Stream& stream, const QkvRopeArgs& args, AttentionBackend& attention,
                            int layer, const TensorView& slot_mapping);
};

}  // namespace gale
