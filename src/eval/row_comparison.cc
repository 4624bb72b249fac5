#include "eval/row_comparison.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace gale {
namespace {

double LogSumExp(std::span<const float> logits, float largest) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return std::log(sum) + largest;
}

}  // namespace

RowComparison CompareRows(std::span<const float> base, std::span<const float> other,
                          TokenId target) {
  GALE_CHECK_EQ(base.size(), other.size());
  const auto base_top = std::ranges::max_element(base);
  const auto other_top = std::ranges::max_element(other);
  const double base_log_sum = LogSumExp(base, *base_top);
  const double other_log_sum = LogSumExp(other, *other_top);
  RowComparison row;
  row.base_logprob = base[static_cast<size_t>(target)] - base_log_sum;
  row.other_logprob = other[static_cast<size_t>(target)] - other_log_sum;
  row.base_top = static_cast<TokenId>(base_top - base.begin());
  row.other_top = static_cast<TokenId>(other_top - other.begin());
  for (size_t i = 0; i < base.size(); ++i) {
    const double log_p = base[i] - base_log_sum;
    const double p = std::exp(log_p);
    if (p > 0) row.kl += p * (log_p - (other[i] - other_log_sum));
  }
  row.kl = std::max(row.kl, 0.0);  // rounding may leave less
  return row;
}

}  // namespace gale
