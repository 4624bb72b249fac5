// bitsandbytes: NF4 (QLoRA, arXiv 2305.14314), 4-bit quantiles in blocks of 64 whose largest
// magnitudes may be quantized themselves, and LLM.int8 (arXiv 2208.07339), signed bytes with a
// scale for each output.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "quant/unpack.h"
#include "tensor/nf4.h"

namespace gale {
namespace {

constexpr std::string_view kStateSuffix = ".weight.quant_state.bitsandbytes__nf4";

/// The JSON that a checkpoint has beside each 4-bit weight.
struct Nf4State {
  int64_t block = 64;          ///< numbers that share a magnitude
  int64_t nested_block = 256;  ///< magnitudes that share theirs
  float nested_offset = 0;     ///< added to magnitudes
  bool is_nested = false;
};

class Nf4Layout : public LinearLayout {
 public:
  explicit Nf4Layout(const Nf4State& state) : state_(state) {}

  std::string Fault(const LinearShape& shape) const override {
    if (shape.in % state_.block == 0) return {};
    return fmt::format("expected inputs that blocks of {} divide, got {}", state_.block, shape.in);
  }

  QuantFormat Format(const LinearShape&) const override {
    return {.code = BlockCode::kScaled, .codes = CodeType::kNf4, .block = {.in = state_.block}};
  }

  std::vector<QuantParam> Params(const LinearShape& shape) const override {
    const int64_t blocks = shape.in * shape.out / state_.block;
    std::vector<QuantParam> params = {
        {".weight", {shape.in * shape.out / 2, 1}, DType::kU8},
        {".weight.quant_map", {16}, DType::kF32},
        {".weight.absmax", {blocks}, state_.is_nested ? DType::kU8 : DType::kF32}};
    if (state_.is_nested) {
      const int64_t nested = (blocks + state_.nested_block - 1) / state_.nested_block;
      params.push_back({".weight.nested_absmax", {nested}, DType::kF32});
      params.push_back({".weight.nested_quant_map", {256}, DType::kF32});
    }
    return params;
  }

  std::vector<std::string> Unused() const override { return {std::string(kStateSuffix)}; }

  Status Unpack(std::span<const RawParam> raw, LinearWeight& weight, ThreadPool&) const override {
    const auto* map = raw[1].view.As<const float>();
    if (!std::equal(kNf4.begin(), kNf4.end(), map)) {
      return WrongValue("weight.quant_map", "expected the 16 levels of NF4, got others");
    }
    GALE_RETURN_IF_ERROR(UnpackMagnitudes(raw.subspan(2), weight));
    // The first of two codes is the high half of a byte there.
    const auto* in = raw[0].view.As<const uint8_t>();
    auto* out = weight.data.As<uint8_t>();
    for (int64_t i = 0; i < weight.in * weight.out / 2; ++i) {
      out[i] = static_cast<uint8_t>(in[i] >> 4 | in[i] << 4);
    }
    return {};
  }

 private:
  Status UnpackMagnitudes(std::span<const RawParam> raw, const LinearWeight& weight) const {
    auto* scales = weight.scales.As<float>();
    for (int64_t i = 0; i < weight.scales.NumElements(); ++i) {
      if (state_.is_nested) {
        const uint8_t code = raw[0].view.As<const uint8_t>()[i];
        scales[i] = raw[2].view.As<const float>()[code] *
                        raw[1].view.As<const float>()[i / state_.nested_block] +
                    state_.nested_offset;
      } else {
        scales[i] = raw[0].view.As<const float>()[i];
      }
      if (std::isfinite(scales[i])) continue;
      return WrongValue("weight.absmax",
                        fmt::format("expected numbers, got {} at [{}]", scales[i], i));
    }
    return {};
  }

  Nf4State state_;
};

class Int8Layout : public LinearLayout {
 public:
  QuantFormat Format(const LinearShape&) const override {
    return {
        .code = BlockCode::kScaled, .codes = CodeType::kInt8, .activation = ActivationCode::kRow};
  }

  std::vector<QuantParam> Params(const LinearShape& shape) const override {
    return {{".weight", {shape.out, shape.in}, DType::kI8}, {".SCB", {shape.out}, DType::kF32}};
  }

  std::vector<std::string> Unused() const override { return {".weight_format"}; }

  Status Unpack(std::span<const RawParam> raw, LinearWeight& weight, ThreadPool&) const override {
    GALE_RETURN_IF_ERROR(CopyScales(raw[1], "SCB", Order::kSame, weight.scales));
    const std::span<float> scales(weight.scales.As<float>(), static_cast<size_t>(weight.out));
    for (float& scale : scales) scale /= 127;  // it is the largest magnitude
    std::memcpy(weight.data.data, raw[0].view.data, weight.data.Bytes());
    return {};
  }
};

class BitsAndBytesScheme : public QuantScheme {
 public:
  BitsAndBytesScheme(PlainLayers plain, std::unique_ptr<const LinearLayout> layout,
                     std::map<std::string, Nf4Layout, std::less<>> layouts)
      : plain_(std::move(plain)), layout_(std::move(layout)), layouts_(std::move(layouts)) {}

  const LinearLayout* LayoutOf(std::string_view layer) const override {
    const auto own = layouts_.find(layer);
    if (own != layouts_.end()) return &own->second;
    return plain_.Has(layer) ? nullptr : layout_.get();
  }

 private:
  PlainLayers plain_;
  std::unique_ptr<const LinearLayout> layout_;  ///< of layers that have none of their own
  std::map<std::string, Nf4Layout, std::less<>> layouts_;
};

Result<Nf4State> ReadState(const CheckpointTensor& tensor) {
  constexpr int64_t kMost = int64_t{1} << 20;
  const std::string_view text(reinterpret_cast<const char*>(tensor.data.data()),
                              tensor.data.size());
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(text, tensor.name));
  GALE_ASSIGN_OR_RETURN(const JsonObject object, document.root().Object());
  Nf4State state;
  GALE_ASSIGN_OR_RETURN(const JsonValue block, object.Get("blocksize"));
  GALE_ASSIGN_OR_RETURN(state.block, block.Int(2, kMost));
  if (state.block % 2 != 0) return tl::unexpected(block.Wrong("an even number"));
  const auto nested = object.Find("nested_blocksize");
  if (!nested) return state;
  state.is_nested = true;
  GALE_ASSIGN_OR_RETURN(state.nested_block, nested->Int(1, kMost));
  GALE_ASSIGN_OR_RETURN(const JsonValue offset, object.Get("nested_offset"));
  GALE_ASSIGN_OR_RETURN(const double number, offset.Number());
  state.nested_offset = static_cast<float>(number);
  return state;
}

Result<std::unique_ptr<const QuantScheme>> MakeNf4(const QuantSource& source) {
  if (const auto type = source.config.Find("bnb_4bit_quant_type")) {
    GALE_RETURN_IF_ERROR(Choice(*type, {"nf4"}));
  }
  if (const auto storage = source.config.Find("bnb_4bit_quant_storage")) {
    GALE_RETURN_IF_ERROR(Choice(*storage, {"uint8"}));
  }
  Nf4State usual;
  GALE_ASSIGN_OR_RETURN(usual.is_nested, BoolOr(source.config, "bnb_4bit_use_double_quant", false));
  std::map<std::string, Nf4Layout, std::less<>> layouts;
  const size_t tensors = source.checkpoint == nullptr ? 0 : source.checkpoint->tensors().size();
  for (size_t i = 0; i < tensors; ++i) {
    const CheckpointTensor& tensor = source.checkpoint->tensors()[i];
    if (!tensor.name.ends_with(kStateSuffix)) continue;
    GALE_ASSIGN_OR_RETURN(const Nf4State state, ReadState(tensor));
    const size_t length = tensor.name.size() - kStateSuffix.size();
    layouts.emplace(tensor.name.substr(0, length), Nf4Layout(state));
  }
  GALE_ASSIGN_OR_RETURN(PlainLayers plain, PlainLayers::Read(source, {"llm_int8_skip_modules"},
                                                             std::string(kStateSuffix)));
  plain.AddHead();
  return std::make_unique<const BitsAndBytesScheme>(
      std::move(plain), std::make_unique<const Nf4Layout>(usual), std::move(layouts));
}

Result<std::unique_ptr<const QuantScheme>> MakeBitsAndBytes(const QuantSource& source) {
  GALE_ASSIGN_OR_RETURN(const bool has_4_bits, BoolOr(source.config, "load_in_4bit", false));
  GALE_ASSIGN_OR_RETURN(const bool has_8_bits, BoolOr(source.config, "load_in_8bit", false));
  if (has_4_bits) return MakeNf4(source);
  if (!has_8_bits) {
    GALE_ASSIGN_OR_RETURN(const JsonValue missing, source.config.Get("load_in_4bit"));
    return tl::unexpected(NotSupported(missing, "true, or load_in_8bit to be"));
  }
  GALE_ASSIGN_OR_RETURN(PlainLayers plain,
                        PlainLayers::Read(source, {"llm_int8_skip_modules"}, ".SCB"));
  plain.AddHead();
  return std::make_unique<const BitsAndBytesScheme>(
      std::move(plain), std::make_unique<const Int8Layout>(),
      std::map<std::string, Nf4Layout, std::less<>>());
}

const bool registered = RegisterQuantScheme("bitsandbytes", MakeBitsAndBytes);

}  // namespace
}  // namespace gale
