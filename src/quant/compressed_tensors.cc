// The container of llm-compressor: groups of layers, named by class, name or expression, each with
// a description of weights and activations in place of a method's name.
#include <fmt/format.h>

#include "base/status_macros.h"
#include "quant/fp8_layout.h"
#include "quant/integer_layout.h"
#include "quant/unpack.h"

namespace gale {
namespace {

struct Group {
  LayerFilter targets;
  bool has_all = false;  ///< the class of all linear layers is a target
  std::unique_ptr<const LinearLayout> layout;
};

class CompressedTensorsScheme : public QuantScheme {
 public:
  CompressedTensorsScheme(const Checkpoint* checkpoint, LayerFilter ignored,
                          std::vector<Group> groups)
      : checkpoint_(checkpoint), ignored_(std::move(ignored)), groups_(std::move(groups)) {}

  const LinearLayout* LayoutOf(std::string_view layer) const override {
    if (IsPlainInFile(layer) || (!IsQuantizedInFile(layer) && ignored_.Has(layer))) return nullptr;
    for (const Group& group : groups_) {
      if (group.targets.Has(layer)) return group.layout.get();
    }
    for (const Group& group : groups_) {
      if (group.has_all) return group.layout.get();
    }
    return nullptr;
  }

 private:
  bool IsQuantizedInFile(std::string_view layer) const {
    return checkpoint_ != nullptr &&
           checkpoint_->Find(fmt::format("{}.weight_scale", layer)) != nullptr;
  }
  bool IsPlainInFile(std::string_view layer) const {
    if (checkpoint_ == nullptr || IsQuantizedInFile(layer)) return false;
    const CheckpointTensor* weight = checkpoint_->Find(fmt::format("{}.weight", layer));
    return weight != nullptr && weight->dtype &&
           (*weight->dtype == DType::kBf16 || *weight->dtype == DType::kF16 ||
            *weight->dtype == DType::kF32);
  }

  const Checkpoint* checkpoint_;
  LayerFilter ignored_;
  std::vector<Group> groups_;
};

/// How rows are rounded, of the members of "input_activations", or kNone where a kernel of that
/// kind cannot be had from the few that ActivationCode names: rows then stay exact.
Result<ActivationCode> ReadActivations(const JsonObject& group) {
  const auto value = group.Find("input_activations");
  if (!value) return ActivationCode::kNone;
  GALE_ASSIGN_OR_RETURN(const JsonObject activations, value->Object());
  GALE_ASSIGN_OR_RETURN(const bool is_symmetric, BoolOr(activations, "symmetric", true));
  bool is_dynamic = false;
  if (const auto dynamic = activations.Find("dynamic")) {
    if (!dynamic->is_bool()) return ActivationCode::kNone;  // "local": of NVFP4
    GALE_ASSIGN_OR_RETURN(is_dynamic, dynamic->Bool());
  }
  if (!is_symmetric) return ActivationCode::kNone;
  GALE_ASSIGN_OR_RETURN(const std::string_view strategy,
                        StringOr(activations, "strategy", "tensor"));
  if (!is_dynamic) {
    return strategy == "tensor" ? ActivationCode::kTensor : ActivationCode::kNone;
  }
  return strategy == "group" ? ActivationCode::kGroup : ActivationCode::kRow;
}

struct WeightOptions {
  JsonObject object;
  std::string_view type;
  std::string_view strategy;
  int64_t bits = 0;
};

Result<std::unique_ptr<const LinearLayout>> MakeFloat(const WeightOptions& weights,
                                                      ActivationCode activation) {
  GALE_RETURN_IF_ERROR(OneOf(*weights.object.Get("num_bits"), {8}));
  Fp8Options options = {.activation = activation};
  if (weights.strategy == "channel") options.scales = Fp8Scales::kOutput;
  if (weights.strategy == "block") {
    options.scales = Fp8Scales::kBlock;
    GALE_ASSIGN_OR_RETURN(const JsonValue structure, weights.object.Get("block_structure"));
    GALE_ASSIGN_OR_RETURN(options.block, BlockSize(structure));
  }
  return std::make_unique<const Fp8Layout>(options);
}

Result<std::unique_ptr<const LinearLayout>> MakeInteger(const WeightOptions& weights,
                                                        ActivationCode activation, bool is_packed) {
  const JsonObject& object = weights.object;
  IntegerOptions options = {.bits = static_cast<int>(weights.bits),
                            .is_packed = is_packed,
                            .is_per_tensor = weights.strategy == "tensor",
                            .activation = activation};
  if (is_packed) {
    GALE_RETURN_IF_ERROR(OneOf(*object.Get("num_bits"), {4, 8}));
  } else {
    GALE_RETURN_IF_ERROR(OneOf(*object.Get("num_bits"), {8}));
  }
  GALE_ASSIGN_OR_RETURN(options.is_symmetric, BoolOr(object, "symmetric", true));
  if (weights.strategy == "group") {
    GALE_ASSIGN_OR_RETURN(const JsonValue size, object.Get("group_size"));
    GALE_ASSIGN_OR_RETURN(options.group, GroupSize(size, 8));
  }
  if (const auto order = object.Find("actorder"); order && order->is_string()) {
    GALE_ASSIGN_OR_RETURN(const std::string_view kind,
                          Choice(*order, {"group", "weight", "static", "dynamic"}));
    options.has_order = kind == "group" || kind == "dynamic";
  }
  return std::make_unique<const IntegerLayout>(options);
}

/// `format` of the group, or the whole file's.
Result<std::unique_ptr<const LinearLayout>> MakeLayout(const JsonObject& group,
                                                       const JsonValue& file_format) {
  GALE_ASSIGN_OR_RETURN(const JsonValue value, group.Get("weights"));
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value.Object());
  WeightOptions weights = {object, {}, {}, 0};
  GALE_ASSIGN_OR_RETURN(const JsonValue bits, object.Get("num_bits"));
  GALE_ASSIGN_OR_RETURN(weights.bits, bits.Int());
  GALE_ASSIGN_OR_RETURN(const JsonValue type, object.Get("type"));
  GALE_ASSIGN_OR_RETURN(weights.type, Choice(type, {"int", "float"}));
  GALE_ASSIGN_OR_RETURN(const JsonValue strategy, object.Get("strategy"));
  const std::vector<std::string_view> known =
      weights.type == "int" ? std::vector<std::string_view>{"tensor", "channel", "group"}
                            : std::vector<std::string_view>{"tensor", "channel", "block"};
  GALE_ASSIGN_OR_RETURN(weights.strategy, Choice(strategy, known));
  GALE_ASSIGN_OR_RETURN(const ActivationCode activation, ReadActivations(group));
  const JsonValue format_value = group.Find("format").value_or(file_format);
  GALE_ASSIGN_OR_RETURN(const std::string_view format,
                        Choice(format_value, {"pack-quantized", "int-quantized", "float-quantized",
                                              "naive-quantized"}));
  if (weights.type == "float") return MakeFloat(weights, activation);
  return MakeInteger(weights, activation, format == "pack-quantized");
}

Result<Group> MakeGroup(const JsonValue& value, const JsonValue& file_format) {
  Group group;
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value.Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue targets, object.Get("targets"));
  GALE_RETURN_IF_ERROR(targets.ForEachItem([&](const JsonValue& item) -> Status {
    GALE_ASSIGN_OR_RETURN(const std::string_view name, item.String());
    group.has_all |= name == "Linear";
    return group.targets.Add(name, item);
  }));
  GALE_ASSIGN_OR_RETURN(group.layout, MakeLayout(object, file_format));
  return group;
}

Result<std::unique_ptr<const QuantScheme>> MakeCompressedTensors(const QuantSource& source) {
  const JsonObject& config = source.config;
  if (const auto sparsity = config.Find("sparsity_config")) {
    GALE_ASSIGN_OR_RETURN(const JsonObject members, sparsity->Object());
    if (const auto kind = members.Find("format")) GALE_RETURN_IF_ERROR(Choice(*kind, {"dense"}));
  }
  LayerFilter ignored;
  if (const auto ignore = config.Find("ignore")) {
    GALE_RETURN_IF_ERROR(ignored.AddAll(*ignore));
  }
  GALE_ASSIGN_OR_RETURN(const JsonValue format, config.Get("format"));
  GALE_ASSIGN_OR_RETURN(const JsonValue groups, config.Get("config_groups"));
  GALE_ASSIGN_OR_RETURN(const JsonObject object, groups.Object());
  std::vector<Group> made;
  GALE_RETURN_IF_ERROR(object.ForEach([&](std::string_view, const JsonValue& value) -> Status {
    GALE_ASSIGN_OR_RETURN(made.emplace_back(), MakeGroup(value, format));
    return {};
  }));
  return std::make_unique<const CompressedTensorsScheme>(source.checkpoint, std::move(ignored),
                                                         std::move(made));
}

const bool registered = RegisterQuantScheme("compressed-tensors", MakeCompressedTensors);

}  // namespace
}  // namespace gale
