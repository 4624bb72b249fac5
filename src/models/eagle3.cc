// EAGLE-3 heads (arXiv:2503.01840), as github.com/SafeAILab/EAGLE's checkpoints have them.
#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "backend/kv_format.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "models/draft_head.h"
#include "models/model_source.h"
#include "models/target_output.h"
#include "nn/attention.h"
#include "nn/mlp.h"
#include "nn/rms_norm.h"
#include "nn/rotary_embedding.h"
#include "quant/quant_scheme.h"
#include "weights/json_file.h"
#include "weights/weight_loader.h"

namespace gale {
namespace {

/// What different training codes call the architecture.
const std::array<std::string, 3> kArchitectures = {"LlamaForCausalLMEagle3",
                                                   "Eagle3LlamaForCausalLM", "LlamaForCausalLM"};
constexpr char kLayerIds[] = "eagle_aux_hidden_state_layer_ids";

struct Eagle3Config {
  HfConfig decoder;
  int draft_vocab_size = 0;
  std::vector<int> captured;  ///< layers whose outputs are read
  /// The residual that the layer adds to is the normed state, not the state.
  bool norm_before_residual = false;
};

/// config.json names layers by what goes into them, and may leave them out.
Status ReadCaptured(const JsonObject& root, int target_layers, std::vector<int>& captured) {
  std::vector<int> ids = {2, target_layers / 2, target_layers - 3};
  std::optional<JsonValue> listed = root.Find(kLayerIds);
  if (const auto eagle = root.Find("eagle_config"); eagle && !listed) {
    GALE_ASSIGN_OR_RETURN(const JsonObject object, eagle->Object());
    listed = object.Find(kLayerIds);
  }
  if (listed) {
    ids.clear();
    GALE_RETURN_IF_ERROR(listed->ForEachItem([&](const JsonValue& item) -> Status {
      GALE_ASSIGN_OR_RETURN(const int64_t id, item.Int(1, target_layers - 1));
      ids.push_back(static_cast<int>(id));
      return {};
    }));
  }
  for (const int id : ids) captured.push_back(id - 1);
  if (captured.empty() || captured.front() < 0 || !std::ranges::is_sorted(captured) ||
      std::ranges::adjacent_find(captured) != captured.end()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{}: expected ascending layers from 1 to {} of the target",
                                 kLayerIds, target_layers - 1));
  }
  return {};
}

Status CheckFits(const std::string& folder, const HfConfig& head, const HfConfig& target) {
  const auto check = [&](const char* field, int got, int expected) -> Status {
    if (got == expected) return {};
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{}: this head is of another model: {} is {}, that of the target "
                                 "{}; give the head that was trained for it",
                                 folder, field, got, expected));
  };
  GALE_RETURN_IF_ERROR(check("hidden_size", head.hidden_size, target.hidden_size));
  GALE_RETURN_IF_ERROR(check("vocab_size", head.vocab_size, target.vocab_size));
  if (head.num_layers == 1) return {};
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{}: an EAGLE-3 head has one layer, got num_hidden_layers {}",
                               folder, head.num_layers));
}

Result<Eagle3Config> ReadEagle3Config(const std::string& folder, const HfConfig& target) {
  const std::string path = folder + "/config.json";
  GALE_ASSIGN_OR_RETURN(const MappedFile file, OpenJsonFile(path));
  Eagle3Config config;
  GALE_ASSIGN_OR_RETURN(config.decoder, ParseHfConfig(file.text(), path, kArchitectures));
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(file.text(), path));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  const auto draft_vocab = root.Find("draft_vocab_size");
  if (!draft_vocab && config.decoder.architecture == "LlamaForCausalLM") {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{}: expected an EAGLE-3 head, whose config.json has "
                                 "draft_vocab_size; a whole model is drafted from by "
                                 "--speculative draft:{}",
                                 folder, folder));
  }
  GALE_RETURN_IF_ERROR(CheckFits(folder, config.decoder, target));
  config.draft_vocab_size = config.decoder.vocab_size;
  if (draft_vocab) {
    GALE_ASSIGN_OR_RETURN(const int64_t size, draft_vocab->Int(1, config.decoder.vocab_size));
    config.draft_vocab_size = static_cast<int>(size);
  }
  if (const auto before = root.Find("norm_before_residual")) {
    GALE_ASSIGN_OR_RETURN(config.norm_before_residual, before->Bool());
  }
  GALE_RETURN_IF_ERROR(ReadCaptured(root, target.num_layers, config.captured));
  return config;
}

class Eagle3 final : public DraftHead {
 public:
  Eagle3(ParamBuilder& builder, const QuantScheme& scheme, const Eagle3Config& config,
         bool has_output)
      : config_(config),
        dtype_(builder.dtype()),
        numerics_(builder.numerics()),
        store_(builder.store()),
        vocabulary_(builder, config.draft_vocab_size < config.decoder.vocab_size ? "d2t" : "",
                    config.draft_vocab_size, /*is_offset=*/true, config.decoder.vocab_size),
        rotary_(builder, config.decoder.rope, config.decoder.rotary_dim),
        fc_(builder, scheme, std::ssize(config.captured) * int64_t{config.decoder.hidden_size},
            {{"fc", config.decoder.hidden_size}}, false),
        embedding_norm_(builder, "midlayer.input_layernorm", hidden(), eps()),
        hidden_norm_(builder, "midlayer.hidden_norm", hidden(), eps()),
        attention_(builder, scheme,
                   {.hidden = config.decoder.hidden_size,
                    .input = 2 * config.decoder.hidden_size,
                    .q_heads = config.decoder.num_heads,
                    .kv_heads = config.decoder.num_kv_heads,
                    .head_dim = config.decoder.head_dim,
                    .qkv_bias = config.decoder.attention_bias,
                    .o_bias = config.decoder.attention_bias,
                    .norm_eps = eps()},
                   rotary_, "midlayer.self_attn", 0, 0),
        feed_forward_norm_(builder, "midlayer.post_attention_layernorm", hidden(), eps()),
        mlp_(builder, scheme,
             {.hidden = hidden(),
              .intermediate = config.decoder.intermediate_size,
              .bias = config.decoder.mlp_bias,
              .activation = config.decoder.activation},
             "midlayer.mlp"),
        norm_(builder, "norm", hidden(), eps()) {
    if (has_output) {
      output_ = std::make_unique<Linear>(
          builder, scheme, hidden(),
          std::vector<LinearPart>{{std::string(kHeadName), config.draft_vocab_size}}, false);
    }
    builder.Ignore("t2d");                  // d2t the other way round
    builder.Ignore("embed_tokens.weight");  // the target's
  }

  std::vector<AttentionGroup> attention_groups() const override {
    AttentionSpec spec;
    spec.layers = 1;
    spec.q_heads = config_.decoder.num_heads;
    spec.kv_heads = config_.decoder.num_kv_heads;
    spec.head_dim = config_.decoder.head_dim;
    spec.scale = 1 / std::sqrt(static_cast<float>(config_.decoder.query_pre_attn_scalar));
    spec.dtype = dtype_;
    spec.kv = PlainKv(dtype_);
    spec.numerics = numerics_;
    return {{spec}};
  }
  std::span<const int> captured_layers() const override { return config_.captured; }
  DType dtype() const override { return dtype_; }
  int hidden_size() const override { return config_.decoder.hidden_size; }
  int vocab_size() const override { return vocabulary_.size(); }
  TensorView token_ids() const override { return vocabulary_.device_ids(); }
  size_t ScratchBytes(int tokens) const override {
    return ScratchArena::Bytes(dtype_, {tokens, 2 * hidden()}) +
           std::max(attention_.ScratchBytes(tokens), mlp_.ScratchBytes(tokens));
  }

  void Enter(ForwardContext& context, const TensorView& states,
             const TensorView& hidden) const override {
    fc_.Forward(context, states, hidden);
  }

  void Forward(ForwardContext& context, const ForwardBatch& batch, const TensorView& embedded,
               const TensorView& hidden) const override {
    const ScratchScope scope(*context.scratch);
    const int64_t width = this->hidden();
    const TensorView both = context.scratch->Take(dtype_, {hidden.dim(0), 2 * width});
    embedding_norm_.Forward(context, embedded, {}, both.Slice(1, 0, width));
    hidden_norm_.Forward(context, hidden, {}, both.Slice(1, width, 2 * width));
    if (config_.norm_before_residual) hidden_norm_.Forward(context, hidden, {}, hidden);
    const TensorView& x = embedded;  // which has been read
    attention_.Forward(context, {batch.positions, batch.attention[0].slot_mapping}, both, x);
    feed_forward_norm_.Forward(context, x, hidden, x);
    mlp_.Forward(context, x, x);
    norm_.Forward(context, x, hidden, x);
  }

  void ComputeLogits(ForwardContext& context, const TensorView& rows,
                     const TensorView& logits) const override {
    if (output_) return output_->Forward(context, rows, logits);
    target_output_->Forward(context, rows, logits);
  }

  const std::vector<int32_t>& draft_ids() const { return vocabulary_.ids(); }
  void UseOutput(std::unique_ptr<TargetOutput> output) { target_output_ = std::move(output); }

 private:
  int64_t hidden() const { return config_.decoder.hidden_size; }
  float eps() const { return static_cast<float>(config_.decoder.rms_norm_eps); }

  Eagle3Config config_;
  DType dtype_;
  Numerics numerics_;
  std::shared_ptr<WeightStore> store_;
  DraftVocabulary vocabulary_;
  RotaryEmbedding rotary_;
  Linear fc_;
  RmsNorm embedding_norm_;
  RmsNorm hidden_norm_;
  Attention attention_;
  RmsNorm feed_forward_norm_;
  Mlp mlp_;
  RmsNorm norm_;
  std::unique_ptr<Linear> output_;  ///< one of these two
  std::unique_ptr<TargetOutput> target_output_;
};

}  // namespace

Result<std::unique_ptr<DraftHead>> LoadEagle3(const DraftHeadOptions& options, Backend& backend) {
  GALE_ASSIGN_OR_RETURN(const ModelSource target, ReadModelSource(options.target));
  GALE_ASSIGN_OR_RETURN(const Eagle3Config config, ReadEagle3Config(options.folder, target.config));
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<const Checkpoint> checkpoint,
                        Checkpoint::Open(options.folder));
  GALE_ASSIGN_OR_RETURN(const std::unique_ptr<const QuantScheme> scheme,
                        MakeQuantScheme(config.decoder, checkpoint.get()));
  const bool has_output = checkpoint->Find(std::string(kHeadName) + ".weight") != nullptr;
  ParamBuilder builder(options.dtype, options.numerics);
  builder.AddAlias("midlayer.", "layers.0.");
  auto head = std::make_unique<Eagle3>(builder, *scheme, config, has_output);
  GALE_RETURN_IF_ERROR(LoadWeights(builder, std::move(checkpoint), backend, {}));
  if (!has_output) {
    GALE_ASSIGN_OR_RETURN(auto output,
                          TargetOutput::Load(options.target, head->draft_ids(), options.dtype,
                                             options.numerics, backend));
    head->UseOutput(std::move(output));
  }
  return head;
}

}  // namespace gale
