// Text to token ids and back.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gale/sampling_params.h"
#include "gale/status.h"

namespace gale {

struct EncodeOptions {
  bool add_special_tokens = true;  ///< what the post-processor adds, such as BOS
  bool parse_special = false;  ///< special tokens spelled out in the text become their ids; off:
                               ///< they stay text
  int threads = 1;             ///< at most; texts of megabytes are cut where that changes no id
  bool truncate = false;  ///< cuts to what "truncation" of tokenizer.json allows, if it has one
};

/// A stretch of a rendered prompt that came from the user: special tokens in it stay plain text.
struct TextSpan {
  size_t begin = 0;  ///< byte offsets, half open
  size_t end = 0;
};

/// Immutable after loading; every method may be called from any thread.
class Tokenizer {
 public:
  /// Reads what a model folder has, in this order: tokenizer.json, which alone decides, as in the
  /// `tokenizers` library; vocab.json with merges.txt; SentencePiece's tokenizer.model; a tiktoken
  /// file. The latter three go by tokenizer_config.json for special tokens. A large tokenizer.json
  /// is kept in $XDG_CACHE_HOME/gale (or ~/.cache/gale) in a form that loads ten times as fast,
  /// unless GALE_TOKENIZER_CACHE is "off".
  /// Errors: kNotFound naming what was looked for, kDataCorrupt naming the place at fault,
  /// kUnsupported naming the part.
  static Result<std::unique_ptr<Tokenizer>> FromFolder(const std::string& folder);
  static Result<std::unique_ptr<Tokenizer>> FromJson(std::string_view tokenizer_json);
  /// Reads a SentencePiece model, which begins texts with its BOS, or else ends them with its EOS.
  static Result<std::unique_ptr<Tokenizer>> FromSentencePiece(std::string_view model_file);

  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  ~Tokenizer();

  /// Any bytes are accepted; invalid UTF-8 is read as U+FFFD.
  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// Encodes a rendered chat prompt: special tokens are recognized except inside `user_spans`.
  std::vector<TokenId> EncodePrompt(std::string_view text,
                                    std::span<const TextSpan> user_spans) const;
  /// Ids outside the vocabulary are skipped.
  std::string Decode(std::span<const TokenId> tokens, bool skip_special = true) const;

  int vocab_size() const;  ///< largest id + 1, added tokens included
  std::optional<TokenId> TokenToId(std::string_view token) const;
  std::string_view IdToToken(TokenId id) const;  ///< the vocabulary's own spelling; "" when unknown
  /// What the token adds to a text behind others; it may be a part of a character. "" for unknown
  /// ids.
  std::string TokenBytes(TokenId id) const;
  bool IsSpecial(TokenId id) const;

 private:
  friend class IncrementalDetokenizer;
  struct Impl;
  static Result<std::unique_ptr<Tokenizer>> FromJsonFile(const std::string& path);
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Turns a growing token sequence into text that never ends inside a character. Movable; belongs to
/// one sequence, and its tokenizer must outlive it. Cost: amortized O(1) per token.
class IncrementalDetokenizer {
 public:
  explicit IncrementalDetokenizer(const Tokenizer& tokenizer, bool skip_special = true);
  IncrementalDetokenizer(IncrementalDetokenizer&& other) noexcept;
  IncrementalDetokenizer& operator=(IncrementalDetokenizer&& other) noexcept;
  ~IncrementalDetokenizer();

  /// The text that `token` completes; may be empty. Concatenated with Flush() it equals Decode() of
  /// all. Vocabularies with byte fallback hold a run of byte tokens back until it ends, because one
  /// wrong byte turns the whole run into U+FFFD there.
  std::string Push(TokenId token);
  /// What is left when the sequence ends; an unfinished character becomes U+FFFD. Starts over.
  std::string Flush();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gale
