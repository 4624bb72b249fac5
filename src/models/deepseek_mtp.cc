// DeepSeek-V3's layer for the token after the next (arXiv:2412.19437, section 2.2), which its
// checkpoints hold behind the last layer.
#include <algorithm>

#include <fmt/format.h>

#include "backend/kv_format.h"
#include "base/status_macros.h"
#include "models/deepseek_v3.h"
#include "models/draft_head.h"
#include "models/model_source.h"
#include "nn/linear.h"
#include "nn/mla_attention.h"
#include "nn/rms_norm.h"
#include "nn/rotary_embedding.h"
#include "quant/quant_scheme.h"
#include "weights/weight_loader.h"

namespace gale {
namespace {

class DeepseekMtp final : public DraftHead {
 public:
  /// `config` with one layer more than the target, which is this one.
  DeepseekMtp(ParamBuilder& builder, const QuantScheme& scheme, const HfConfig& config)
      : config_(config),
        dtype_(builder.dtype()),
        numerics_(builder.numerics()),
        store_(builder.store()),
        name_(fmt::format("model.layers.{}", config.num_layers - 1)),
        rotary_(builder, config.rope, config.rotary_dim),
        embedding_norm_(builder, name_ + ".enorm", config.hidden_size, eps()),
        hidden_norm_(builder, name_ + ".hnorm", config.hidden_size, eps()),
        joined_(builder, scheme, 2 * int64_t{config.hidden_size},
                {{name_ + ".eh_proj", config.hidden_size}}, false),
        layer_(builder, scheme, config, DeepseekV3Traits(config), rotary_,
               {.index = config.num_layers - 1}),
        norm_(builder, name_ + ".shared_head.norm", config.hidden_size, eps()) {
    builder.IgnorePrefix("");  // the target's, and copies of its embedding and output matrix
  }

  std::vector<AttentionGroup> attention_groups() const override {
    AttentionSpec spec = MlaAttention::Spec(config_.mla, config_.num_heads, config_.rope);
    spec.layers = 1;
    spec.dtype = dtype_;
    spec.kv = PlainKv(dtype_);
    spec.numerics = numerics_;
    return {{spec}};
  }
  DType dtype() const override { return dtype_; }
  int hidden_size() const override { return config_.hidden_size; }
  size_t ScratchBytes(int tokens) const override {
    return ScratchArena::Bytes(dtype_, {tokens, 2 * int64_t{config_.hidden_size}}) +
           layer_.ScratchBytes(tokens);
  }

  void Enter(ForwardContext& context, const TensorView& states,
             const TensorView& hidden) const override {
    context.backend->Copy(*context.stream, hidden.data, states.data, hidden.Bytes());
  }

  void Forward(ForwardContext& context, const ForwardBatch& batch, const TensorView& embedded,
               const TensorView& hidden) const override {
    const ScratchScope scope(*context.scratch);
    const int64_t width = config_.hidden_size;
    const TensorView both = context.scratch->Take(dtype_, {hidden.dim(0), 2 * width});
    embedding_norm_.Forward(context, embedded, {}, both.Slice(1, 0, width));
    hidden_norm_.Forward(context, hidden, {}, both.Slice(1, width, 2 * width));
    joined_.Forward(context, both, hidden);
    const TensorView& x = embedded;  // which has been read
    layer_.Forward(context, {batch.positions, batch.attention[0].slot_mapping}, hidden, x);
    norm_.Forward(context, x, hidden, x);
  }

 private:
  float eps() const { return static_cast<float>(config_.rms_norm_eps); }

  HfConfig config_;
  DType dtype_;
  Numerics numerics_;
  std::shared_ptr<WeightStore> store_;
  std::string name_;
  RotaryEmbedding rotary_;
  RmsNorm embedding_norm_;
  RmsNorm hidden_norm_;
  Linear joined_;
  DecoderLayer layer_;
  RmsNorm norm_;
};

}  // namespace

Result<std::unique_ptr<DraftHead>> LoadMtpLayer(const DraftHeadOptions& options, Backend& backend) {
  GALE_ASSIGN_OR_RETURN(ModelSource target, ReadModelSource(options.target));
  HfConfig& config = target.config;
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<const Checkpoint> checkpoint,
                        Checkpoint::Open(options.folder));
  const std::string joined = fmt::format("model.layers.{}.eh_proj.weight", config.num_layers);
  if (config.architecture != "DeepseekV3ForCausalLM" || checkpoint->Find(joined) == nullptr) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{}: this model has no layer for multi-token prediction: expected "
                                 "DeepseekV3ForCausalLM with {}, got {}; choose another way to "
                                 "speculate",
                                 options.folder, joined, config.architecture));
  }
  GALE_ASSIGN_OR_RETURN(const std::unique_ptr<const QuantScheme> scheme,
                        MakeQuantScheme(config, checkpoint.get()));
  ++config.num_layers;
  config.moe.is_sparse.push_back(true);
  ParamBuilder builder(options.dtype, options.numerics);
  auto head = std::make_unique<DeepseekMtp>(builder, *scheme, config);
  GALE_RETURN_IF_ERROR(LoadWeights(builder, std::move(checkpoint), backend, {}));
  return head;
}

}  // namespace gale
