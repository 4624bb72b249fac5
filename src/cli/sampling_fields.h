// The table of sampling parameters: the name of each in JSON (and, with dashes, of its flag), where
// it is kept, and what help says of it.
#pragma once

#include "gale/sampling_params.h"

namespace gale::cli {

inline constexpr const char* kSamplingGroup =
    "Sampling (defaults: the model's own, see gale info; docs/decoding.md has formulas and order)";
inline constexpr const char* kPenaltyGroup = "What may be said";
inline constexpr const char* kRareGroup = "More samplers";
inline constexpr const char* kSearchGroup = "Several texts";
inline constexpr const char* kEndGroup = "Where a text ends";

template <class T>
struct SamplingField {
  const char* name;
  T SamplingParams::* member;
  const char* group;
  const char* placeholder;  ///< of the flag's argument; "": it takes none
  const char* help;
};

/// Calls visit(SamplingField) for each, in the order of help.
template <class Visitor>
void ForEachSamplingField(Visitor visit) {
  using P = SamplingParams;
  const auto add = [&](const char* name, auto member, const char* group, const char* placeholder,
                       const char* help) {
    visit(SamplingField{name, member, group, placeholder, help});
  };
  add("temperature", &P::temperature, kSamplingGroup, "T", "Divides the logits; 0 = greedy");
  add("top_k", &P::top_k, kSamplingGroup, "K", "Keep the K likeliest tokens; 0 = all");
  add("top_p", &P::top_p, kSamplingGroup, "P",
      "Keep the smallest set of likeliest tokens with probability P; 1 = all");
  add("min_p", &P::min_p, kSamplingGroup, "P",
      "Drop tokens under P times the likeliest one's probability; 0 = none");

  add("max_tokens", &P::max_tokens, kEndGroup, "N", "Stop after so many generated tokens");
  add("min_tokens", &P::min_tokens, kEndGroup, "N",
      "No end token or stop string within so many tokens");
  add("stop", &P::stop, kEndGroup, "TEXT", "Stop before this text; may be given several times");
  add("stop_token_ids", &P::stop_token_ids, kEndGroup, "IDS",
      "Stop at any of these tokens, beside the model's own");
  add("ignore_eos", &P::ignore_eos, kEndGroup, "", "Go on past the model's end-of-text token");

  add("repetition_penalty", &P::repetition_penalty, kPenaltyGroup, "X",
      "Makes what prompt or text have unlikelier: divides its logits above 0, multiplies those "
      "below; 1 = off");
  add("presence_penalty", &P::presence_penalty, kPenaltyGroup, "X",
      "Taken off the logits of generated tokens; 0 = off");
  add("frequency_penalty", &P::frequency_penalty, kPenaltyGroup, "X",
      "The same, for each time they were generated; 0 = off");
  add("dry_multiplier", &P::dry_multiplier, kPenaltyGroup, "X",
      "Against repeated runs (DRY): a token that would continue one of M tokens loses X * "
      "BASE^(M - LENGTH); 0 = off");
  add("dry_base", &P::dry_base, kPenaltyGroup, "BASE", "See --dry-multiplier (default 1.75)");
  add("dry_allowed_length", &P::dry_allowed_length, kPenaltyGroup, "LENGTH",
      "Shorter runs are free (default 2)");
  add("dry_range", &P::dry_range, kPenaltyGroup, "N", "Look at the last N tokens; 0 = all");
  add("dry_breakers", &P::dry_breakers, kPenaltyGroup, "TEXT",
      "No run goes over this text; may be given several times (default: line break, : \" *)");
  add("logit_bias", &P::logit_bias, kPenaltyGroup, "ID=X",
      "Added to a token's logit, -100 to 100; may be given several times");
  add("bad_words", &P::bad_words, kPenaltyGroup, "TEXT",
      "Never generate this text; may be given several times");
  add("bad_token_ids", &P::bad_token_ids, kPenaltyGroup, "IDS",
      "Never generate this sequence of tokens; may be given several times");
  add("allowed_token_ids", &P::allowed_token_ids, kPenaltyGroup, "IDS", "Generate no other tokens");

  add("typical_p", &P::typical_p, kRareGroup, "P",
      "Keep tokens of typical surprise with probability P; 1 = all");
  add("top_n_sigma", &P::top_n_sigma, kRareGroup, "N",
      "Keep logits within N standard deviations of the largest; 0 = all");
  add("xtc_probability", &P::xtc_probability, kRareGroup, "P",
      "Chance to exclude top choices (XTC); 0 = never");
  add("xtc_threshold", &P::xtc_threshold, kRareGroup, "P",
      "... those that reach P, but the least likely of them (default 0.1)");
  add("mirostat", &P::mirostat, kRareGroup, "0|2",
      "2: Mirostat version 2 keeps the surprise near a target");
  add("mirostat_tau", &P::mirostat_tau, kRareGroup, "BITS", "Mirostat's target (default 5)");
  add("mirostat_eta", &P::mirostat_eta, kRareGroup, "X", "Mirostat's learning rate (default 0.1)");

  add("best_of", &P::best_of, kSearchGroup, "N",
      "Generate N samples, return the best by the sum of their log-probabilities");
  add("num_beams", &P::num_beams, kSearchGroup, "N",
      "Beam search of N beams, without chance; -n of its texts are returned");
  add("length_penalty", &P::length_penalty, kSearchGroup, "X",
      "Beams rank by the sum of log-probabilities / length^X (default 1)");
  add("early_stopping", &P::early_stopping, kSearchGroup, "WHEN",
      "End beam search once N texts are found: no (when a beam that ended now could not beat "
      "them), yes, never (when none could ever)");
  add("logprobs", &P::logprobs, kSearchGroup, "K",
      "With JSON output: each token's log-probability and the K likeliest tokens'");
  add("prompt_logprobs", &P::prompt_logprobs, kSearchGroup, "K", "The same of the prompt's tokens");
}

}  // namespace gale::cli
