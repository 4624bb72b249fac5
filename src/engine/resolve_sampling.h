// What remains of a request's sampling parameters to check and to look up once the model is known.
// Layer L5; called by LlmEngine::AddRequest.
#pragma once

#include "gale/model_info.h"
#include "gale/sampling_params.h"
#include "gale/tokenizer.h"

namespace gale {

/// `sampling`, which is valid by itself, with the texts of bad_words and dry_breakers as tokens.
/// `tokenizer` may be null.
/// Errors: kInvalidArgument for ids out of the vocabulary, for texts without a tokenizer, when
/// nothing is left to generate.
Result<SamplingParams> ResolveSampling(SamplingParams sampling, const ModelInfo& info,
                                       const Tokenizer* tokenizer);

/// Errors: kInvalidArgument naming `what`.
Status CheckTokenId(std::string_view what, TokenId token, int vocab_size);

}  // namespace gale
