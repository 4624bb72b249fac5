// Log-probabilities of rows of logits. A row is one task.
#include <cmath>

#include "backend/cpu/candidates.h"
#include "backend/cpu/ops.h"

namespace gale::cpu {

void Logprobs(Context& context, const LogprobsArgs& args) {
  CheckLogprobsArgs(args);
  const int64_t rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  const int64_t k = args.top_ids ? args.top_ids.dim(1) : 0;
  const CpuKernels& kernels = context.kernels;
  ForRows(context, rows, vocab, [&](int64_t begin, int64_t end, int thread) {
    float* weights = context.thread_scratch[static_cast<size_t>(thread)].Floats(vocab);
    for (int64_t row = begin; row < end; ++row) {
      const std::span<const float> logits = LogitsRow(args.logits, row);
      const float max = kernels.max(logits.data(), vocab);
      const double log_sum = max + std::log(Weights(kernels, logits, max, 1.0F, weights));
      const int32_t token = args.tokens.As<int32_t>()[row];
      if (token >= 0) {
        GALE_CHECK_LT(token, vocab);
        args.chosen.As<float>()[row] =
            static_cast<float>(logits[static_cast<size_t>(token)] - log_sum);
      }
      if (k == 0) continue;
      const std::vector<Candidate> best = TopCandidates(kernels, logits, k);
      auto* ids = static_cast<int32_t*>(RowAt(args.top_ids, row));
      auto* logprobs = static_cast<float*>(RowAt(args.top_logprobs, row));
      for (size_t i = 0; i < best.size(); ++i) {
        ids[i] = best[i].id;
        logprobs[i] = static_cast<float>(best[i].logit - log_sum);
      }
    }
  });
}

}  // namespace gale::cpu
