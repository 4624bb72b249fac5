// The decode attention kernels over quantized caches, in a file of their own to compile beside
// others.
#include "backend/cuda/attention_decode_quantized.cuh"

namespace gale::cuda {
namespace {

template <int kDim>
DecodeKernel OfFormat(KvFormat format, int rows) {
  switch (format) {
    case KvFormat::kFp8: return DecodeKernelOf<kDim, KvFormat::kFp8>(rows);
    case KvFormat::kInt8: return DecodeKernelOf<kDim, KvFormat::kInt8>(rows);
    default: return DecodeKernelOf<kDim, KvFormat::kInt4>(rows);
  }
}

}  // namespace

DecodeKernel QuantizedDecodeKernel(KvFormat format, int dim, int rows) {
  switch (dim) {
    case 64: return OfFormat<64>(format, rows);
    case 128: return OfFormat<128>(format, rows);
    default: return OfFormat<256>(format, rows);
  }
}

}  // namespace gale::cuda
