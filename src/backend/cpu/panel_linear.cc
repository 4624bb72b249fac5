// Linear layers with weights packed in panels. Activations are bf16; integer panels meet them
// rounded to 8 bits, 32 at a time.
#include <algorithm>
#include <cstring>

#include "backend/cpu/linear.h"
#include "backend/cpu/panel_packing.h"
#include "base/status_macros.h"

namespace gale::cpu {
namespace {

/// Rows up to which reading the weights is what takes the time.
constexpr int64_t kFewRows = 16;

int64_t FloorToPanel(int64_t column) { return column / kPanelColumns * kPanelColumns; }

class PanelLinear final : public CpuLinear {
 public:
  PanelLinear(Context& context, bool is_bf16) : CpuLinear(context), is_bf16_(is_bf16) {}

  size_t PackedBytes(const LinearKey& key) const override {
    const PanelFormat format = *PanelFormatOf(key.format, key.in);
    return static_cast<size_t>(NumPanels(key.out) * format.PanelBytes(key.in));
  }

  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    const int64_t panel_bytes = PanelFormatOf(weight.format, weight.in)->PanelBytes(weight.in);
    PackedLinear packed;
    packed.format = weight.format;
    packed.in = weight.in;
    packed.out = weight.out;
    GALE_ASSIGN_OR_RETURN(packed.storage,
                          AllocateMemory(static_cast<size_t>(NumPanels(weight.out) * panel_bytes)));
    packed.data =
        TensorView(packed.storage.data(), DType::kU8, {NumPanels(weight.out), panel_bytes});
    const std::lock_guard lock(context_.mutex);
    PackPanels(context_.pool, weight, packed.storage.data());
    return packed;
  }

 protected:
  int64_t RowBlock() const override { return 512; }  // 9 MB for k = 8960

  int64_t ColumnsPerTask(int64_t, int64_t columns, int64_t rows) const override {
    if (rows > kFewRows) return kPanelColumns;
    const int64_t tasks = 4 * context_.pool.threads();
    return std::max<int64_t>(FloorToPanel((columns + tasks - 1) / tasks), kPanelColumns);
  }

  bool ReadsInPlace(const TensorView&) const override { return is_bf16_; }
  int64_t PackedFloats(int64_t rows, int64_t k) const override {
    return rows * RowBytes(k) / static_cast<int64_t>(sizeof(float));
  }
  LinearOperand PackedOperand(const float* packed, int64_t k) const override {
    return {packed, RowBytes(k)};
  }
  void PackRows(const void* x, DType, int64_t stride, int64_t rows, int64_t k,
                float* packed) const override {
    for (int64_t r = 0; r < rows; ++r) {
      const Bf16* row = static_cast<const Bf16*>(x) + r * stride;
      char* out = reinterpret_cast<char*>(packed) + r * RowBytes(k);
      if (is_bf16_) {
        std::memcpy(out, row, static_cast<size_t>(k) * sizeof(Bf16));
      } else {
        context_.kernels.quantize_row(row, k, reinterpret_cast<QuantizedGroup*>(out));
      }
    }
  }

  LinearSums Multiply(const PackedLinear& packed, const LinearOperand& x, int64_t rows,
                      int64_t begin, int64_t end, Scratch& scratch) const override {
    const int64_t first_panel = begin / kPanelColumns;
    const int64_t num_panels = NumPanels(end) - first_panel;
    const int64_t columns = num_panels * kPanelColumns;
    float* bias = scratch.Floats((rows + 1) * columns);
    float* sums = bias + columns;
    context_.kernels.multiply_panels({.format = *PanelFormatOf(packed.format, packed.in),
                                      .x = x.data,
                                      .x_stride = x.stride_bytes,
                                      .rows = rows,
                                      .k = packed.in,
                                      .panels = RowAt(packed.data, first_panel),
                                      .num_panels = num_panels,
                                      .out = sums,
                                      .out_stride = columns});
    return {sums + (begin - first_panel * kPanelColumns), columns, bias};
  }

 private:
  int64_t RowBytes(int64_t k) const {
    return is_bf16_ ? k * 2 : k / kPanelGroup * static_cast<int64_t>(sizeof(QuantizedGroup));
  }

  bool is_bf16_;
};

}  // namespace

std::unique_ptr<LinearKernel> CreatePanelLinear(Context& context, bool is_bf16) {
  return std::make_unique<PanelLinear>(context, is_bf16);
}

}  // namespace gale::cpu
