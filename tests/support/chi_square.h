// Pearson's chi-square test of observed counts against exact probabilities, for sampling tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

namespace gale::test {

/// P(X >= x) of the chi-square distribution: the regularized upper incomplete gamma function
/// Q(dof / 2, x / 2), by its series or its continued fraction (Numerical Recipes, section 6.2).
inline double ChiSquareTail(double x, double dof) {
  const double a = dof / 2;
  const double z = x / 2;
  if (z <= 0) return 1;
  const double front = std::exp(-z + a * std::log(z) - std::lgamma(a));
  if (z < a + 1) {
    double term = 1 / a;
    double sum = term;
    for (int n = 1; n < 10000 && term > sum * 1e-15; ++n) sum += term *= z / (a + n);
    return 1 - front * sum;
  }
  double b = z + 1 - a;
  double c = 1e300;
  double d = 1 / b;
  double h = d;
  for (int n = 1; n < 10000; ++n) {
    const double an = -n * (n - a);
    b += 2;
    d = 1 / (an * d + b);
    c = b + an / c;
    h *= d * c;
    if (std::abs(d * c - 1) < 1e-15) break;
  }
  return front * h;
}

/// The p-value of `counts` under `probabilities`, which sum to 1. 0 when something impossible was
/// drawn. Outcomes expected fewer than 5 times are taken together.
inline double ChiSquareP(std::span<const int64_t> counts, std::span<const double> probabilities) {
  double draws = 0;
  for (const int64_t count : counts) draws += static_cast<double>(count);
  double statistic = 0;
  double rare_count = 0;
  double rare_expected = 0;
  int bins = 0;
  const auto add = [&](double count, double expected) {
    statistic += (count - expected) * (count - expected) / expected;
    ++bins;
  };
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = probabilities[i] * draws;
    if (expected == 0 && counts[i] > 0) return 0;
    if (expected >= 5) {
      add(static_cast<double>(counts[i]), expected);
    } else {
      rare_count += static_cast<double>(counts[i]);
      rare_expected += expected;
    }
  }
  if (rare_expected > 0) add(rare_count, rare_expected);
  return bins < 2 ? 1 : ChiSquareTail(statistic, bins - 1);
}

}  // namespace gale::test
