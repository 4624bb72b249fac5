// The vocabulary files of tiktoken: lines of a token's bytes in base64 and its rank, which is its
// id too (github.com/openai/tiktoken, load.py).
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gale/sampling_params.h"
#include "gale/status.h"
#include "text/vocabulary.h"

namespace gale::text {

/// What such a file does not tell.
struct TiktokenEncoding {
  std::string_view name;             ///< "cl100k_base"
  std::string_view pattern;          ///< what cuts text into words
  std::vector<std::string> special;  ///< of ids from the first one behind the ranks; "" are left
                                     ///< out
  std::string_view bos;              ///< what a text begins with; empty for nothing
};

/// The encoding of a file by its name ("cl100k_base.tiktoken"), else by what "tokenizer_class"
/// says, else by the number of its tokens, which tells those of the field apart.
/// Errors: kUnsupported naming those that are known.
Result<TiktokenEncoding> FindTiktokenEncoding(std::string_view file_name,
                                              std::string_view tokenizer_class, int num_tokens);

/// Reads the tokens, in byte-level spelling. Errors: kDataCorrupt naming the line.
Result<Vocabulary> ParseTiktokenRanks(std::string_view text);

/// Whether `text` is such a file, and not SentencePiece's, for both are named tokenizer.model.
bool LooksLikeTiktoken(std::string_view text);

}  // namespace gale::text
