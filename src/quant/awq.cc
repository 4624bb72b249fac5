// AWQ (arXiv 2306.00978) as AutoAWQ's "gemm" kernels have it: unsigned 4-bit codes with a zero for
// each group of inputs. All three tensors have inputs first; eight outputs share a 32-bit word.
#include <algorithm>
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
    UnpackZeros(raw[1].view, weight);
    const int64_t words = weight.out / kInWord;
    threads.ParallelFor((words + kTile - 1) / kTile, [&](int64_t tile, int) {
      UnpackTile(raw[0].view, tile * kTile, std::min((tile + 1) * kTile, words), weight);
    });
    return {};
  }

 private:
  int64_t Group(const LinearShape& shape) const { return group_ == 0 ? shape.in : group_; }

  static constexpr int64_t kTile = 16;  // words: a cache line of the packed tensor

  static int64_t Output(int64_t word, size_t i) { return word * kInWord + kOutputs[i]; }

  static void UnpackZeros(const TensorView& packed, const LinearWeight& weight) {
    const int64_t groups = packed.dim(0);
    const int64_t words = packed.dim(1);
    for (int64_t at = 0; at < groups * words; ++at) {
      const uint32_t word = packed.As<const uint32_t>()[at];
      for (size_t i = 0; i < kOutputs.size(); ++i) {
        weight.zeros.As<uint8_t>()[Output(at % words, i) * groups + at / words] =
            static_cast<uint8_t>(word >> (4 * i) & 15U);
      }
    }
  }

  /// The codes of words [begin, end) of each row, two rows at a time.
  static void UnpackTile(const TensorView& packed, int64_t begin, int64_t end,
                         const LinearWeight& weight) {
    const int64_t row_bytes = weight.in / 2;
    for (int64_t pair = 0; pair < row_bytes; ++pair) {
      const auto* even = packed.As<const uint32_t>() + 2 * pair * packed.dim(1);
      const auto* odd = even + packed.dim(1);
      for (int64_t word = begin; word < end; ++word) {
        for (size_t i = 0; i < kOutputs.size(); ++i) {
          weight.data.As<uint8_t>()[Output(word, i) * row_bytes + pair] = static_cast<uint8_t>(
              (even[word] >> (4 * i) & 15U) | (odd[word] >> (4 * i) & 15U) << 4);
        }
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
