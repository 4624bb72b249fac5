// Draws against exact probabilities: chi-square with fixed seeds, and what must hold for every
// draw.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "conformance/op_case.h"
#include "conformance/sample_batch.h"
#include "support/chi_square.h"

namespace gale::test {
namespace {

PropertyCase Distribution(std::string name, size_t vocab, Filters filters) {
  return {"Sample/chi_square_" + std::move(name), [=](Device& device) -> std::string {
            const std::vector<double> logits = RandomLogits(vocab, 1.5, 21);
            const double p =
                ChiSquareP(CountDraws(device, logits, filters, vocab < 1000 ? 60000 : 20000),
                           ExactProbabilities(logits, filters));
            return p > kSignificance ? "" : fmt::format("p = {}", p);
          }};
}

/// Half of the tokens 3% likelier, half 3% less: the test must see it. The statistic's expectation
/// grows by draws * 0.03^2 = 180, over 31 degrees of freedom.
std::string BiasIsNoticed(Device& device) {
  constexpr int64_t kDraws = 200000;
  const std::vector<double> logits = RandomLogits(32, 1, 22);
  std::vector<double> biased = logits;
  for (size_t i = 0; i < biased.size(); ++i) {
    biased[i] = RoundTo(DType::kF32, biased[i] + std::log(i % 2 == 0 ? 1.03 : 0.97));
  }
  const std::vector<double> exact = ExactProbabilities(logits, {});
  const double honest = ChiSquareP(CountDraws(device, logits, {}, kDraws), exact);
  const double cheated = ChiSquareP(CountDraws(device, biased, {}, kDraws), exact);
  if (honest <= kSignificance) return fmt::format("unbiased: p = {}", honest);
  return cheated <= kSignificance ? "" : fmt::format("biased by 3% and p = {}", cheated);
}

/// The lowest id of equal maxima, infinities included; no draw depends on the counter.
std::string GreedyTakesTheLowest(Device& device) {
  constexpr double kInf = INFINITY;
  const std::vector<std::pair<std::vector<double>, int64_t>> rows = {
      {{1, 3, 3, 2, 3}, 1},
      {{-5, -5, -5, -5, -5}, 0},
      {{-kInf, -kInf, -2, -2, -kInf}, 2},
      {{0, 0, 0, 0, 1e-30}, 4},
      {{-kInf, -kInf, -kInf, -kInf, 3e38}, 4},
      {{-0.0, 0.0, -1, -1, -1}, 0}};
  for (const auto& [row, want] : rows) {
    Filters filters;
    filters.temperature = 0;
    for (int64_t first : {0, 5}) {
      const auto drawn = SampleBatch(device, Repeat(row, 2), filters, 9, first).Draw();
      if (drawn[0] != want || drawn[1] != want)
        return fmt::format("drew {}, want {}", drawn[0], want);
    }
  }
  return "";
}

/// Filters that leave one token, and a mask that leaves two.
std::string TightFilters(Device& device) {
  const std::vector<double> logits = RandomLogits(5000, 2, 23);
  const auto best = std::ranges::max_element(logits) - logits.begin();
  const Filters one[] = {{1, 1, 1, 0, {}},    {1, 0, 1e-9, 0, {}},  {1, 0, 1, 1, {}},
                         {1e-4, 0, 1, 0, {}}, {1e-40, 0, 1, 0, {}}, {1, 40, 0, 0, {}},
                         {1, 0, 0, 0, {}}};
  for (const Filters& filters : one) {
    for (const int64_t id : SampleBatch(device, Repeat(logits, 50), filters, 3, 0).Draw()) {
      if (id != best) return fmt::format("drew {}, only {} is left", id, best);
    }
  }
  Filters masked;
  for (int id = 0; id < 70; ++id) {
    if (id != 3 && id != 69) masked.forbidden.push_back(id);
  }
  int64_t seen[2] = {};
  for (const int64_t id :
       SampleBatch(device, Repeat(std::vector<double>(70, 0.0), 200), masked, 4, 0).Draw()) {
    if (id != 3 && id != 69) return fmt::format("drew {} against the mask", id);
    ++seen[id == 3 ? 0 : 1];
  }
  return seen[0] > 50 && seen[1] > 50 ? "" : "a mask of two equal tokens is drawn unevenly";
}

/// Ties at the cut of top-k stay with the lower ids, in a vocabulary larger than any first look.
std::string TiesAtTheCut(Device& device) {
  std::vector<double> logits(3000, 1.0);
  logits[2999] = 2;
  Filters filters;
  filters.top_k = 3;
  for (const int64_t id : SampleBatch(device, Repeat(logits, 300), filters, 5, 0).Draw()) {
    if (id != 0 && id != 1 && id != 2999) return fmt::format("drew {}, kept are 0, 1 and 2999", id);
  }
  return "";
}

/// The same counters in another order and batch draw the same tokens; another seed does not.
std::string DrawsAreFunctionsOfTheirCounter(Device& device) {
  const HostTensor rows = Repeat(RandomLogits(400, 1, 24), 64);
  Filters filters;
  filters.top_p = 0.95;
  const auto whole = SampleBatch(device, rows, filters, 6, 100).Draw();
  for (int64_t r = 0; r < 64; r += 9) {
    const HostTensor one = Repeat(RandomLogits(400, 1, 24), 1);
    if (SampleBatch(device, one, filters, 6, 100 + r).Draw()[0] != whole[static_cast<size_t>(r)]) {
      return fmt::format("row {} differs when drawn alone", r);
    }
  }
  return SampleBatch(device, rows, filters, 7, 100).Draw() == whole ? "the seed changes nothing"
                                                                    : "";
}

/// Each token also goes to its row's slot, and nothing else changes there.
std::string TokensGoToTheirSlots(Device& device) {
  const HostTensor rows = Repeat(RandomLogits(3000, 2, 26), 4);
  for (const int top_k : {0, 20}) {
    Filters filters;
    filters.top_k = top_k;
    SampleBatch batch(device, rows, filters, 10, 0);
    const DeviceTensor slots = device.Upload(Tensor(DType::kI32, {4}, {5, -1, 0, 2}));
    const DeviceTensor last = device.Upload(Tensor(DType::kI32, {6}, {-7, -7, -7, -7, -7, -7}));
    batch.Scatter(slots.view(), last.view());
    const auto drawn = batch.Draw();
    const std::vector<double> want = {
        static_cast<double>(drawn[2]), -7, static_cast<double>(drawn[3]), -7, -7,
        static_cast<double>(drawn[0])};
    if (device.Download(last).values != want) return "a token went elsewhere";
  }
  return "";
}

/// What is drawn, here and in the slots, is what the columns stand for.
std::string ColumnsStandForTokens(Device& device) {
  const HostTensor rows = Repeat(RandomLogits(300, 2, 27), 20);
  HostTensor ids = Zeros(DType::kI32, {300});
  for (int64_t i = 0; i < 300; ++i)
    ids.values[static_cast<size_t>(i)] = static_cast<double>(3 * i + 1);
  const DeviceTensor device_ids = device.Upload(ids);
  for (const Filters& filters : {Filters{}, Filters{0, 0, 1, 0, {}}, Filters{1, 20, 0.9, 0, {}}}) {
    const auto columns = SampleBatch(device, rows, filters, 11, 0).Draw();
    SampleBatch batch(device, rows, filters, 11, 0);
    HostTensor slots = Zeros(DType::kI32, {20});
    std::iota(slots.values.begin(), slots.values.end(), 0.0);
    const DeviceTensor device_slots = device.Upload(slots);
    const DeviceTensor last = device.Upload(Zeros(DType::kI32, {20}));
    batch.Scatter(device_slots.view(), last.view());
    batch.UseTokenIds(device_ids.view());
    const auto tokens = batch.Draw();
    const std::vector<double> stored = device.Download(last).values;
    for (size_t r = 0; r < tokens.size(); ++r) {
      if (tokens[r] != 3 * columns[r] + 1 || stored[r] != static_cast<double>(tokens[r])) {
        return fmt::format("row {}: column {}, drew {}, stored {}", r, columns[r], tokens[r],
                           stored[r]);
      }
    }
  }
  return "";
}

/// On equal logits every device draws what the CPU draws. A draw could differ only where its random
/// number falls within the rounding of a sum, some 1e-7 of the mass; the seeds here are not such.
std::string DrawsEqualTheCpus(Device& device) {
  Device cpu("cpu");
  const HostTensor rows = Repeat(RandomLogits(20000, 2, 25), 40);
  const Filters all[] = {{1, 0, 1, 0, {}},      {0.8, 20, 1, 0, {}},   {1, 50, 0.9, 0, {}},
                         {1.5, 0, 0.95, 0, {}}, {1, 500, 1, 0.01, {}}, {0.7, 0, 1, 0.1, {}}};
  for (const Filters& filters : all) {
    const auto want = SampleBatch(cpu, rows, filters, 8, 0).Draw();
    const auto got = SampleBatch(device, rows, filters, 8, 0).Draw();
    if (got != want) {
      return fmt::format("temperature {}, top-k {}, top-p {}, min-p {}", filters.temperature,
                         filters.top_k, filters.top_p, filters.min_p);
    }
  }
  return "";
}

}  // namespace

std::vector<PropertyCase> SamplingCases() {
  return {
      Distribution("plain", 50, {}),
      Distribution("large_vocabulary", 1500, {}),
      Distribution("cold", 50, {0.5, 0, 1, 0, {}}),
      Distribution("hot", 50, {1.7, 0, 1, 0, {}}),
      Distribution("top_k", 60, {1, 12, 1, 0, {}}),
      Distribution("top_k_above_vocabulary", 20, {1, 100, 1, 0, {}}),
      Distribution("top_p", 60, {1, 0, 0.8, 0, {}}),
      Distribution("top_p_wide", 1000, {2, 0, 0.97, 0, {}}),
      Distribution("min_p", 60, {1, 0, 1, 0.05, {}}),
      Distribution("top_k_top_p", 60, {0.9, 20, 0.9, 0, {}}),
      Distribution("top_k_min_p", 60, {1.1, 20, 1, 0.04, {}}),
      Distribution("top_p_min_p", 60, {1.2, 0, 0.9, 0.04, {}}),
      Distribution("all_filters", 300, {1.3, 50, 0.92, 0.02, {}}),
      Distribution("bitmask", 40, {1, 0, 1, 0, {0, 7, 8, 31, 32, 39}}),
      Distribution("bitmask_top_k_top_p", 40, {1, 10, 0.9, 0, {1, 2, 3, 20, 33}}),
      {"Sample/bias_is_noticed", BiasIsNoticed},
      {"Sample/greedy_takes_the_lowest", GreedyTakesTheLowest},
      {"Sample/tight_filters", TightFilters},
      {"Sample/ties_at_the_cut", TiesAtTheCut},
      {"Sample/draws_are_functions_of_their_counter", DrawsAreFunctionsOfTheirCounter},
      {"Sample/tokens_go_to_their_slots", TokensGoToTheirSlots},
      {"Sample/columns_stand_for_tokens", ColumnsStandForTokens},
      {"Sample/draws_equal_the_cpus", DrawsEqualTheCpus},
  };
}

}  // namespace gale::test
