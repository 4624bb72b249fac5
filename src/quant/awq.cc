// AWQ (arXiv 2306.00978) as AutoAWQ's "gemm" kernels have it: unsigned 4-bit codes with a zero for
// each group of inputs. All three tensors have inputs first; eight outputs share a 32-bit word.
#include <array>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "quant/unpack.h"

namespace gale {
namespace {

constexpr int64_t kInWord = 8;
/// Which of a word's eight outputs each of its nibbles is, from the lowest.
constexpr std::array<int64_t, kInWord> kOutputs = {0, 2, 4, 6, 1, 3, 5, 7};

class AwqLayout : public LinearLayout {
 public:
  explicit AwqLayout(int64_t group) : group_(group) {}

  std::string Fault(const LinearShape& shape) const override {
    if (shape.in % Group(shape) != 0 || shape.in % 2 != 0) {
      return fmt::format("expected inputs that groups of {} divide, got {}", Group(shape),
                         shape.in);
    }
    if (shape.out % kInWord == 0) return {};
    return fmt::format("expected a multiple of {} outputs, got {}", kInWord, shape.out);
  }

  QuantFormat Format(const LinearShape&) const override {
    return {.code = BlockCode::kScaled, .block = {.in = group_}, .has_zeros = true};
  }

  std::vector<QuantParam> Params(const LinearShape& shape) const override {
    const int64_t groups = shape.in / Group(shape);
    return {{".qweight", {shape.in, shape.out / kInWord}, DType::kI32},
            {".qzeros", {groups, shape.out / kInWord}, DType::kI32},
            {".scales", {groups, shape.out}, DType::kF32}};
  }

  Status Unpack(std::span<const RawParam> raw, LinearWeight& weight,
                ThreadPool& threads) const override {
    GALE_RETURN_IF_ERROR(CopyScales(raw[2], "scales", Order::kTransposed, weight.scales));
    const auto* zeros = raw[1].view.As<const uint32_t>();
    const int64_t groups = weight.zeros.dim(1);
    const int64_t words = weight.out / kInWord;
    threads.ParallelFor(words, [&](int64_t word, int) {
      for (int64_t i = 0; i < kInWord; ++i) {
        const int64_t output = word * kInWord + kOutputs[static_cast<size_t>(i)];
        auto* row = weight.zeros.As<uint8_t>() + output * groups;
        for (int64_t g = 0; g < groups; ++g) {
          row[g] = static_cast<uint8_t>(zeros[g * words + word] >> (4 * i) & 15U);
        }
      }
      UnpackWord(raw[0].view, word, weight);
    });
    return {};
  }

 private:
  int64_t Group(const LinearShape& shape) const { return group_ == 0 ? shape.in : group_; }

  /// The codes of eight outputs, two inputs at a time.
  static void UnpackWord(const TensorView& packed, int64_t word, const LinearWeight& weight) {
    const auto* words = packed.As<const uint32_t>() + word;
    const int64_t stride = packed.dim(1);
    std::array<uint8_t*, kInWord> rows;
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = weight.data.As<uint8_t>() + (word * kInWord + kOutputs[i]) * (weight.in / 2);
    }
    for (int64_t pair = 0; pair < weight.in / 2; ++pair) {
      const uint32_t even = words[2 * pair * stride];
      const uint32_t odd = words[(2 * pair + 1) * stride];
      for (size_t i = 0; i < rows.size(); ++i) {
        rows[i][pair] = static_cast<uint8_t>((even >> (4 * i) & 15U) | (odd >> (4 * i) & 15U) << 4);
      }
    }
  }

  int64_t group_;  ///< 0: all inputs
};

class AwqScheme : public QuantScheme {
 public:
  AwqScheme(PlainLayers plain, int64_t group) : plain_(std::move(plain)), layout_(group) {}

  const LinearLayout* LayoutOf(std::string_view layer) const override {
    return plain_.Has(layer) ? nullptr : &layout_;
  }

 private:
  PlainLayers plain_;
  AwqLayout layout_;
};

Result<std::unique_ptr<const QuantScheme>> MakeAwq(const QuantSource& source) {
  const JsonObject& config = source.config;
  GALE_ASSIGN_OR_RETURN(const JsonValue bits, config.Get("bits"));
  GALE_RETURN_IF_ERROR(OneOf(bits, {4}));
  GALE_ASSIGN_OR_RETURN(const JsonValue group_size, config.Get("group_size"));
  GALE_ASSIGN_OR_RETURN(const int64_t group, GroupSize(group_size, kInWord));
  if (const auto version = config.Find("version")) {
    GALE_RETURN_IF_ERROR(Choice(*version, {"gemm", "GEMM"}));
  }
  if (const auto zero_point = config.Find("zero_point")) {
    GALE_ASSIGN_OR_RETURN(const bool has_zeros, zero_point->Bool());
    if (!has_zeros) return tl::unexpected(NotSupported(*zero_point, "true"));
  }
  GALE_ASSIGN_OR_RETURN(PlainLayers plain,
                        PlainLayers::Read(source, {"modules_to_not_convert"}, ".qweight"));
  // AutoAWQ leaves the head alone without saying so.
  plain.AddHead();
  return std::make_unique<const AwqScheme>(std::move(plain), group);
}

const bool registered = RegisterQuantScheme("awq", MakeAwq);

}  // namespace
}  // namespace gale
