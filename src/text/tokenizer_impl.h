// The parts of a tokenizer, in the order in which text passes them.
#pragma once

#include <memory>

#include "gale/tokenizer.h"
#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/sentencepiece.h"
#include "text/token_model.h"
#include "text/tokenizer_config.h"

namespace gale {

struct Tokenizer::Impl {
  /// "truncation" of tokenizer.json.
  struct Truncation {
    size_t max_length;  ///< tokens, with what the post-processor adds
    bool keeps_end;     ///< else the begin
  };

  text::AddedTokens added_tokens;
  text::Normalizer normalizer;
  text::PreTokenizer pre_tokenizer;
  std::unique_ptr<text::TokenModel> model;
  text::PostProcessor post_processor;
  text::Decoder decoder;
  std::optional<Truncation> truncation;
  int vocab_size = 0;

  /// With `cache`, the model's vocabulary and merges come from there.
  static Result<std::unique_ptr<Impl>> Parse(const JsonObject& file,
                                             text::CacheReader* cache = nullptr);
  /// Parses the text of a tokenizer.json, or loads what an earlier run has kept of it.
  static Result<std::unique_ptr<Impl>> ParseCached(std::string_view json);
  static Result<std::unique_ptr<Impl>> FromSentencePiece(std::string_view file,
                                                         text::TokenizerConfig config);
  static Result<std::unique_ptr<Impl>> FromSentencePiece(text::SentencePieceModel model,
                                                         text::TokenizerConfig config);
  static Result<std::unique_ptr<Impl>> FromGguf(const std::string& path);
  static Result<std::unique_ptr<Impl>> FromTiktoken(std::string_view file,
                                                    std::string_view file_name,
                                                    text::TokenizerConfig config);
  static Result<std::unique_ptr<Impl>> FromVocabularyAndMerges(std::string_view vocabulary_json,
                                                               std::string_view merges_text,
                                                               const text::TokenizerConfig& config);

  /// Appends the ids of valid UTF-8 text. Special tokens spelled out in it count outside `plain`,
  /// which is sorted and does not overlap.
  void Encode(std::string_view text, std::span<const TextSpan> plain, int threads,
              std::vector<TokenId>* ids) const;
  /// What `id` is spelled as for the decoder; empty when it is to be skipped.
  std::optional<std::string_view> Spelling(TokenId id, bool skip_special) const;

  /// Cuts `ids`, to which `num_added` special tokens will come.
  void Truncate(size_t num_added, std::vector<TokenId>* ids) const;

 private:
  static Result<std::unique_ptr<Impl>> Load(const text::LoadCache& cache);
  Status ParseTruncation(const JsonValue& value);
  /// What follows from the parts; the last step of loading.
  void FinishLoading();
  /// Puts the configured BOS and EOS around texts; the flags are for when it does not tell.
  void AddEnds(const text::TokenizerConfig& config, bool add_bos, bool add_eos);
  void EncodeNormalized(std::string normalized, std::span<const TextSpan> plain, bool at_text_start,
                        int threads, std::vector<TokenId>* ids) const;
  /// Appends the ids of normalized text without added tokens.
  void EncodePlain(std::string_view text, bool at_text_start, int threads,
                   std::vector<TokenId>* ids) const;
  /// The first place behind `num_bytes` from `begin` where the text can be cut.
  size_t EndOfBlock(std::string_view text, size_t begin, size_t num_bytes) const;
  void EncodeBlock(std::string_view block, bool at_text_start, std::vector<TokenId>* ids) const;
};

}  // namespace gale
