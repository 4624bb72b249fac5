// Plain weights of linear layers that become codes beside scales, or ggml's blocks, while they
// load: because EngineConfig::quantize says so, or because dummy weights stand for a checkpoint
// that has them.
#include <array>
#include <utility>

#include "base/check.h"
#include "quant/quant_scheme.h"
#include "tensor/ggml_block.h"

namespace gale {
namespace {

QuantFormat Blocks(GgmlType type) {
  return {.code = BlockCode::kGgmlBlock, .data = DType::kU8, .ggml = type};
}

/// The head has 8 bits at least: its errors go straight into the logits.
class BlockScheme : public QuantScheme {
 public:
  explicit BlockScheme(GgmlType type) : type_(type) {}

  QuantFormat MadeInto(const LinearShape& shape, std::string_view layer) const override {
    if (shape.in % GgmlBlockElements(type_) != 0) return {};
    return Blocks(layer == kHeadName ? GgmlType::kQ8_0 : type_);
  }

 private:
  GgmlType type_;
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
  switch (quantize) {
    case LoadQuantization::kInt8: return std::make_unique<const BlockScheme>(GgmlType::kQ8_0);
    case LoadQuantization::kInt4: return std::make_unique<const BlockScheme>(GgmlType::kQ4_0);
    case LoadQuantization::kNone: break;
  }
  return std::make_unique<const QuantScheme>();
}

std::unique_ptr<const QuantScheme> MakeDummyScheme(std::unique_ptr<const QuantScheme> scheme) {
  return std::make_unique<const DummyScheme>(std::move(scheme));
}

}  // namespace gale
