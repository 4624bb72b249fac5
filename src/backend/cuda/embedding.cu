// Row look-ups: token embeddings and the rows that need logits.
#include "backend/cuda/element.cuh"
#include "backend/cuda/ggml_block.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;

/// What is looked up: ids[r], or where that is negative latest[~ids[r]].
struct Ids {
  const int32_t* ids;
  const int32_t* latest;

  __device__ __forceinline__ int64_t operator[](int64_t row) const {
    const int32_t id = ids[row];
    return id >= 0 ? id : latest[~id];
  }
};

/// out[r] = scale * table[ids[r]], one block a row. Strides in elements.
template <class T>
__global__ void LookUpKernel(AnyFloats table, int64_t table_stride, Ids ids, T* out,
                             int64_t out_stride, int64_t columns, float scale) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t source = ids[blockIdx.x] * table_stride;
  T* row = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < columns; i += kThreads) {
    row[i] = FromF32<T>(scale * table[source + i]);
  }
}

/// The same for rows of ggml's blocks, `row_bytes` each.
template <GgmlType kType, class T>
__global__ void LookUpBlocksKernel(const uint8_t* table, int64_t row_bytes, Ids ids, T* out,
                                   int64_t out_stride, int64_t columns, float scale) {
  LaunchDependents();
  WaitForPrerequisites();
  const uint8_t* source = table + ids[blockIdx.x] * row_bytes;
  T* row = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < columns; i += kThreads) {
    row[i] = FromF32<T>(scale * BlockElement<kType>(source, i));
  }
}

/// The same for rows of `packs` times 16 bytes that need no conversion and no scale. Strides in
/// packs.
__global__ void CopyPacksKernel(const uint4* table, int64_t table_stride, Ids ids, uint4* out,
                                int64_t out_stride, int64_t packs) {
  LaunchDependents();
  WaitForPrerequisites();
  const uint4* source = table + ids[blockIdx.x] * table_stride;
  uint4* row = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) row[i] = source[i];
}

template <GgmlType kType>
void LookUpBlocks(CudaStream& stream, const LaunchShape& shape, const EmbeddingArgs& args,
                  const Ids& ids) {
  const auto* table = static_cast<const uint8_t*>(args.table.data);
  const int64_t row_bytes = args.table.strides[0];
  const TensorView& out = args.out;
  if (out.dtype == DType::kF32) {
    stream.Launch(shape, LookUpBlocksKernel<kType, float>, table, row_bytes, ids, out.As<float>(),
                  out.strides[0], out.dim(1), args.scale);
  } else {
    stream.Launch(shape, LookUpBlocksKernel<kType, bf16>, table, row_bytes, ids, out.As<bf16>(),
                  out.strides[0], out.dim(1), args.scale);
  }
}

}  // namespace

Status CheckKernelsRun() {
  cudaFuncAttributes attributes{};
  return ToStatus(
      cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(CopyPacksKernel)),
      "look up kernel");
}

void Embedding(CudaStream& stream, const EmbeddingArgs& args) {
  CheckEmbeddingArgs(args);
  const TensorView& table = args.table;
  const TensorView& out = args.out;
  const Ids ids{args.tokens.As<int32_t>(), args.last_tokens.As<int32_t>()};
  const int64_t columns = table.dim(1);
  const LaunchShape shape{dim3(static_cast<unsigned>(args.tokens.dim(0))), dim3(kThreads)};
  if (args.blocks == GgmlType::kQ8_0) {
    LookUpBlocks<GgmlType::kQ8_0>(stream, shape, args, ids);
  } else if (args.blocks == GgmlType::kQ4_0) {
    LookUpBlocks<GgmlType::kQ4_0>(stream, shape, args, ids);
  } else if (table.dtype == out.dtype && args.scale == 1 && RowsArePacks(table) &&
             RowsArePacks(out)) {
    const auto per_pack = static_cast<int64_t>(16 / DTypeBytes(out.dtype));
    stream.Launch(shape, CopyPacksKernel, static_cast<const uint4*>(table.data),
                  table.strides[0] / per_pack, ids, static_cast<uint4*>(out.data),
                  out.strides[0] / per_pack, columns / per_pack);
  } else if (out.dtype == DType::kF32) {
    stream.Launch(shape, LookUpKernel<float>, Floats(table), table.strides[0], ids, out.As<float>(),
                  out.strides[0], columns, args.scale);
  } else {
    stream.Launch(shape, LookUpKernel<bf16>, Floats(table), table.strides[0], ids, out.As<bf16>(),
                  out.strides[0], columns, args.scale);
  }
}

/// A look-up like the other, of activations.
void GatherRows(CudaStream& stream, const GatherRowsArgs& args) {
  Embedding(stream, {.tokens = args.rows, .table = args.x, .out = args.out});
}

}  // namespace gale::cuda
