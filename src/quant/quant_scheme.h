// How checkpoints store the weights of linear layers: the only place that knows a quantization
// format's tensor names and bit order. Layer L2 of the compute column; used by nn/.
// A new format is one file beside awq.cc that registers itself.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "gale/engine_config.h"
#include "gale/status.h"
#include "weights/checkpoint.h"
#include "weights/hf_config.h"
#include "weights/param_builder.h"

namespace gale {

struct LinearShape {
  int64_t in = 0;
  int64_t out = 0;
  DType dtype = DType::kBf16;  ///< the model's; plain weights take it
  int groups = 1;              ///< as in Linear: stacked in one tensor, where formats stack them
};

/// One tensor of a linear layer in the checkpoint.
struct QuantParam {
  std::string suffix;  ///< after the layer's name, ".qweight"
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  bool is_optional = false;  ///< files may lack it; its RawParam is then empty
};

/// How a checkpoint stores a layer whose weight is not one plain tensor [out, in].
class LinearLayout {
 public:
  virtual ~LinearLayout() = default;
  /// What is wrong with a layer of this shape; empty when nothing is.
  virtual std::string Fault(const LinearShape&) const { return {}; }
  /// What Unpack makes of it, but that a permutation may turn out to be none.
  virtual QuantFormat Format(const LinearShape& shape) const = 0;
  virtual std::vector<QuantParam> Params(const LinearShape& shape) const = 0;
  /// Suffixes of tensors that the layer may have and nobody needs.
  virtual std::vector<std::string> Unused() const { return {}; }
  /// Fills in `weight`, which is of Format and may be some outputs of a larger one, from `raw`, the
  /// tensors of Params in order.
  /// Errors: kDataCorrupt saying what is wrong in which tensor, without the layer's name.
  virtual Status Unpack(std::span<const RawParam> raw, LinearWeight& weight,
                        ThreadPool& threads) const = 0;
};

/// A checkpoint's way of storing, with the parameters that its quantization_config gives.
class QuantScheme {
 public:
  virtual ~QuantScheme() = default;
  /// Null for a layer whose weight is the plain tensor ".weight". Lives as long as this.
  virtual const LinearLayout* LayoutOf(std::string_view) const { return nullptr; }
  /// What the plain weight of the layer called so is made into while it loads; of BlockCode::kNone
  /// when it stays as it is.
  virtual QuantFormat MadeInto(const LinearShape&, std::string_view) const { return {}; }
};

/// The layer that makes the logits, also where its weight is the embedding table.
inline constexpr std::string_view kHeadName = "lm_head";

/// Nothing but plain tensors, or ggml's blocks in GGUF files.
const QuantScheme& PlainScheme();
/// Plain tensors that are quantized while they load.
std::unique_ptr<const QuantScheme> MakeOnLoadScheme(LoadQuantization quantize);
/// Plain tensors that are made into what `scheme` reads: for dummy weights.
std::unique_ptr<const QuantScheme> MakeDummyScheme(std::unique_ptr<const QuantScheme> scheme);

/// What a scheme is made from.
struct QuantSource {
  JsonObject config;                       ///< quantization_config
  const Checkpoint* checkpoint = nullptr;  ///< null: dummy weights
};
/// Errors: kDataCorrupt, kUnsupported naming the field, what is supported and what is there.
using QuantSchemeFactory = Result<std::unique_ptr<const QuantScheme>> (*)(const QuantSource&);

/// Called by static initializers with a quantization_config.quant_method; a duplicate is fatal.
bool RegisterQuantScheme(std::string_view method, QuantSchemeFactory factory);
std::vector<std::string> QuantSchemeNames();  ///< sorted
/// Of config.quant_method. Errors: kUnsupported, listing the known methods; those of the factory.
Result<std::unique_ptr<const QuantScheme>> MakeQuantScheme(const HfConfig& config,
                                                           const Checkpoint* checkpoint);

}  // namespace gale
