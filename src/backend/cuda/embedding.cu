// Row look-ups: token embeddings and the rows that need logits.
#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;

/// out[r] = table[ids[r]], one block a row. Strides in elements.
template <class T>
__global__ void LookUpKernel(AnyFloats table, int64_t table_stride, const int32_t* ids, T* out,
                             int64_t out_stride, int64_t columns) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t source = ids[blockIdx.x] * table_stride;
  T* row = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < columns; i += kThreads) row[i] = FromF32<T>(table[source + i]);
}

/// The same for rows of `packs` times 16 bytes that need no conversion. Strides in packs.
__global__ void CopyPacksKernel(const uint4* table, int64_t table_stride, const int32_t* ids,
                                uint4* out, int64_t out_stride, int64_t packs) {
  LaunchDependents();
  WaitForPrerequisites();
  const uint4* source = table + ids[blockIdx.x] * table_stride;
  uint4* row = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) row[i] = source[i];
}

void LookUp(CudaStream& stream, const TensorView& table, const TensorView& rows,
            const TensorView& out) {
  const int64_t n = rows.dim(0);
  const int64_t columns = table.dim(1);
  CheckActivation(out);
  CheckArray(rows, DType::kI32, {n});
  CheckShape(out, {n, columns});
  CheckRows(table);
  const LaunchShape shape{dim3(static_cast<unsigned>(n)), dim3(kThreads)};
  if (table.dtype == out.dtype && RowsArePacks(table) && RowsArePacks(out)) {
    const auto per_pack = static_cast<int64_t>(16 / DTypeBytes(out.dtype));
    stream.Launch(shape, CopyPacksKernel, static_cast<const uint4*>(table.data),
                  table.strides[0] / per_pack, rows.As<int32_t>(), static_cast<uint4*>(out.data),
                  out.strides[0] / per_pack, columns / per_pack);
  } else if (out.dtype == DType::kF32) {
    stream.Launch(shape, LookUpKernel<float>, Floats(table), table.strides[0], rows.As<int32_t>(),
                  out.As<float>(), out.strides[0], columns);
  } else {
    stream.Launch(shape, LookUpKernel<bf16>, Floats(table), table.strides[0], rows.As<int32_t>(),
                  out.As<bf16>(), out.strides[0], columns);
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
  LookUp(stream, args.table, args.tokens, args.out);
}

void GatherRows(CudaStream& stream, const GatherRowsArgs& args) {
  LookUp(stream, args.x, args.rows, args.out);
}

}  // namespace gale::cuda
