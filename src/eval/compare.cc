// Two models over one text: perplexities, divergence, agreement, and where they differ most.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "backend/registry.h"
#include "base/host_limits.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "eval/row_comparison.h"
#include "gale/eval.h"
#include "gale/model_info.h"
#include "gale/tokenizer.h"
#include "models/load_model.h"
#include "models/sequence_runner.h"

namespace gale {
namespace {

constexpr int kDefaultWindow = 2048;
constexpr size_t kContextTokens = 16;  ///< shown in front of a worst token

struct Subject {
  std::string path;
  std::optional<KvFormat> kv;
  LoadedModel loaded;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<SequenceRunner> runner;
};

Result<Subject> LoadSubject(const EngineConfig& config, Backend& backend) {
  Subject subject;
  subject.kv = config.kv_cache_dtype;
  GALE_ASSIGN_OR_RETURN(subject.path, ResolveModel(config.model, config.load_format));
  GALE_ASSIGN_OR_RETURN(subject.tokenizer, Tokenizer::FromFolder(subject.path));
  const Numerics by_device =
      backend.info().name == "cpu" ? Numerics::kBatchInvariant : Numerics::kFast;
  const LoadOptions options{.model = subject.path,
                            .format = config.load_format,
                            .dtype = config.dtype,
                            .quantize = config.quantize,
                            .numerics = config.numerics.value_or(by_device),
                            .seed = config.seed};
  GALE_ASSIGN_OR_RETURN(subject.loaded, LoadModel(options, backend));
  return subject;
}

/// One scored position, as long as it is among the worst.
struct Position {
  size_t index = 0;
  RowComparison row;
};

class Comparison {
 public:
  Comparison(Subject& base, Subject& other, std::vector<TokenId> tokens, size_t num_worst)
      : base_(base),
        other_(other),
        tokens_(std::move(tokens)),
        num_worst_(num_worst),
        threads_(AvailableCpus()) {}

  const std::vector<TokenId>& tokens() const { return tokens_; }
  size_t num_scored() const { return divergences_.size(); }

  Status AddWindow(const TextWindow& window) {
    const std::span<const TokenId> tokens =
        std::span(tokens_).subspan(window.begin, window.end - window.begin);
    GALE_RETURN_IF_ERROR(base_.runner->Forward(tokens));
    GALE_RETURN_IF_ERROR(other_.runner->Forward(tokens));
    // The row of a token is that of the one before it.
    const size_t last = window.end - 1;
    const auto tile =
        static_cast<size_t>(std::min(base_.runner->logits_tile(), other_.runner->logits_tile()));
    for (size_t begin = window.scored_begin - 1; begin < last; begin += tile) {
      GALE_RETURN_IF_ERROR(AddRows(window.begin, begin, std::min(begin + tile, last)));
    }
    return {};
  }

  ModelComparison Summary() {
    const auto count = static_cast<double>(divergences_.size());
    ModelComparison summary;
    summary.num_tokens = tokens_.size();
    summary.num_scored = divergences_.size();
    summary.base = {base_nll_ / count, std::exp(base_nll_ / count)};
    summary.other = {other_nll_ / count, std::exp(other_nll_ / count)};
    summary.kl_mean = kl_sum_ / count;
    summary.top1_agreement = static_cast<double>(num_agreed_) / count;
    std::ranges::sort(divergences_);
    const auto quantile = [&](double share) {
      return divergences_[static_cast<size_t>(std::ceil(share * count)) - 1];
    };
    summary.kl_median = quantile(0.5);
    summary.kl_p99 = quantile(0.99);
    summary.kl_max = divergences_.back();
    for (const Position& position : worst_) summary.worst.push_back(Describe(position));
    return summary;
  }

 private:
  /// The rows of tokens [begin, end) of a window that starts at `window_begin`.
  Status AddRows(size_t window_begin, size_t begin, size_t end) {
    const auto first = static_cast<int>(begin - window_begin);
    const auto last = static_cast<int>(end - window_begin);
    GALE_ASSIGN_OR_RETURN(const auto base, base_.runner->Logits(first, last));
    GALE_ASSIGN_OR_RETURN(const auto other, other_.runner->Logits(first, last));
    const size_t vocab = base.size() / (end - begin);
    std::vector<Position> rows(end - begin);
    threads_.ParallelFor(std::ssize(rows), [&](int64_t i, int) {
      const size_t row = static_cast<size_t>(i);
      const size_t target = begin + row + 1;
      rows[row] = {target, CompareRows(base.subspan(row * vocab, vocab),
                                       other.subspan(row * vocab, vocab), tokens_[target])};
    });
    for (const Position& position : rows) GALE_RETURN_IF_ERROR(Add(position));
    return {};
  }

  Status Add(const Position& position) {
    const RowComparison& row = position.row;
    for (const auto& [logprob, subject] :
         {std::pair(row.base_logprob, &base_), std::pair(row.other_logprob, &other_)}) {
      if (std::isfinite(logprob)) continue;
      return MakeError(ErrorCode::kDataCorrupt,
                       fmt::format("{}: its logits in front of token {} of the text are no "
                                   "probabilities: expected finite numbers",
                                   subject->path, position.index));
    }
    base_nll_ -= row.base_logprob;
    other_nll_ -= row.other_logprob;
    kl_sum_ += row.kl;
    num_agreed_ += row.base_top == row.other_top ? 1 : 0;
    divergences_.push_back(static_cast<float>(row.kl));
    const auto place = std::ranges::upper_bound(worst_, row.kl, std::greater<>(),
                                                [](const Position& known) { return known.row.kl; });
    worst_.insert(place, position);
    if (worst_.size() > num_worst_) worst_.pop_back();
    return {};
  }

  WorstToken Describe(const Position& position) const {
    const Tokenizer& tokenizer = *base_.tokenizer;
    const auto text = [&](TokenId token) {
      return tokenizer.Decode(std::span(&token, 1), /*skip_special=*/false);
    };
    const size_t begin = position.index - std::min(position.index, kContextTokens);
    return {.index = position.index,
            .kl = position.row.kl,
            .context = tokenizer.Decode(std::span(tokens_).subspan(begin, position.index - begin),
                                        /*skip_special=*/false),
            .token = text(tokens_[position.index]),
            .base_logprob = position.row.base_logprob,
            .other_logprob = position.row.other_logprob,
            .base_top = text(position.row.base_top),
            .other_top = text(position.row.other_top)};
  }

  Subject& base_;
  Subject& other_;
  std::vector<TokenId> tokens_;
  size_t num_worst_;
  ThreadPool threads_;
  double base_nll_ = 0;
  double other_nll_ = 0;
  double kl_sum_ = 0;
  size_t num_agreed_ = 0;
  std::vector<float> divergences_;  ///< of every scored position
  std::vector<Position> worst_;     ///< by falling KL
};

/// The text's tokens, which both tokenizers must agree on.
Result<std::vector<TokenId>> Tokenize(const Subject& base, const Subject& other,
                                      std::string_view text, bool add_special_tokens) {
  const EncodeOptions encode{.add_special_tokens = add_special_tokens, .parse_special = true};
  std::vector<TokenId> tokens = base.tokenizer->Encode(text, encode);
  const int base_vocab = base.loaded.model->vocab_size();
  const int other_vocab = other.loaded.model->vocab_size();
  if (base_vocab != other_vocab || tokens != other.tokenizer->Encode(text, encode)) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("{} and {} have different vocabularies (of {} and {} tokens): expected two "
                    "models that give a text the same token ids",
                    base.path, other.path, base_vocab, other_vocab));
  }
  if (tokens.size() < 2) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("the text has {} tokens, a comparison needs at least 2", tokens.size()));
  }
  return tokens;
}

}  // namespace

Result<ModelComparison> CompareModels(const CompareOptions& options, std::string_view text,
                                      const std::function<void(uint64_t, uint64_t)>& progress) {
  GALE_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend,
                        CreateBackend(options.base.device, {.threads = options.base.threads}));
  GALE_ASSIGN_OR_RETURN(Subject base, LoadSubject(options.base, *backend));
  GALE_ASSIGN_OR_RETURN(Subject other, LoadSubject(options.other, *backend));
  GALE_ASSIGN_OR_RETURN(std::vector<TokenId> tokens,
                        Tokenize(base, other, text, options.add_special_tokens));

  const int context = std::min(base.loaded.config.max_position, other.loaded.config.max_position);
  const int window = options.window > 0 ? options.window : std::min(kDefaultWindow, context);
  const int stride = options.stride > 0 ? options.stride : window;
  if (window < 2 || window > context || stride > window) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("window {}, stride {}: expected 2 <= window <= {} (the context) "
                                 "and stride <= window",
                                 window, stride, context));
  }
  const int max_tokens = static_cast<int>(std::min<size_t>(window, tokens.size()));
  for (Subject* subject : {&base, &other}) {
    GALE_ASSIGN_OR_RETURN(subject->runner, SequenceRunner::Create(*backend, *subject->loaded.model,
                                                                  max_tokens, subject->kv));
  }
  const std::vector<TextWindow> windows =
      CutWindows(tokens.size(), static_cast<size_t>(window), static_cast<size_t>(stride));
  Comparison comparison(base, other, std::move(tokens), static_cast<size_t>(options.num_worst));
  for (const TextWindow& one : windows) {
    GALE_RETURN_IF_ERROR(comparison.AddWindow(one));
    if (progress) progress(one.end, comparison.tokens().size());
  }
  ModelComparison summary = comparison.Summary();
  summary.window = window;
  summary.stride = stride;
  return summary;
}

}  // namespace gale
