// GPTQ (arXiv 2210.17323) as AutoGPTQ and GPTQModel store it: unsigned codes of 4 or 8 bits, packed
// along the inputs from the low bits up, and their zeros along the outputs. Version 1 of the format
// has zeros less one. With act-order, inputs are spread over groups by g_idx; codes are put in the
// order of the groups here, and the permutation says which input each then is.
#include <algorithm>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "quant/input_groups.h"
#include "quant/unpack.h"

namespace gale {
namespace {

struct GptqOptions {
  int bits = 4;
  int64_t group = 0;  ///< 0: all inputs
  bool is_symmetric = true;
  bool is_reordered = false;  ///< act-order
  bool zeros_less_one = true;
};

/// A word's code `i`.
uint32_t CodeIn(uint32_t word, int64_t i, int bits) {
  return word >> (i * bits) & ((1U << bits) - 1);
}

class GptqLayout : public LinearLayout {
 public:
  explicit GptqLayout(const GptqOptions& options) : options_(options) {}

  std::string Fault(const LinearShape& shape) const override {
    if (shape.in % InWord() == 0 && shape.out % InWord() == 0) return {};
    return fmt::format("expected multiples of {} inputs and outputs, got {} and {}", InWord(),
                       shape.in, shape.out);
  }

  /// Signed bytes stand for symmetric codes of 8 bits.
  QuantFormat Format(const LinearShape&) const override {
    QuantFormat format = {.code = BlockCode::kScaled};
    format.block.in = options_.group;
    if (options_.bits == 8) {
      format.codes = options_.is_symmetric ? CodeType::kInt8 : CodeType::kUInt8;
    }
    format.has_zeros = !options_.is_symmetric;
    format.has_permutation = options_.is_reordered && options_.group != 0;
    return format;
  }

  std::vector<QuantParam> Params(const LinearShape& shape) const override {
    const int64_t groups = Groups(shape.in);
    return {{".qweight", {shape.in / InWord(), shape.out}, DType::kI32},
            {".qzeros", {groups, shape.out / InWord()}, DType::kI32},
            {".scales", {groups, shape.out}, DType::kF32},
            {".g_idx", {shape.in}, DType::kI32, /*is_optional=*/true}};
  }

  /// Early files have biases of zeros where models have none.
  std::vector<std::string> Unused() const override { return {".bias"}; }

  Status Unpack(std::span<const RawParam> raw, LinearWeight& weight,
                ThreadPool& threads) const override {
    GALE_RETURN_IF_ERROR(CopyScales(raw[2], "scales", Order::kTransposed, weight.scales));
    GALE_RETURN_IF_ERROR(UnpackZeros(raw[1].view, weight));
    GALE_RETURN_IF_ERROR(ReadGroups(raw[3], weight));
    threads.ParallelFor((weight.out + kTile - 1) / kTile,
                        [&](int64_t tile, int) { UnpackTile(raw[0].view, tile * kTile, weight); });
    return {};
  }

 private:
  int64_t InWord() const { return 32 / options_.bits; }
  int64_t Group(int64_t in) const { return options_.group == 0 ? in : options_.group; }
  int64_t Groups(int64_t in) const { return (in + Group(in) - 1) / Group(in); }

  /// Version 1 subtracted one from whole words, borrowing; so it is added here.
  Status UnpackZeros(const TensorView& packed, const LinearWeight& weight) const {
    const auto* words = packed.As<const uint32_t>();
    const uint32_t ones = options_.bits == 4 ? 0x11111111U : 0x01010101U;
    const uint32_t middle = 1U << (options_.bits - 1);
    const int64_t groups = packed.dim(0);
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t output = 0; output < weight.out; ++output) {
        const uint32_t word = words[group * packed.dim(1) + output / InWord()];
        if (weight.zeros) {
          const uint32_t restored = word + (options_.zeros_less_one ? ones : 0U);
          weight.zeros.As<uint8_t>()[output * groups + group] =
              static_cast<uint8_t>(CodeIn(restored, output % InWord(), options_.bits));
          continue;
        }
        const uint32_t zero = CodeIn(word, output % InWord(), options_.bits);
        if (zero == middle || zero == middle - 1) continue;  // either version's
        return WrongValue("qzeros", fmt::format("expected zeros of {} everywhere, as sym is true, "
                                                "got {} at [{}, {}]",
                                                middle - 1, zero, group, output));
      }
    }
    return {};
  }

  /// Which input is where, or that they are where they were.
  Status ReadGroups(const RawParam& g_idx, const LinearWeight& weight) const {
    if (!g_idx.view) return {};
    const int64_t in = weight.in;
    const std::span<const int32_t> groups(g_idx.view.As<const int32_t>(), static_cast<size_t>(in));
    if (weight.permutation) {
      GALE_ASSIGN_OR_RETURN(const std::vector<int32_t> order,
                            OrderByGroup(groups, Group(in), "g_idx"));
      std::ranges::copy(order, weight.permutation.As<int32_t>());
      return {};
    }
    for (int64_t i = 0; i < in; ++i) {
      const int32_t group = groups[static_cast<size_t>(i)];
      if (group == i / Group(in)) continue;
      return WrongValue("g_idx",
                        fmt::format("expected group {} for input {}, as desc_act is false, "
                                    "got {}",
                                    i / Group(in), i, group));
    }
    return {};
  }

  /// Outputs from `first` on, whose words are neighbours.
  void UnpackTile(const TensorView& packed, int64_t first, const LinearWeight& weight) const {
    const auto* words = packed.As<const uint32_t>();
    const int64_t count = std::min(kTile, weight.out - first);
    const int64_t row_words = packed.dim(0);
    std::vector<uint32_t> rows(static_cast<size_t>(count * row_words));
    for (int64_t i = 0; i < row_words; ++i) {
      for (int64_t o = 0; o < count; ++o) {
        rows[static_cast<size_t>(o * row_words + i)] = words[i * weight.out + first + o];
      }
    }
    if (options_.bits == 8 && options_.is_symmetric) {
      for (uint32_t& word : rows) word ^= 0x80808080U;  // 128 less, as signed bytes
    }
    for (int64_t o = 0; o < count; ++o) {
      const uint32_t* row = &rows[static_cast<size_t>(o * row_words)];
      StoreRow(row, weight.data.As<uint8_t>() + (first + o) * row_words * 4, weight);
    }
  }

  /// A row's words, which hold codes from the low bits up as the canonical bytes do.
  void StoreRow(const uint32_t* row, uint8_t* out, const LinearWeight& weight) const {
    const int bits = options_.bits;
    if (!weight.permutation) {
      std::memcpy(out, row, static_cast<size_t>(weight.in * bits / 8));
      return;
    }
    const auto* order = weight.permutation.As<const int32_t>();
    const auto code_at = [&](int64_t i) {
      return CodeIn(row[order[i] / InWord()], order[i] % InWord(), bits);
    };
    for (int64_t i = 0; i < weight.in; i += 8 / bits) {
      const uint32_t second = bits == 4 ? code_at(i + 1) << 4 : 0;
      *out++ = static_cast<uint8_t>(code_at(i) | second);
    }
  }

  static constexpr int64_t kTile = 16;  // a cache line of a row of words

  GptqOptions options_;
};

/// Layers whose names match an expression, with parameters of their own or none: they are plain.
struct GptqException {
  LayerFilter layers;
  std::optional<GptqLayout> layout;
};

class GptqScheme : public QuantScheme {
 public:
  GptqScheme(PlainLayers plain, const GptqOptions& options, std::vector<GptqException> exceptions)
      : plain_(std::move(plain)), layout_(options), exceptions_(std::move(exceptions)) {}

  const LinearLayout* LayoutOf(std::string_view layer) const override {
    if (plain_.Has(layer)) return nullptr;
    for (const GptqException& exception : exceptions_) {
      if (exception.layers.Has(layer)) return exception.layout ? &*exception.layout : nullptr;
    }
    return &layout_;
  }

 private:
  PlainLayers plain_;
  GptqLayout layout_;
  std::vector<GptqException> exceptions_;
};

/// Of "checkpoint_format", or "format" in older files.
Result<bool> HasZerosLessOne(const JsonObject& config) {
  for (const char* key : {"checkpoint_format", "format"}) {
    const auto value = config.Find(key);
    if (!value) continue;
    GALE_ASSIGN_OR_RETURN(const std::string_view format, Choice(*value, {"gptq", "gptq_v2"}));
    return format == "gptq";
  }
  return true;
}

/// The members that there are.
Status ReadOptions(const JsonObject& object, GptqOptions& options) {
  if (const auto bits = object.Find("bits")) {
    GALE_RETURN_IF_ERROR(OneOf(*bits, {4, 8}));
    options.bits = static_cast<int>(*bits->Int());
  }
  if (const auto size = object.Find("group_size")) {
    GALE_ASSIGN_OR_RETURN(options.group, GroupSize(*size, 8));
  }
  GALE_ASSIGN_OR_RETURN(options.is_symmetric, BoolOr(object, "sym", options.is_symmetric));
  GALE_ASSIGN_OR_RETURN(options.is_reordered, BoolOr(object, "desc_act", options.is_reordered));
  return {};
}

/// GPTQModel's "dynamic": expressions with "-:" in front for plain layers, with "+:" or nothing for
/// layers with some parameters of their own.
Result<std::vector<GptqException>> ReadExceptions(const JsonObject& config,
                                                  const GptqOptions& options) {
  std::vector<GptqException> exceptions;
  const auto dynamic = config.Find("dynamic");
  if (!dynamic) return exceptions;
  GALE_ASSIGN_OR_RETURN(const JsonObject object, dynamic->Object());
  const auto add = [&](std::string_view key, const JsonValue& value) -> Status {
    GptqException& exception = exceptions.emplace_back();
    const bool is_plain = key.starts_with("-:");
    const bool has_mark = is_plain || key.starts_with("+:");
    GALE_RETURN_IF_ERROR(exception.layers.AddPattern(key.substr(has_mark ? 2 : 0), value));
    if (is_plain) return {};
    GALE_ASSIGN_OR_RETURN(const JsonObject members, value.Object());
    GptqOptions own = options;
    GALE_RETURN_IF_ERROR(ReadOptions(members, own));
    exception.layout.emplace(own);
    return {};
  };
  GALE_RETURN_IF_ERROR(object.ForEach(add));
  return exceptions;
}

Result<std::unique_ptr<const QuantScheme>> MakeGptq(const QuantSource& source) {
  const JsonObject& config = source.config;
  GptqOptions options;
  GALE_RETURN_IF_ERROR(config.Get("bits"));
  GALE_RETURN_IF_ERROR(config.Get("group_size"));
  GALE_RETURN_IF_ERROR(ReadOptions(config, options));
  GALE_ASSIGN_OR_RETURN(options.zeros_less_one, HasZerosLessOne(config));
  GALE_ASSIGN_OR_RETURN(std::vector<GptqException> exceptions, ReadExceptions(config, options));
  GALE_ASSIGN_OR_RETURN(const bool has_head, BoolOr(config, "lm_head", false));
  GALE_ASSIGN_OR_RETURN(PlainLayers plain,
                        PlainLayers::Read(source, {"modules_to_not_convert"}, ".qweight"));
  if (!has_head) plain.AddHead();
  return std::make_unique<const GptqScheme>(std::move(plain), options, std::move(exceptions));
}

const bool registered = RegisterQuantScheme("gptq", MakeGptq);

}  // namespace
}  // namespace gale
