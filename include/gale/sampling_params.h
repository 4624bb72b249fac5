// How the next token is chosen and when generation stops. Part of a request; immutable once added.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gale/speculative.h"
#include "gale/status.h"

namespace gale {

using TokenId = int32_t;

struct LogitBias {
  TokenId token = 0;
  float bias = 0;  ///< [-100, 100]
};

/// When beam search ends, once it has found num_beams texts.
enum class EarlyStopping {
  kNo,     ///< when no beam can beat the worst of them, if it ended now
  kYes,    ///< at once
  kNever,  ///< when no beam can beat the worst of them, however it goes on
};

/// docs/decoding.md has the formulas. Everything applies in this order:
///   on logits:        repetition, presence and frequency penalty; DRY; logit_bias; min_tokens, bad
///                     words; allowed_token_ids
///   on what is left:  temperature, top-n-sigma, top-k, typical-p, top-p, min-p, XTC, mirostat;
///   then
///                     one draw
struct SamplingParams {
  float temperature = 1.0F;  ///< 0 = greedy; [0, 10000]
  int top_k = 0;             ///< keep the k likeliest tokens; 0 = off
  float top_p = 1.0F;        ///< nucleus: smallest set with mass >= top_p; (0, 1], 1 = off
                             ///< (arXiv:1904.09751)
  float min_p = 0.0F;        ///< drop tokens under min_p * max probability; [0, 1], 0 = off
                             ///< (arXiv:2407.01082)
  float typical_p = 1.0F;    ///< smallest set of mass >= typical_p whose surprise is closest to the
                             ///< entropy; (0, 1], 1 = off (arXiv:2202.00666)
  float top_n_sigma = 0.0F;  ///< keep logits within so many standard deviations of the largest;
                             ///< >= 0, 0 = off (arXiv:2411.07641)
  float xtc_probability = 0.0F;  ///< chance per token that the likeliest are excluded; [0, 1]
  float xtc_threshold = 0.1F;    ///< ... all that reach it, but the least likely of them; [0, 1]
  int mirostat = 0;              ///< 2: version 2 keeps the surprise near a target; 0 = off
                                 ///< (arXiv:2007.14966)
  float mirostat_tau = 5.0F;     ///< that target, in bits; > 0
  float mirostat_eta = 0.1F;     ///< learning rate; > 0
  std::optional<uint64_t> seed;  ///< same seed, prompt and parameters: same tokens; unset = drawn
                                 ///< per request

  float repetition_penalty = 1.0F;  ///< divides positive logits of tokens in prompt or text, and
                                    ///< multiplies negative ones; (0, 100], 1 = off
                                    ///< (arXiv:1909.05858)
  float presence_penalty = 0.0F;    ///< off the logits of generated tokens; [-2, 2]
  float frequency_penalty = 0.0F;   ///< the same, for each time; [-2, 2]
  float dry_multiplier = 0.0F;      ///< DRY: a token that would continue a repeated run of m tokens
                                    ///< loses multiplier * base^(m - allowed_length); >= 0, 0 = off
  float dry_base = 1.75F;           ///< [1, 10]
  int dry_allowed_length = 2;       ///< runs shorter than this are free; >= 1
  int dry_range = 0;                ///< last tokens that are looked at; 0 = all
  std::vector<std::string> dry_breakers = {"\n", ":", "\"", "*"};  ///< no run goes over these
  std::vector<TokenId> dry_breaker_ids;                            ///< nor over these; at most 64

  std::vector<LogitBias> logit_bias;       ///< at most 1000, of different tokens
  std::vector<TokenId> allowed_token_ids;  ///< nothing else is generated; empty = all may be
  std::vector<std::string> bad_words;      ///< texts that are not generated, tokenized with and
                                           ///< without a space before them
  std::vector<std::vector<TokenId>> bad_token_ids;  ///< the same as token sequences; with bad_words
                                                    ///< at most 256 sequences, of 1024 tokens
  int min_tokens = 0;  ///< no end token is generated before so many others, and no stop string
                       ///< ends in their text; [0, max_tokens]

  int n = 1;                    ///< independent samples of one prompt; [1, 1024]
  std::optional<int> best_of;   ///< samples to generate, of which the n with the highest sum of
                                ///< logprobs are returned, best first; [n, 1024]
  int num_beams = 1;            ///< > 1: beam search of so many beams returns its n best texts.
                                ///< Ranks raw logprobs: nothing is drawn, and penalties, biases and
                                ///< bans are refused; [1, 10]
  float length_penalty = 1.0F;  ///< a text of m tokens ranks by sum of logprobs / m^length_penalty
  EarlyStopping early_stopping = EarlyStopping::kNo;

  int max_tokens = 256;           ///< generated tokens per sample; >= 0 (0: prompt logprobs only)
  bool ignore_eos = false;        ///< keep going past the model's end-of-sequence tokens
  std::vector<std::string> stop;  ///< finish before the first of these strings; may cross token
                                  ///< borders
  std::vector<TokenId> stop_token_ids;  ///< finish at any of these, beside the model's own
  bool include_stop = false;            ///< keep the stop string in the text
  std::optional<int> logprobs;  ///< per generated token: its logprob and the `logprobs` likeliest;
                                ///< [0, 20]. Of raw logits: before everything above
  std::optional<int> prompt_logprobs;  ///< the same for prompt tokens; reads no prefix cache

  /// kAuto: as the engine speculates; kOff: not; else only if that is the engine's method. Alters
  /// no token.
  Speculation speculative = Speculation::kAuto;

  /// Checks every range above; the error names the field, its range and the value.
  Status Validate() const;
};

}  // namespace gale
