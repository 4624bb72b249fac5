// Draws through typical-p, top-n-sigma, XTC and mirostat against exact probabilities, and
// mirostat's state against its formula.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "conformance/op_case.h"
#include "conformance/sample_batch.h"
#include "support/chi_square.h"

namespace gale::test {
namespace {

PropertyCase Distribution(std::string name, size_t vocab, const Filters& filters) {
  return {"Sample/chi_square_" + std::move(name), [=](Device& device) -> std::string {
            const std::vector<double> logits = RandomLogits(vocab, 1.5, 41);
            const double p = ChiSquareP(CountDraws(device, logits, filters, 40000),
                                        ExactProbabilities(logits, filters));
            return p > kSignificance ? "" : fmt::format("p = {}", p);
          }};
}

/// mu' = mu - eta * (surprise - tau), where the surprise is that of the drawn token before
/// mirostat's own cut.
std::string MirostatAdapts(Device& device) {
  const std::vector<double> logits = RandomLogits(200, 2, 42);
  const Filters filters{
      .temperature = 0.9, .top_k = 80, .mirostat_tau = 3, .mirostat_eta = 0.2, .mirostat_mu = 5};
  const std::vector<double> exact = ExactProbabilities(logits, filters, false);
  SampleBatch batch(device, Repeat(logits, 300), filters, 17, 0);
  const std::vector<int64_t> drawn = batch.Draw();
  const std::vector<double> mu = batch.Mu();
  for (size_t r = 0; r < drawn.size(); ++r) {
    const double want = 5 - 0.2 * (-std::log2(exact[static_cast<size_t>(drawn[r])]) - 3);
    if (std::abs(mu[r] - want) > 1e-4) return fmt::format("mu is {}, want {}", mu[r], want);
  }
  return "";
}

/// Over many draws from one distribution the mean surprise comes to be the target, which is between
/// that of the likeliest token and the entropy.
std::string MirostatReachesItsTarget(Device& device) {
  const std::vector<double> logits = RandomLogits(300, 0.8, 43);
  double mu = 8;
  double surprise = 0;
  constexpr int kDraws = 240;
  constexpr int kWarmUp = 60;
  for (int i = 0; i < kDraws; ++i) {
    const Filters filters{.mirostat_tau = 6.5, .mirostat_eta = 0.3, .mirostat_mu = mu};
    SampleBatch batch(device, Repeat(logits, 1), filters, 3, i);
    const auto token = static_cast<size_t>(batch.Draw()[0]);
    mu = batch.Mu()[0];
    if (i >= kWarmUp) surprise -= std::log2(ExactProbabilities(logits, filters, false)[token]);
  }
  const double mean = surprise / (kDraws - kWarmUp);
  return std::abs(mean - 6.5) < 0.1 ? "" : fmt::format("mean surprise {}, want 6.5", mean);
}

/// With filters that leave one token, only it is drawn; greedy rows filter nothing and leave
/// mirostat's state alone.
std::string ExtremesLeaveOneToken(Device& device) {
  const std::vector<double> logits = RandomLogits(3000, 2, 44);
  const auto best = std::ranges::max_element(logits) - logits.begin();
  const Filters one[] = {
      {.top_n_sigma = 1e-6},
      {.mirostat_tau = 5, .mirostat_eta = 0.1, .mirostat_mu = -3},
      {.temperature = 0,
       .typical_p = 0.2,
       .xtc_probability = 1,
       .mirostat_tau = 5,
       .mirostat_mu = 10},
      {.top_k = 1, .typical_p = 0.5, .xtc_probability = 1, .xtc_threshold = 0.1},
  };
  for (const Filters& filters : one) {
    SampleBatch batch(device, Repeat(logits, 30), filters, 3, 0);
    for (const int64_t id : batch.Draw()) {
      if (id != best) return fmt::format("drew {}, only {} is left", id, best);
    }
    if (filters.temperature == 0 && batch.Mu()[0] != 10) return "a greedy draw moved mu";
  }
  // Four tokens of equal logits reach the threshold: the last of them is the least likely.
  std::vector<double> tied(50, 0.0);
  for (const size_t id : {4, 9, 30, 41}) tied[id] = 6;
  const Filters xtc{.top_k = 4, .xtc_probability = 1, .xtc_threshold = 0.2};
  for (const int64_t id : SampleBatch(device, Repeat(tied, 30), xtc, 3, 0).Draw()) {
    if (id != 41) return fmt::format("XTC left {}", id);
  }
  return "";
}

/// Rows that use none of these filters draw what they draw in a batch without them.
std::string OthersDrawTheSame(Device& device) {
  const HostTensor rows = Repeat(RandomLogits(4000, 1.5, 45), 60);
  for (const Filters& filters :
       {Filters{}, Filters{.top_k = 30, .top_p = 0.9}, Filters{.top_p = 0.95, .min_p = 0.01},
        Filters{.temperature = 0}}) {
    SampleBatch without(device, rows, filters, 12, 0);
    SampleBatch with(device, rows, filters, 12, 0);
    with.AddRareFilters(filters);
    if (without.Draw() != with.Draw()) return "a filter that is off changed a draw";
  }
  return "";
}

std::vector<Filters> Combinations() {
  return {
      {.top_n_sigma = 1.5},
      {.temperature = 1.4, .typical_p = 0.6},
      {.top_k = 50, .typical_p = 0.9, .xtc_probability = 0.5, .xtc_threshold = 0.05},
      {.temperature = 0.8,
       .top_p = 0.9,
       .min_p = 0.02,
       .xtc_probability = 1,
       .xtc_threshold = 0.02},
      {.temperature = 1.2, .top_p = 0.95, .mirostat_tau = 4, .mirostat_eta = 0.1, .mirostat_mu = 6},
      {.temperature = 1.1,
       .top_k = 400,
       .top_p = 0.97,
       .min_p = 0.001,
       .forbidden = {3, 4},
       .top_n_sigma = 2,
       .typical_p = 0.95,
       .xtc_probability = 0.4,
       .xtc_threshold = 0.01,
       .mirostat_tau = 5,
       .mirostat_eta = 0.2,
       .mirostat_mu = 7}};
}

std::string DrawsEqualTheCpus(Device& device) {
  Device cpu("cpu");
  const HostTensor rows = Repeat(RandomLogits(20000, 2, 46), 40);
  for (const Filters& filters : Combinations()) {
    SampleBatch want(cpu, rows, filters, 8, 0);
    SampleBatch got(device, rows, filters, 8, 0);
    if (want.Draw() != got.Draw()) {
      return fmt::format("top-n-sigma {}, typical-p {}, XTC {}, mirostat {}", filters.top_n_sigma,
                         filters.typical_p, filters.xtc_probability, filters.mirostat_tau);
    }
    const std::vector<double> want_mu = want.Mu();
    const std::vector<double> got_mu = got.Mu();
    for (size_t r = 0; r < want_mu.size(); ++r) {
      if (std::abs(want_mu[r] - got_mu[r]) > 1e-4) return "mirostat's state differs";
    }
  }
  return "";
}

}  // namespace

std::vector<PropertyCase> RareFilterCases() {
  return {
      Distribution("top_n_sigma", 80, {.top_n_sigma = 1}),
      Distribution("top_n_sigma_hot", 80, {.temperature = 2, .top_n_sigma = 1.5}),
      Distribution("typical", 80, {.typical_p = 0.7}),
      Distribution("typical_cold", 80, {.temperature = 0.4, .typical_p = 0.5}),
      Distribution("typical_top_p_min_p", 80, {.top_p = 0.9, .min_p = 0.1, .typical_p = 0.8}),
      Distribution("xtc_always", 80, {.xtc_probability = 1, .xtc_threshold = 0.04}),
      Distribution("xtc_at_times", 80, {.xtc_probability = 0.35, .xtc_threshold = 0.03}),
      Distribution(
          "xtc_top_p", 80,
          {.temperature = 0.8, .top_p = 0.8, .xtc_probability = 0.5, .xtc_threshold = 0.06}),
      Distribution("mirostat", 80, {.mirostat_tau = 3, .mirostat_eta = 0.1, .mirostat_mu = 5.2}),
      Distribution("mirostat_top_k", 80,
                   {.temperature = 1.3,
                    .top_k = 30,
                    .mirostat_tau = 3,
                    .mirostat_eta = 0.1,
                    .mirostat_mu = 4.5}),
      Distribution("all_rare", 300,
                   {.temperature = 1.2,
                    .top_k = 120,
                    .top_p = 0.95,
                    .min_p = 0.01,
                    .top_n_sigma = 2.2,
                    .typical_p = 0.9}),
      {"Sample/mirostat_adapts", MirostatAdapts},
      {"Sample/mirostat_reaches_its_target", MirostatReachesItsTarget},
      {"Sample/rare_extremes_leave_one_token", ExtremesLeaveOneToken},
      {"Sample/rare_filters_leave_others_alone", OthersDrawTheSame},
      {"Sample/rare_draws_equal_the_cpus", DrawsEqualTheCpus},
  };
}

}  // namespace gale::test
