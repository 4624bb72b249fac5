// The ops of the CUDA back end as functions that check their arguments and launch; one file per
// family. Layer L1b, called by cuda_backend.cc.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cuda/device.h"
#include "backend/kv_format.h"

namespace gale::cuda {

void Embedding(CudaStream& stream, const EmbeddingArgs& args);
void GatherRows(CudaStream& stream, const GatherRowsArgs& args);
void RmsNorm(CudaStream& stream, const RmsNormArgs& args);
void GatedActivation(CudaStream& stream, const GatedActivationArgs& args);
void AddSilu(CudaStream& stream, const AddSiluArgs& args);
void Softcap(CudaStream& stream, const SoftcapArgs& args);
void Rotate(CudaStream& stream, const RotateArgs& args);
void MoeRoute(CudaStream& stream, const MoeRouteArgs& args);
void MoeCombine(CudaStream& stream, const MoeCombineArgs& args);
/// Plain weights, as FindLinear's kernel packs them.
void RunGrouped(CudaStream& stream, const GroupedLinearArgs& args);
void RunBatched(CudaStream& stream, const BatchedLinearArgs& args);
void EditLogits(CudaStream& stream, const EditLogitsArgs& args);
void Sample(CudaStream& stream, const SampleArgs& args);
void Logprobs(CudaStream& stream, const LogprobsArgs& args);
void FillRandom(CudaStream& stream, const FillRandomArgs& args);
void ProbeRead(CudaStream& stream, const TensorView& memory);
double ProbeProducts(CudaStream& stream);
double ProbeLibraryProduct(CudaStream& stream, const TensorView& memory);

/// Blocks of a KV cache: [layer][k, v][kv_head][token][padded_dim] each, padding zero; of a
/// quantized cache see kv_codes.cuh. A latent cache has no v: a value is the last value_dim
/// elements of its key.
struct KvLayout {
  char* blocks = nullptr;
  int64_t block_bytes = 0;
  int block_shift = 0;  ///< log2 of the tokens in a block
  int kv_heads = 0;
  int head_dim = 0;
  int value_dim = 0;
  int padded_dim = 0;
  int rows_per_token = 0;  ///< in one layer: keys and values of kv_heads
  KvFormat format = KvFormat::kBf16;
  int num_blocks = 0;
};

void QkvRope(CudaStream& stream, const QkvRopeArgs& args);
/// Also writes keys and values to `cache`, which is quantized or whose elements are as those of
/// qkv.
void QkvRopeWrite(CudaStream& stream, const QkvRopeArgs& args, const KvLayout& cache, int layer,
                  const TensorView& slot_mapping);

class CudaAttention : public AttentionBackend {
 public:
  virtual const KvLayout& layout() const = 0;
};
std::unique_ptr<CudaAttention> CreateAttention(const AttentionSpec& spec);

/// Whether the binary holds code for the device: one small kernel is looked up, not run.
Status CheckKernelsRun();

/// Null for a decoder that is not fused.
Result<std::unique_ptr<FusedDecoder>> CreateFusedDecoder(const DecoderDescription& decoder);

/// y = x * weight^T + bias by cuBLASLt. False, with nothing enqueued, when it is not there or does
/// not take the operands.
bool RunCublasLt(CudaStream& stream, const LinearArgs& args);
/// Whether cuBLASLt would be the faster one, bf16 both and sums in any order.
bool SuitsCublasLt(const LinearArgs& args);
/// Whether RunWgmma is for this device and the faster one for these operands, bf16 both.
bool SuitsWgmma(const LinearArgs& args);
/// y = x * weight^T + bias; the order of sums depends on how many rows there are.
void RunWgmma(CudaStream& stream, const LinearArgs& args);
/// out = silu(gate) * up, where gate and up are the halves of y, which is not written. False, with
/// nothing enqueued, where two kernels are the faster way or the only one.
bool RunGatedWgmma(CudaStream& stream, const LinearArgs& args, const TensorView& out);

/// Backend::GatedLinear in one kernel. False, with nothing enqueued, where RunGatedWgmma is false
/// or `kernel` is not that of plain weights with sums in any order.
bool RunGatedLinear(CudaStream& stream, const LinearKernel& kernel, const LinearArgs& linear,
                    const GatedActivationArgs& gated);
/// The kernel for `key`, or null. Kernels have no state.
const LinearKernel* FindLinear(const LinearKey& key);
/// The same for codes beside their scales.
const LinearKernel* FindQuantLinear(const LinearKey& key);
/// The same for ggml's blocks.
const LinearKernel* FindGgmlLinear(const LinearKey& key);

}  // namespace gale::cuda
