// The inner loops of the CPU back end, one table of function pointers per
// instruction set. Layer L1b. The code is written once (kernels_impl.h) and
// compiled once per table with that set's flags. All of them compute in f32 and
// have one order of summation per output element, whatever the number of rows,
// the tile or the thread: that is how the CPU keeps Numerics::kBatchInvariant.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "backend/cpu/panels.h"
#include "gale/engine_config.h"  // KvFormat
#include "tensor/bf16.h"
#include "tensor/dtype.h"
#include "tensor/quant_format.h"

namespace gale {

/// Rows of a packed operand that one register tile covers.
inline constexpr int64_t kLinearRowTile = 4;

/// out[r, c] = sum over k of x[r, k] * weight[c, k].
struct LinearBlock {
  const float* x = nullptr;  ///< as CpuKernels::pack_rows leaves it
  int64_t rows = 0;
  int64_t k = 0;
  const void* weight = nullptr;  ///< [cols, k]
  DType weight_dtype = DType::kF32;
  GgmlType blocks = GgmlType::kNone;  ///< of the weight, in place of elements of weight_dtype
  int64_t weight_stride = 0;          ///< elements between rows of `weight`; of blocks k
  int64_t cols = 0;
  float* out = nullptr;  ///< [rows, cols]
  int64_t out_stride = 0;
};

/// out[r, c] = sum over k of x[r, k] * weight[c, k], the weight in panels.
struct PanelBlock {
  cpu::PanelFormat format;
  const void* x = nullptr;  ///< rows of bf16, or with integer panels of QuantizedGroup
  int64_t x_stride = 0;     ///< bytes between rows
  int64_t rows = 0;
  int64_t k = 0;  ///< a multiple of format.UnitElements()
  const void* panels = nullptr;
  int64_t num_panels = 0;
  float* out = nullptr;  ///< [rows, num_panels * kPanelColumns]
  int64_t out_stride = 0;
};

/// Positions that attention handles at once. Tiles start at multiples of it, so
/// that the order of every sum depends on positions only.
inline constexpr int kAttentionTile = 16;

/// One step of online softmax (arXiv:2205.14135) for some query rows over one
/// tile of positions.
struct AttentionTile {
  DType kv = DType::kF32;        ///< or bf16
  const void* k = nullptr;       ///< [head_dim, kAttentionTile]; in pairs beside q_pairs:
                                 ///< bf16 [head_dim / 2, kAttentionTile, 2]
  const void* v = nullptr;       ///< [kAttentionTile, head_dim]; in pairs
                                 ///< bf16 [kAttentionTile / 2, head_dim, 2]
  const void* next_k = nullptr;  ///< of the tile after this one, asked into L1; may be null
  const void* next_v = nullptr;
  const void* far_k = nullptr;  ///< of one further on, asked into L2; may be null
  const void* far_v = nullptr;
  int head_dim = 0;  ///< a multiple of kAttentionTile
  int rows = 0;
  const float* q = nullptr;        ///< [rows, head_dim], scaled
  const Bf16* q_pairs = nullptr;   ///< in place of q: the same, not yet scaled
  float scale = 1;                 ///< of products with q_pairs
  float softcap = 0;               ///< of scores; 0: none
  const int32_t* begin = nullptr;  ///< [rows] first visible position of the tile
  const int32_t* end = nullptr;    ///< [rows] one past the last; none is visible if end <= begin
  float* max = nullptr;            ///< [rows] running maximum of the scores; -inf at first
  float* sum = nullptr;            ///< [rows] running sum of exp(score - max)
  float* acc = nullptr;            ///< [rows, head_dim] running sum of exp(score - max) * v
};

struct CpuKernels {
  std::string_view name;  ///< "avx512"

  /// Between storage (f32, bf16, f16) and f32. From f32: round to nearest even,
  /// f32 and bf16 only.
  void (*to_f32)(const void* src, DType dtype, float* dst, int64_t n);
  /// n elements of a row of blocks; n is a multiple of kGgmlBlockElements.
  void (*unpack_blocks)(const void* src, GgmlType type, float* dst, int64_t n);
  void (*from_f32)(const float* src, void* dst, DType dtype, int64_t n);

  /// Floats that pack_rows writes for `rows` rows of k elements.
  int64_t (*packed_size)(int64_t rows, int64_t k);
  /// Interleaves at most kLinearRowTile rows, vector by vector, padded with
  /// zeros. A tile of t rows begins packed_size(first row of the tile, k)
  /// floats into a block's operand.
  void (*pack_rows)(const void* x, DType dtype, int64_t stride, int64_t rows, int64_t k,
                    float* dst);
  void (*linear)(const LinearBlock& block);
  void (*multiply_panels)(const PanelBlock& block);
  /// k elements, a multiple of kPanelGroup. Groups below 2^-100 become zero;
  /// one with an infinity or no number gives products that are no number.
  void (*quantize_row)(const Bf16* x, int64_t k, cpu::QuantizedGroup* out);

  /// out = x / sqrt(mean(x^2) + eps) * weight. May alias.
  void (*rms_norm)(const float* x, const float* weight, float eps, float* out, int64_t n);
  /// Rotates the pairs (x[i], x[i + half]) by the angles whose cosines and
  /// sines are given.
  void (*rotate_half)(float* x, const float* cos, const float* sin, int64_t half);
  /// out = gate / (1 + exp(-gate)) * up.
  void (*silu_mul)(const float* gate, const float* up, float* out, int64_t n);
  /// out = gate / 2 * (1 + tanh(sqrt(2 / pi) * (gate + 0.044715 gate^3))) * up.
  void (*gelu_tanh_mul)(const float* gate, const float* up, float* out, int64_t n);
  /// x = cap * tanh(x / cap).
  void (*softcap)(float* x, float cap, int64_t n);

  void (*attend)(const AttentionTile& tile);

  // Rows of a quantized KV cache, see backend/kv_format.h.

  /// The least and the largest of n elements; NaN both if one of them is, or an infinity.
  void (*row_range)(const float* x, int64_t n, float* low, float* high);
  /// Codes a byte each, of kInt4 code + 8. `scale` and `offset` are the row's.
  void (*encode_kv)(KvFormat format, const float* x, int64_t n, float scale, float offset,
                    uint8_t* codes);
  /// n codes to elements. A byte each or, of kInt4, in groups of 2 * kAttentionTile: the first half
  /// in the low halves of the bytes. n is a multiple of such a group. The scales and offsets are
  /// those of kAttentionTile elements, and of the next as many again.
  void (*unpack_kv)(KvFormat format, const uint8_t* codes, int64_t n, const float* scale,
                    const float* offset, float* out);

  float (*max)(const float* x, int64_t n);  ///< -inf when n = 0
  /// out = exp((x - shift) * scale), 0 for x = -inf; returns the sum. May
  /// alias.
  float (*exp_sum)(const float* x, float shift, float scale, float* out, int64_t n);
};

extern const CpuKernels kKernelsPortable;
extern const CpuKernels kKernelsAvx2;  ///< these exist on x86-64 only
extern const CpuKernels kKernelsAvx512;
extern const CpuKernels kKernelsAvx512Dot;  ///< with the BF16 and VNNI extensions

/// The tables that this machine can run, slowest first; "portable" is always
/// one.
std::span<const CpuKernels* const> AvailableKernels();

}  // namespace gale
