// generation_config.json of a Hugging Face checkpoint as a typed struct. Layer L2 of the compute
// column; read once, by models/.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "gale/sampling_params.h"
#include "gale/status.h"

namespace gale {

/// What the model's authors advise.
struct GenerationConfig {
  SamplingParams sampling;             ///< fields the file leaves out keep SamplingParams' defaults
  std::vector<TokenId> eos_token_ids;  ///< empty when the file names none
};

/// Parses generation_config.json's text: temperature, top_k, top_p, min_p, typical_p, do_sample,
/// repetition_penalty, bad_words_ids, min_new_tokens, max_new_tokens, eos_token_id. Beams are not
/// taken over: who wants no stream of tokens says so. Ids are checked against `vocab_size`.
/// Errors: kDataCorrupt naming the field, what was expected and what was found.
Result<GenerationConfig> ParseGenerationConfig(std::string_view json, const std::string& source,
                                               int vocab_size);

/// A member that is a token id or an array of them; empty when there is none.
Result<std::vector<TokenId>> ParseTokenIds(const JsonObject& root, std::string_view key,
                                           int vocab_size);

}  // namespace gale
