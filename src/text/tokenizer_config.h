// What the files beside a vocabulary say about it: tokenizer_config.json and added_tokens.json.
// tokenizer.json needs neither.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gale/status.h"
#include "text/added_tokens.h"

namespace gale::text {

/// The largest file of the field has about 35 MB.
inline constexpr size_t kMaxTokenizerFileBytes = 512 << 20;

struct TokenizerConfig {
  std::string tokenizer_class;  ///< "Qwen2Tokenizer"; empty when not told
  std::optional<bool> add_bos_token, add_eos_token;
  bool add_prefix_space = false;
  std::string bos_token, eos_token;         ///< spellings; empty when not told
  std::vector<std::string> special_tokens;  ///< "additional_special_tokens" and those two
  std::vector<AddedToken> added_tokens;

  /// Files that are not there say nothing. Errors: kDataCorrupt.
  static Result<TokenizerConfig> FromFolder(const std::string& folder);
};

/// The bytes of a file. Errors: kNotFound; kDataCorrupt for files too large to be a vocabulary.
Result<std::string> ReadTextFile(const std::string& path);

}  // namespace gale::text
