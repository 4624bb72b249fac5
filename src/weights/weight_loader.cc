#include "weights/weight_loader.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/host_limits.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "tensor/ggml_block.h"
#include "weights/dummy_weights.h"
#include "weights/float_convert.h"
#include "weights/gguf_model.h"
#include "weights/weight_upload.h"

namespace gale {
namespace {

size_t SpecBytes(const ParamSpec& spec) { return spec.NumElements() * DTypeBytes(spec.dtype); }

const CheckpointTensor* FindPart(const Checkpoint& checkpoint, const ParamPart& part) {
  for (const std::string& name : part.names) {
    if (const CheckpointTensor* entry = checkpoint.Find(name)) return entry;
  }
  return nullptr;
}

std::vector<int64_t> PartShape(const ParamSpec& spec, const ParamPart& part) {
  std::vector<int64_t> shape = spec.shape;
  shape[0] = part.rows;
  return shape;
}

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBf16;
}

bool CanConvert(std::optional<DType> from, DType to) {
  return from && (*from == to || (IsFloat(*from) && (to == DType::kF32 || to == DType::kBf16)));
}

/// What is wrong with one part, or nothing.
std::string CheckPart(const ParamSpec& spec, const ParamPart& part, const Checkpoint& checkpoint) {
  const std::vector<int64_t> shape = PartShape(spec, part);
  const CheckpointTensor* entry = FindPart(checkpoint, part);
  if (entry == nullptr && spec.is_optional) return {};
  if (entry == nullptr) {
    return fmt::format("missing {}: expected {} [{}]", fmt::join(part.names, " or "),
                       DTypeName(spec.dtype), fmt::join(shape, ", "));
  }
  const bool can_convert = entry->blocks != GgmlType::kNone
                               ? spec.dtype == DType::kF32 || spec.dtype == DType::kBf16
                               : CanConvert(entry->dtype, spec.dtype);
  const bool is_scalar = entry->shape.empty() && shape == std::vector<int64_t>{1};
  if ((entry->shape != shape && !is_scalar) || !can_convert) {
    return fmt::format("{}: expected {} [{}], file has {} [{}]", entry->name, DTypeName(spec.dtype),
                       fmt::join(shape, ", "), entry->dtype_name, fmt::join(entry->shape, ", "));
  }
  return {};
}

Status ReportFaults(const std::vector<std::string>& faults, const std::string& folder) {
  if (faults.empty()) return {};
  constexpr size_t kMaxShown = 20;
  std::string message = fmt::format("{}: {} tensors do not fit {}:", folder, faults.size(),
                                    IsGgufPath(folder) ? "the file's metadata" : "config.json");
  for (size_t i = 0; i < std::min(faults.size(), kMaxShown); ++i) message += "\n  " + faults[i];
  if (faults.size() > kMaxShown) {
    message += fmt::format("\n  and {} more", faults.size() - kMaxShown);
  }
  return MakeError(ErrorCode::kDataCorrupt, std::move(message));
}

/// Of a parameter that a linear layer takes by itself.
WeightPlan PlanOf(const ParamSpec& spec, const QuantFormat& format) {
  return {format, spec.shape[1], spec.shape[0], spec.groups};
}

QuantFormat BlockFormat(GgmlType blocks) {
  return {.code = BlockCode::kGgmlBlock, .data = DType::kU8, .ggml = blocks};
}

/// Whether the device computes with such blocks where the parameter goes.
bool TakesBlocks(const ParamBuilder& builder, const ParamSpec& spec, GgmlType blocks,
                 const Backend& backend) {
  if (spec.use != WeightUse::kLinear && !backend.EmbedsBlocks(blocks)) return false;
  return spec.use == WeightUse::kTable ||
         backend.FindLinear(builder.Key(PlanOf(spec, BlockFormat(blocks)))) != nullptr;
}

/// The block type in which the parts are handed over; kNone: as elements of the spec's dtype.
GgmlType KeptBlocks(const ParamBuilder& builder, const ParamSpec& spec,
                    const Checkpoint& checkpoint, const Backend& backend) {
  if (!spec.may_be_blocks) return GgmlType::kNone;
  const GgmlType first = FindPart(checkpoint, spec.parts.front())->blocks;
  const bool is_same = std::all_of(spec.parts.begin(), spec.parts.end(), [&](const auto& part) {
    return FindPart(checkpoint, part)->blocks == first;
  });
  if (!is_same || first == GgmlType::kNone) return GgmlType::kNone;
  return TakesBlocks(builder, spec, first, backend) ? first : GgmlType::kNone;
}

/// The parameter as it lies in memory: blocks that are kept are rows of bytes.
ParamSpec AsStored(const ParamSpec& spec, GgmlType blocks) {
  ParamSpec stored = spec;
  if (blocks == GgmlType::kNone) return stored;
  stored.dtype = DType::kU8;
  stored.shape.back() = GgmlRowBytes(blocks, spec.shape.back());
  return stored;
}

/// What the memory that parameters are read to depends on.
struct ReadContext {
  const ParamBuilder& builder;
  const Checkpoint& checkpoint;
  Backend& backend;
  ThreadPool& threads;

  GgmlType KeptBlocksOf(const ParamSpec& spec) const {
    return KeptBlocks(builder, spec, checkpoint, backend);
  }
  bool Has(const ParamSpec& spec) const {
    return !spec.is_optional || FindPart(checkpoint, spec.parts.front()) != nullptr;
  }
};

/// Whether the file's writer left the elements and their order as they were.
bool IsPlain(const CheckpointTensor& entry) {
  return entry.interleaved_head_dim == 0 && entry.offset == 0 && entry.value_rows == nullptr;
}

/// The parts as one stretch of a mapped file, or an empty view when they are not that. `stored`
/// holds `blocks`.
TensorView ViewInPlace(const ParamSpec& stored, GgmlType blocks, const Checkpoint& checkpoint) {
  const std::byte* begin = nullptr;
  const std::byte* next = nullptr;
  for (const ParamPart& part : stored.parts) {
    const CheckpointTensor& entry = *FindPart(checkpoint, part);
    if (!IsPlain(entry)) return {};
    const bool is_stored =
        entry.blocks == blocks && (blocks != GgmlType::kNone || entry.dtype == stored.dtype);
    if (!is_stored || (next != nullptr && entry.data.data() != next)) return {};
    if (begin == nullptr) begin = entry.data.data();
    next = entry.data.data() + entry.data.size();
  }
  if (reinterpret_cast<uintptr_t>(begin) % DTypeBytes(stored.dtype) != 0) return {};
  // Views are not const-correct; the mapping is read-only and weights are never written.
  return TensorView(const_cast<std::byte*>(begin), stored.dtype, std::span(stored.shape));
}

Result<RawParam> AllocateParam(const ParamSpec& spec, Backend& backend, MemoryKind kind) {
  RawParam param;
  GALE_ASSIGN_OR_RETURN(param.storage, backend.Allocate(SpecBytes(spec), kind));
  param.view = TensorView(param.storage.data(), spec.dtype, std::span(spec.shape));
  return param;
}

/// The rows of interleaved heads in Hugging Face's order, where the halves of a head are rotated
/// against each other and not its neighbours.
std::vector<std::byte> SeparateHalves(const CheckpointTensor& entry) {
  std::vector<std::byte> rows(entry.data.size());
  const auto head_rows = static_cast<size_t>(entry.interleaved_head_dim);
  const auto num_rows = static_cast<size_t>(entry.shape[0]);
  const size_t row_bytes = num_rows == 0 ? 0 : entry.data.size() / num_rows;
  for (size_t row = 0; row < num_rows; ++row) {
    const size_t in_head = row % head_rows;
    const size_t target = row - in_head + in_head / 2 + in_head % 2 * (head_rows / 2);
    std::memcpy(&rows[target * row_bytes], &entry.data[row * row_bytes], row_bytes);
  }
  return rows;
}

std::vector<float> InF32(const CheckpointTensor& tensor, std::span<const std::byte> source,
                         ThreadPool& threads) {
  uint64_t elements = 1;
  for (const int64_t dim : tensor.shape) elements *= static_cast<uint64_t>(dim);
  std::vector<float> values(elements);
  const TensorView out(values.data(), DType::kF32, {std::ssize(values)});
  if (tensor.dtype) {
    ConvertElements(source, *tensor.dtype, out, threads);
  } else {
    ConvertBlocks(source, tensor.blocks, out, threads);
  }
  return values;
}

/// The rows of `tensor` and of its value_rows as a checkpoint has them: of each head the keys' and
/// then the values'.
std::vector<float> MergeLatentHeads(const CheckpointTensor& tensor, ThreadPool& threads) {
  const CheckpointTensor& value_rows = *tensor.value_rows;
  const int64_t heads = value_rows.shape[0];
  const int64_t value_dim = value_rows.shape[1];
  const int64_t in = value_rows.shape[2];
  const int64_t key_dim = tensor.shape[0] / heads - value_dim;
  CheckpointTensor key_rows = tensor;
  key_rows.shape = {heads, in, key_dim};
  const std::vector<float> keys = InF32(key_rows, tensor.data, threads);
  const std::vector<float> values = InF32(value_rows, value_rows.data, threads);
  std::vector<float> merged;
  merged.reserve(keys.size() + values.size());
  for (int64_t head = 0; head < heads; ++head) {
    const float* key = keys.data() + head * in * key_dim;
    for (int64_t row = 0; row < key_dim; ++row) {
      for (int64_t i = 0; i < in; ++i) merged.push_back(key[i * key_dim + row]);
    }
    const float* value = values.data() + head * value_dim * in;
    merged.insert(merged.end(), value, value + value_dim * in);
  }
  return merged;
}

/// The elements in f32 as they were before the file's writer changed them; nothing where it did
/// not.
std::vector<float> Restored(const CheckpointTensor& tensor, std::span<const std::byte> source,
                            ThreadPool& threads) {
  if (tensor.value_rows != nullptr) return MergeLatentHeads(tensor, threads);
  if (tensor.offset == 0) return {};
  std::vector<float> values = InF32(tensor, source, threads);
  for (float& value : values) value -= tensor.offset;
  return values;
}

Result<RawParam> ReadParam(const ParamSpec& spec, const ReadContext& context) {
  if (!context.Has(spec)) return RawParam();
  const auto& [builder, checkpoint, backend, threads] = context;
  const GgmlType kept = context.KeptBlocksOf(spec);
  const ParamSpec stored = AsStored(spec, kept);
  if (const TensorView view = ViewInPlace(stored, kept, checkpoint)) {
    return RawParam{view, {}, false, kept};
  }
  const MemoryKind kind =
      backend.info().is_host_memory ? MemoryKind::kDevice : MemoryKind::kPinnedHost;
  GALE_ASSIGN_OR_RETURN(RawParam param, AllocateParam(stored, backend, kind));
  param.blocks = kept;
  int64_t row = 0;
  for (const ParamPart& part : spec.parts) {
    const CheckpointTensor& entry = *FindPart(checkpoint, part);
    const TensorView rows = param.view.Rows(row, row + part.rows);
    std::vector<std::byte> separated;
    std::span<const std::byte> source = entry.data;
    if (entry.interleaved_head_dim != 0) source = separated = SeparateHalves(entry);
    const std::vector<float> restored = Restored(entry, source, threads);
    if (!restored.empty()) {
      ConvertElements(std::as_bytes(std::span(restored)), DType::kF32, rows, threads);
    } else if (entry.blocks == GgmlType::kNone) {
      ConvertElements(source, *entry.dtype, rows, threads);
    } else if (kept != GgmlType::kNone) {
      ConvertElements(source, DType::kU8, rows, threads);
    } else {
      ConvertBlocks(source, entry.blocks, rows, threads);
    }
    row += part.rows;
  }
  return param;
}

Result<RawParam> MakeDummyParam(const ParamSpec& spec, uint64_t seed, Backend& backend,
                                DummyWeights& dummy) {
  GALE_ASSIGN_OR_RETURN(RawParam param, AllocateParam(spec, backend, MemoryKind::kDevice));
  param.is_on_device = true;
  int64_t row = 0;
  for (const ParamPart& part : spec.parts) {
    dummy.Fill({part.names[0], seed, spec.dummy_mean, spec.dummy_std},
               param.view.Rows(row, row + part.rows));
    row += part.rows;
  }
  return param;
}

/// The group's parameters one after the other.
template <class ReadOne>
Result<std::vector<RawParam>> ReadGroup(const ParamGroup& group, ReadOne&& read) {
  std::vector<RawParam> params;
  for (const ParamSpec& spec : group.specs) {
    GALE_ASSIGN_OR_RETURN(params.emplace_back(), read(spec));
  }
  return params;
}

/// Fails before the first byte is read when the weights cannot fit.
Status CheckMemory(size_t needed, const Backend& backend) {
  const DeviceInfo device = backend.info();
  if (needed <= device.free_bytes) return {};
  return MakeError(
      ErrorCode::kResourceExhausted,
      fmt::format("the weights need {:.2f} GiB on {}, which has {:.2f} of {:.2f} GiB "
                  "free: take a smaller model, dtype bf16 in place of f32, or end what "
                  "else holds that memory",
                  static_cast<double>(needed) / (1 << 30), device.name,
                  static_cast<double>(device.free_bytes) / (1 << 30),
                  static_cast<double>(device.total_bytes) / (1 << 30)));
}

/// Parameters of the next groups on their way to a device with memory of its own, so that neither
/// it nor the threads that read files wait while a layer binds what it has got.
class DeviceReader {
 public:
  explicit DeviceReader(const ReadContext& context)
      : context_(context),
        groups_(context.builder.groups()),
        uploader_(context.backend, std::min(context.threads.threads(), kMaxThreads)) {}

  /// The parameters of the next group, all of them there.
  Result<std::vector<RawParam>> Next() {
    while (begun_ < groups_.size() && (under_way_.empty() || bytes_ahead_ < kMaxBytesAhead)) {
      GALE_RETURN_IF_ERROR(Begin(groups_[begun_++]));
    }
    Group& group = under_way_.front();
    GALE_RETURN_IF_ERROR(uploader_.Wait(group.ticket));
    std::vector<RawParam> params = std::move(group.params);
    for (const RawParam& param : params) bytes_ahead_ -= param.storage.bytes();
    under_way_.pop_front();
    return params;
  }

 private:
  /// Enough for the threads, and little memory beside the model if layers make copies of it.
  static constexpr size_t kMaxBytesAhead = size_t{1} << 30;
  static constexpr int kMaxThreads = 8;  // of an H200's host, which fill its link

  struct Group {
    std::vector<RawParam> params;
    WeightUploader::Ticket ticket;
  };

  Status Begin(const ParamGroup& group) {
    Group& begun = under_way_.emplace_back();
    for (const ParamSpec& spec : group.specs) {
      GALE_ASSIGN_OR_RETURN(begun.params.emplace_back(), BeginParam(spec, begun.ticket));
      bytes_ahead_ += begun.params.back().storage.bytes();
    }
    return {};
  }

  Result<RawParam> BeginParam(const ParamSpec& spec, WeightUploader::Ticket& ticket) {
    if (!context_.Has(spec)) return RawParam();
    const bool is_plain = std::all_of(spec.parts.begin(), spec.parts.end(), [&](const auto& part) {
      return IsPlain(*FindPart(context_.checkpoint, part));
    });
    if (spec.on_host || !is_plain) return ReadParam(spec, context_);
    const GgmlType kept = context_.KeptBlocksOf(spec);
    GALE_ASSIGN_OR_RETURN(
        RawParam param, AllocateParam(AsStored(spec, kept), context_.backend, MemoryKind::kDevice));
    param.is_on_device = true;
    param.blocks = kept;
    int64_t row = 0;
    for (const ParamPart& part : spec.parts) {
      const CheckpointTensor& entry = *FindPart(context_.checkpoint, part);
      const bool is_bytes = kept != GgmlType::kNone;
      uploader_.Push({.source = entry.data,
                      .dtype = is_bytes ? DType::kU8 : entry.dtype.value_or(DType::kU8),
                      .blocks = is_bytes ? GgmlType::kNone : entry.blocks,
                      .target = param.view.Rows(row, row + part.rows)},
                     ticket);
      row += part.rows;
    }
    return param;
  }

  const ReadContext context_;
  const std::vector<ParamGroup>& groups_;
  size_t begun_ = 0;  ///< groups
  size_t bytes_ahead_ = 0;
  std::deque<Group> under_way_;
  WeightUploader uploader_;  ///< last: it ends before the memory that it copies to goes away
};

/// The process gives back the pages of a linear layer's weight that a kernel has packed. What is
/// used in place comes back, from the system's cache, when it is first used.
void ReleasePages(const ParamGroup& group, const Checkpoint& checkpoint) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (const ParamSpec& spec : group.specs) {
    if (spec.use == WeightUse::kTable) continue;
    for (const ParamPart& part : spec.parts) {
      const CheckpointTensor* entry = FindPart(checkpoint, part);
      if (entry == nullptr || !IsPlain(*entry)) continue;
      const std::span<const std::byte> data = entry->data;
      const auto first = reinterpret_cast<uintptr_t>(data.data());
      const uintptr_t begin = (first + page - 1) / page * page;
      const uintptr_t end = (first + data.size()) / page * page;
      if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
  }
}

/// Binds every group, taking its parameters from `read`. What that enqueues on the stream is done
/// before a layer sees them.
template <class Read>
Status BindAll(const ParamBuilder& builder, BindContext context, const WeightProgress& progress,
               Read&& read) {
  uint64_t total_bytes = 0;
  for (const ParamGroup& group : builder.groups()) {
    for (const ParamSpec& spec : group.specs) total_bytes += SpecBytes(spec);
  }
  const Checkpoint* checkpoint = context.store.checkpoint.get();
  // Beside a GPU the host has memory enough, and the threads that read files want its locks.
  const bool releases = checkpoint != nullptr && context.backend.info().is_host_memory;
  uint64_t done_bytes = 0;
  for (const ParamGroup& group : builder.groups()) {
    GALE_ASSIGN_OR_RETURN(std::vector<RawParam> params, read(group));
    for (const ParamSpec& spec : group.specs) done_bytes += SpecBytes(spec);
    GALE_RETURN_IF_ERROR(context.stream.Synchronize());
    GALE_RETURN_IF_ERROR(group.bind(context, std::move(params)));
    if (releases) ReleasePages(group, *checkpoint);
    if (progress) progress(done_bytes, total_bytes);
  }
  return context.stream.Synchronize();
}

/// What a kernel makes of a weight for itself; 0: it borrows the weight.
size_t PackedBytes(const ParamBuilder& builder, const WeightPlan& weight, const Backend& backend) {
  const LinearKey key = builder.Key(weight);
  const LinearKernel* kernel = backend.FindLinear(key);
  return kernel == nullptr ? 0 : kernel->PackedBytes(key);
}

/// The same weight as plain elements where the device has no kernel for its format.
WeightPlan AsComputed(const ParamBuilder& builder, WeightPlan weight, const Backend& backend) {
  if (weight.format.code != BlockCode::kNone && !backend.FindLinear(builder.Key(weight))) {
    weight.format = {.data = builder.dtype()};
  }
  return weight;
}

/// Bytes of a weight that is made while it is bound.
size_t MadeBytes(const ParamBuilder& builder, const WeightPlan& weight, const Backend& backend) {
  const WeightPlan computed = AsComputed(builder, weight, backend);
  const size_t packed_bytes = PackedBytes(builder, computed, backend);
  return packed_bytes > 0 ? packed_bytes
                          : WeightBytesOf(computed.format, computed.in, computed.out);
}

/// Adds a parameter of a group of its own.
void CountParam(const ParamBuilder& builder, const ParamSpec& spec, const Checkpoint* checkpoint,
                const Backend& backend, WeightBytes& total) {
  const GgmlType kept =
      checkpoint == nullptr ? GgmlType::kNone : KeptBlocks(builder, spec, *checkpoint, backend);
  const bool is_made = kept == GgmlType::kNone && spec.made_into.code != BlockCode::kNone;
  const bool is_made_table = is_made && spec.use != WeightUse::kLinear &&
                             spec.made_into.code == BlockCode::kGgmlBlock &&
                             backend.EmbedsBlocks(spec.made_into.ggml);
  if (is_made && !is_made_table) {
    total.private_bytes += MadeBytes(builder, PlanOf(spec, spec.made_into), backend);
    if (spec.use == WeightUse::kLinear) return;
  }
  const GgmlType blocks = is_made_table ? spec.made_into.ggml : kept;
  const ParamSpec stored = AsStored(spec, blocks);
  const bool packs = spec.use != WeightUse::kTable && backend.info().is_host_memory;
  if (packs && (!is_made || is_made_table)) {
    const QuantFormat format =
        blocks == GgmlType::kNone ? QuantFormat{.data = spec.dtype} : BlockFormat(blocks);
    const size_t packed_bytes = PackedBytes(builder, PlanOf(spec, format), backend);
    total.private_bytes += packed_bytes;
    if (packed_bytes > 0 && spec.use == WeightUse::kLinear) return;
  }
  const bool can_map = checkpoint != nullptr && backend.info().is_host_memory && kept == blocks;
  const bool is_mapped = can_map && ViewInPlace(stored, kept, *checkpoint);
  (is_mapped ? total.mapped_bytes : total.private_bytes) += SpecBytes(stored);
}

}  // namespace

WeightBytes CountWeightBytes(const ParamBuilder& builder, const Checkpoint* checkpoint,
                             const Backend& backend) {
  WeightBytes total;
  for (const ParamGroup& group : builder.groups()) {
    if (group.together) {
      total.private_bytes += MadeBytes(builder, *group.together, backend);
      continue;
    }
    for (const ParamSpec& spec : group.specs) {
      CountParam(builder, spec, checkpoint, backend, total);
    }
  }
  return total;
}

Status CheckParams(const ParamBuilder& builder, const Checkpoint& checkpoint) {
  std::vector<std::string> faults = builder.faults();
  std::unordered_set<std::string_view> known;
  for (const ParamGroup& group : builder.groups()) {
    for (const ParamSpec& spec : group.specs) {
      for (const ParamPart& part : spec.parts) {
        known.insert(part.names.begin(), part.names.end());
        if (std::string fault = CheckPart(spec, part, checkpoint); !fault.empty()) {
          faults.push_back(std::move(fault));
        }
      }
    }
  }
  for (const CheckpointTensor& entry : checkpoint.tensors()) {
    if (!known.contains(entry.name) && !builder.Ignores(entry.name)) {
      faults.push_back(fmt::format("unexpected {}: {} [{}]", entry.name, entry.dtype_name,
                                   fmt::join(entry.shape, ", ")));
    }
  }
  return ReportFaults(faults, checkpoint.folder());
}

Status LoadWeights(const ParamBuilder& builder, std::unique_ptr<const Checkpoint> checkpoint,
                   Backend& backend, const WeightProgress& progress) {
  GALE_RETURN_IF_ERROR(CheckParams(builder, *checkpoint));
  const Checkpoint& source = *checkpoint;
  GALE_RETURN_IF_ERROR(
      CheckMemory(CountWeightBytes(builder, &source, backend).private_bytes, backend));
  source.Prefetch();
  builder.store()->checkpoint = std::move(checkpoint);
  const std::unique_ptr<Stream> stream = backend.CreateStream();
  ThreadPool threads(AvailableCpus());
  const BindContext context{backend, *stream, *builder.store()};
  const ReadContext reading{builder, source, backend, threads};
  if (!backend.info().is_host_memory) {
    DeviceReader reader(reading);
    return BindAll(builder, context, progress, [&](const ParamGroup&) { return reader.Next(); });
  }
  return BindAll(builder, context, progress, [&](const ParamGroup& group) {
    return ReadGroup(group, [&](const ParamSpec& spec) { return ReadParam(spec, reading); });
  });
}

Status LoadDummyWeights(const ParamBuilder& builder, uint64_t seed, Backend& backend,
                        const WeightProgress& progress) {
  GALE_RETURN_IF_ERROR(
      CheckMemory(CountWeightBytes(builder, nullptr, backend).private_bytes, backend));
  const std::unique_ptr<Stream> stream = backend.CreateStream();
  GALE_ASSIGN_OR_RETURN(DummyWeights dummy, DummyWeights::Create(backend, *stream));
  return BindAll(builder, {backend, *stream, *builder.store()}, progress,
                 [&](const ParamGroup& group) {
                   return ReadGroup(group, [&](const ParamSpec& spec) {
                     return MakeDummyParam(spec, seed, backend, dummy);
                   });
                 });
}

}  // namespace gale
