// How SentencePiece prepares text before it cuts it into pieces
// (github.com/google/sentencepiece, normalizer.cc).
#pragma once

#include <string>
#include <string_view>

#include "text/charsmap.h"
#include "text/token_trie.h"

namespace gale::text {

/// The settings of a model file, with SentencePiece's defaults.
struct SentencePieceNormalizer {
  Charsmap charsmap;
  TokenTrie kept;  ///< user-defined pieces, which no rule changes
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;  ///< at both ends, and runs become one
  bool escape_whitespaces = true;        ///< spaces become U+2581
  bool whitespace_as_suffix = false;     ///< the dummy stands at the end

  /// `text` must be valid UTF-8, and so is the result. Text behind a special token gets no dummy
  /// prefix: prompts are written with the spaces that they need.
  std::string Normalize(std::string_view text, bool at_text_start) const;

 private:
  /// What the front of `text` becomes; `size` is how many bytes that concerns.
  std::string_view FrontOf(std::string_view text, size_t* size) const;
};

}  // namespace gale::text
