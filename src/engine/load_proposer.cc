#include "engine/load_proposer.h"

#include <fmt/format.h>

#include "base/status_macros.h"
#include "models/draft_head.h"
#include "models/load_model.h"
#include "models/medusa_heads.h"
#include "models/model_source.h"
#include "runner/speculative/draft_model.h"
#include "runner/speculative/head_proposer.h"
#include "runner/speculative/medusa_proposer.h"
#include "runner/speculative/ngram_proposer.h"

namespace gale {
namespace {

/// Guesses from the text cost nothing to make, those of a model a step each.
constexpr int kNgramTokens = 15;
constexpr int kDraftTokens = 7;
constexpr int kEagleTokens = 7;
constexpr int kMtpTokens = 3;

Result<std::unique_ptr<DraftProposer>> LoadDraftModel(const EngineConfig& config,
                                                      const ModelInfo& target, Backend& backend) {
  GALE_ASSIGN_OR_RETURN(const std::string path,
                        ResolveModel(config.speculative.model, config.load_format));
  const LoadOptions options{.model = path,
                            .format = config.load_format,
                            .dtype = config.dtype,
                            .quantize = config.quantize,
                            .numerics = *config.numerics,
                            .seed = config.seed,
                            .max_model_len = config.max_model_len};
  GALE_ASSIGN_OR_RETURN(LoadedModel draft, LoadModel(options, backend));
  if (draft.model->vocab_size() != target.vocab_size) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("speculative: the draft model {} has {} tokens, the model itself {}; a draft "
                    "must have the same vocabulary",
                    config.speculative.model, draft.model->vocab_size(), target.vocab_size));
  }
  return std::make_unique<DraftModel>(std::move(draft.model));
}

/// Of a head that computes in the dtype of the target, whose states it reads.
Result<DraftHeadOptions> HeadOptions(const EngineConfig& config, const ModelInfo& target) {
  const DType stored = target.dtype == DTypeName(DType::kBf16) ? DType::kBf16 : DType::kF32;
  DraftHeadOptions options{.folder = config.model,
                           .target = config.model,
                           .dtype = ResolveDType(config.dtype, stored),
                           .numerics = *config.numerics};
  if (config.speculative.method != Speculation::kMtp) {
    GALE_ASSIGN_OR_RETURN(options.folder,
                          ResolveModel(config.speculative.model, config.load_format));
  }
  return options;
}

Result<std::unique_ptr<DraftProposer>> LoadHead(EngineConfig& config, const ModelInfo& target,
                                                Backend& backend) {
  SpeculativeConfig& speculative = config.speculative;
  GALE_ASSIGN_OR_RETURN(const DraftHeadOptions options, HeadOptions(config, target));
  if (speculative.method == Speculation::kMedusa) {
    GALE_ASSIGN_OR_RETURN(auto heads, MedusaHeads::Load(options, backend));
    if (speculative.max_tokens == 0) speculative.max_tokens = heads->num_heads();
    return std::make_unique<MedusaProposer>(std::move(heads));
  }
  const bool is_eagle = speculative.method == Speculation::kEagle;
  if (speculative.max_tokens == 0) speculative.max_tokens = is_eagle ? kEagleTokens : kMtpTokens;
  GALE_ASSIGN_OR_RETURN(auto head,
                        is_eagle ? LoadEagle3(options, backend) : LoadMtpLayer(options, backend));
  return std::make_unique<HeadProposer>(std::move(head));
}

}  // namespace

Result<std::unique_ptr<DraftProposer>> LoadProposer(EngineConfig& config, const ModelInfo& target,
                                                    Backend& backend) {
  SpeculativeConfig& speculative = config.speculative;
  if (speculative.method == Speculation::kAuto) speculative.method = Speculation::kNgram;
  switch (speculative.method) {
    case Speculation::kNgram:
      if (speculative.max_tokens == 0) speculative.max_tokens = kNgramTokens;
      return std::make_unique<NgramProposer>();
    case Speculation::kDraft:
      if (speculative.max_tokens == 0) speculative.max_tokens = kDraftTokens;
      return LoadDraftModel(config, target, backend);
    case Speculation::kEagle:
    case Speculation::kMedusa:
    case Speculation::kMtp: return LoadHead(config, target, backend);
    default: speculative.max_tokens = 0; return nullptr;
  }
}

}  // namespace gale
