// gpt-oss's own checkpoints (arXiv 2508.10925): the experts of a layer stacked, outputs first, as
// 4-bit floats of which 32 share an exponent (OCP Microscaling Formats 1.0). All else is plain.
#include <algorithm>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "quant/unpack.h"
#include "tensor/ggml_block.h"

namespace gale {
namespace {

constexpr std::string_view kBlocks = "_blocks";

class Mxfp4Layout : public LinearLayout {
 public:
  std::string Fault(const LinearShape& shape) const override {
    if (shape.in % kGgmlBlockElements == 0) return {};
    return fmt::format("expected a multiple of {} inputs, got {}", kGgmlBlockElements, shape.in);
  }

  QuantFormat Format(const LinearShape&) const override {
    return {.code = BlockCode::kGgmlBlock, .data = DType::kU8, .ggml = GgmlType::kMxfp4};
  }

  std::vector<QuantParam> Params(const LinearShape& shape) const override {
    const int64_t out = shape.out / shape.groups;
    const int64_t blocks = shape.in / kGgmlBlockElements;
    return {{std::string(kBlocks), {shape.groups, out, blocks, kHalf}, DType::kU8},
            {"_scales", {shape.groups, out, blocks}, DType::kU8}};
  }

  /// Of two codes in a byte the first is the low half; ggml's blocks have the first 16 in low
  /// halves.
  Status Unpack(std::span<const RawParam> raw, LinearWeight& weight,
                ThreadPool& threads) const override {
    constexpr uint8_t kNan = 0xFF;
    const auto* codes = raw[0].view.As<const uint8_t>();
    const std::span<const uint8_t> exponents(raw[1].view.As<const uint8_t>(), raw[1].view.Bytes());
    if (const auto nan = std::ranges::find(exponents, kNan); nan != exponents.end()) {
      return WrongValue("scales", fmt::format("expected numbers, got one that is none at {}",
                                              nan - exponents.begin()));
    }
    const int64_t blocks = weight.in / kGgmlBlockElements;
    threads.ParallelFor(weight.out, [&](int64_t output, int) {
      auto* block = weight.data.As<uint8_t>() + output * weight.data.strides[0];
      for (int64_t i = output * blocks; i < (output + 1) * blocks; ++i) {
        *block++ = exponents[static_cast<size_t>(i)];
        const uint8_t* pairs = codes + i * kHalf;
        const auto code = [&](int64_t at) { return pairs[at / 2] >> (at % 2 * 4) & 15; };
        for (int64_t at = 0; at < kHalf; ++at) {
          *block++ = static_cast<uint8_t>(code(at) | code(at + kHalf) << 4);
        }
      }
    });
    return {};
  }

 private:
  static constexpr int64_t kHalf = kGgmlBlockElements / 2;
};

class Mxfp4Scheme : public QuantScheme {
 public:
  explicit Mxfp4Scheme(const Checkpoint* checkpoint) : checkpoint_(checkpoint) {}

  const LinearLayout* LayoutOf(std::string_view layer) const override {
    const bool is_stack =
        checkpoint_ != nullptr
            ? checkpoint_->Find(fmt::format("{}{}", layer, kBlocks)) != nullptr
            : layer.ends_with(".experts.gate_up_proj") || layer.ends_with(".experts.down_proj");
    return is_stack ? &layout_ : nullptr;
  }

 private:
  const Checkpoint* checkpoint_;
  Mxfp4Layout layout_;
};

Result<std::unique_ptr<const QuantScheme>> MakeMxfp4(const QuantSource& source) {
  return std::make_unique<const Mxfp4Scheme>(source.checkpoint);
}

const bool registered = RegisterQuantScheme("mxfp4", MakeMxfp4);

}  // namespace
}  // namespace gale
