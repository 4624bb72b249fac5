// Plain weights of linear layers that become codes beside scales, or ggml's blocks, while they
// load: because EngineConfig::quantize says so, or because dummy weights stand for a checkpoint
// that has them.
#include <utility>

#include "quant/quant_scheme.h"

namespace gale {
namespace {

QuantFormat Blocks(GgmlType type) {
  return {.code = BlockCode::kGgmlBlock, .data = DType::kU8, .ggml = type};
}

QuantFormat Scaled(CodeType codes, const ScaleBlock& block, ActivationCode activation) {
  return {.code = BlockCode::kScaled, .codes = codes, .block = block, .activation = activation};
}

/// The most of 128, 64 and 32 that divides the inputs; 0: none.
int64_t GroupOf(int64_t in) {
  for (const int64_t group : {128, 64, 32}) {
    if (in % group == 0) return group;
  }
  return 0;
}

/// The head has 8 bits at least: its errors go straight into the logits.
QuantFormat FormatOnLoad(LoadQuantization quantize, const LinearShape& shape, bool is_head) {
  constexpr int64_t kBlock = 128;
  const int64_t group = GroupOf(shape.in);
  switch (quantize) {
    case LoadQuantization::kInt8: return group == 0 ? QuantFormat() : Blocks(GgmlType::kQ8_0);
    case LoadQuantization::kInt4:
      if (group == 0) return {};
      return Blocks(is_head ? GgmlType::kQ8_0 : GgmlType::kQ4_0);
    case LoadQuantization::kInt4Group: {
      if (group == 0) return {};
      QuantFormat format = Scaled(is_head ? CodeType::kInt8 : CodeType::kUInt4, {.in = group},
                                  ActivationCode::kNone);
      format.has_zeros = !is_head;
      return format;
    }
    case LoadQuantization::kInt8Output: return Scaled(CodeType::kInt8, {}, ActivationCode::kRow);
    case LoadQuantization::kFp8: return Scaled(CodeType::kF8E4M3, {}, ActivationCode::kRow);
    case LoadQuantization::kFp8Block:
      return Scaled(CodeType::kF8E4M3, {kBlock, kBlock}, ActivationCode::kGroup);
    case LoadQuantization::kNone: break;
  }
  return {};
}

class OnLoadScheme : public QuantScheme {
 public:
  explicit OnLoadScheme(LoadQuantization quantize) : quantize_(quantize) {}

  QuantFormat MadeInto(const LinearShape& shape, std::string_view layer) const override {
    return FormatOnLoad(quantize_, shape, layer == kHeadName);
  }

 private:
  LoadQuantization quantize_;
};

class DummyScheme : public QuantScheme {
 public:
  explicit DummyScheme(std::unique_ptr<const QuantScheme> scheme) : scheme_(std::move(scheme)) {}

  QuantFormat MadeInto(const LinearShape& shape, std::string_view layer) const override {
    const LinearLayout* layout = scheme_->LayoutOf(layer);
    if (layout == nullptr) return scheme_->MadeInto(shape, layer);
    return layout->Fault(shape).empty() ? layout->Format(shape) : QuantFormat();
  }

 private:
  std::unique_ptr<const QuantScheme> scheme_;
};

}  // namespace

std::unique_ptr<const QuantScheme> MakeOnLoadScheme(LoadQuantization quantize) {
  return std::make_unique<const OnLoadScheme>(quantize);
}

std::unique_ptr<const QuantScheme> MakeDummyScheme(std::unique_ptr<const QuantScheme> scheme) {
  return std::make_unique<const DummyScheme>(std::move(scheme));
}

}  // namespace gale
