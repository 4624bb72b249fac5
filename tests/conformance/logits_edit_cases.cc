// Edited logits against the formulas of docs/decoding.md, written down again in f64 over plain
// lists of tokens; and that a history which draws wrote is the one that the next edit reads.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "backend/logits_edit.h"
#include "conformance/op_case.h"

namespace gale::test {
namespace {

using Tokens = std::vector<int>;

struct Ban {
  Tokens tokens;
  int until_length = 1 << 30;
};

/// One row: a sequence and what it asks for.
struct Sequence {
  Tokens history;
  int num_prompt = 0;
  double repetition = 1;
  double presence = 0;
  double frequency = 0;
  double dry_multiplier = 0;
  double dry_base = 1.75;
  int dry_allowed_length = 2;
  int dry_range = 1 << 30;
  Tokens breakers;
  std::map<int, double> biases;
  std::vector<Ban> bans;
  Tokens allowed;
};

bool EndsWith(const Tokens& history, const Tokens& tokens, size_t count) {
  return count <= history.size() &&
         std::equal(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(count),
                    history.end() - static_cast<ptrdiff_t>(count));
}

/// DRY by its definition: for every earlier place, how long the run before it agrees with the end.
std::map<int, int> RepeatedRuns(const Sequence& s) {
  const auto breaks = [&](int token) {
    return std::ranges::find(s.breakers, token) != s.breakers.end();
  };
  const auto begin =
      static_cast<size_t>(std::max<int>(0, static_cast<int>(s.history.size()) - s.dry_range));
  const Tokens h(s.history.begin() + static_cast<ptrdiff_t>(begin), s.history.end());
  std::map<int, int> longest;
  for (size_t place = 1; place < h.size(); ++place) {
    if (breaks(h[place])) continue;
    int run = 0;
    while (run < 50 && static_cast<size_t>(run) < place) {
      const int token = h[h.size() - 1 - static_cast<size_t>(run)];
      if (token != h[place - 1 - static_cast<size_t>(run)] || breaks(token)) break;
      ++run;
    }
    longest[h[place]] = std::max(longest[h[place]], run);
  }
  return longest;
}

std::vector<double> Expected(const Sequence& s, std::vector<double> logits, Mutation mutation) {
  for (size_t t = 0; t < logits.size(); ++t) {
    const auto said = std::ranges::count(s.history, static_cast<int>(t));
    const auto drawn =
        std::count(s.history.begin() + s.num_prompt, s.history.end(), static_cast<int>(t));
    if (said > 0) logits[t] = logits[t] > 0 ? logits[t] / s.repetition : logits[t] * s.repetition;
    const double times =
        mutation == Mutation::kCountPrompt ? static_cast<double>(said) : static_cast<double>(drawn);
    if (drawn > 0) logits[t] -= s.presence + s.frequency * times;
  }
  for (const auto& [token, run] : RepeatedRuns(s)) {
    const int free =
        mutation == Mutation::kLongerMatch ? s.dry_allowed_length + 1 : s.dry_allowed_length;
    if (run < free) continue;
    logits[static_cast<size_t>(token)] -= s.dry_multiplier * std::pow(s.dry_base, run - free);
  }
  if (mutation != Mutation::kSkipBias) {
    for (const auto& [token, bias] : s.biases) logits[static_cast<size_t>(token)] += bias;
  }
  for (const Ban& ban : s.bans) {
    if (static_cast<int>(s.history.size()) >= ban.until_length) continue;
    if (!EndsWith(s.history, ban.tokens, ban.tokens.size() - 1)) continue;
    double& logit = logits[static_cast<size_t>(ban.tokens.back())];
    logit = std::min(logit, double{kBannedLogit});
  }
  for (size_t t = 0; t < logits.size(); ++t) {
    const bool allowed =
        s.allowed.empty() || std::ranges::find(s.allowed, static_cast<int>(t)) != s.allowed.end();
    if (!allowed && mutation != Mutation::kAllowAll) logits[t] = -INFINITY;
  }
  return logits;
}

std::vector<double> Record(const Sequence& s) {
  LogitsEdit edit;
  edit.num_prompt = s.num_prompt;
  edit.repetition_penalty = static_cast<float>(s.repetition);
  edit.presence_penalty = static_cast<float>(s.presence);
  edit.frequency_penalty = static_cast<float>(s.frequency);
  edit.dry_multiplier = static_cast<float>(s.dry_multiplier);
  edit.dry_base = static_cast<float>(s.dry_base);
  edit.dry_allowed_length = s.dry_allowed_length;
  edit.dry_range = s.dry_range;
  edit.num_breakers = static_cast<int32_t>(s.breakers.size());
  edit.num_biases = static_cast<int32_t>(s.biases.size() + s.bans.size());
  edit.is_masked = s.allowed.empty() ? 0 : 1;
  Tokens tokens = s.breakers;
  std::vector<SequenceBias> biases;
  const auto add = [&](const Tokens& sequence, double bias, int until_length) {
    biases.push_back({.first_token = static_cast<int32_t>(tokens.size()),
                      .num_tokens = static_cast<int32_t>(sequence.size()),
                      .bias = static_cast<float>(bias),
                      .until_length = until_length});
    tokens.insert(tokens.end(), sequence.begin(), sequence.end());
  };
  for (const Ban& ban : s.bans) add(ban.tokens, -INFINITY, ban.until_length);
  for (const auto& [token, bias] : s.biases) add({token}, bias, 1 << 30);
  std::vector<double> words;
  const auto append = [&words](const auto& part) {
    for (const int32_t word : std::bit_cast<std::array<int32_t, sizeof(part) / 4>>(part)) {
      words.push_back(word);
    }
  };
  append(edit);
  for (const SequenceBias& bias : biases) append(bias);
  for (const int token : tokens) words.push_back(token);
  return words;
}

/// Tables of `slots` rows, of which sequence i has row slots - 1 - i.
class EditBatch {
 public:
  EditBatch(Device& device, const HostTensor& logits, const std::vector<Sequence>& sequences)
      : device_(device) {
    const auto slots = static_cast<int64_t>(sequences.size()) + 1;
    const int64_t vocab = logits.dim(1);
    HostTensor row_slots = Zeros(DType::kI32, {logits.dim(0)});
    HostTensor lengths = Zeros(DType::kI32, {logits.dim(0)});
    HostTensor history = Zeros(DType::kI32, {slots, kCapacity});
    HostTensor edits = Zeros(DType::kI32, {slots, kLogitsEditWords});
    HostTensor allowed = Zeros(DType::kI32, {slots, (vocab + 31) / 32});
    for (size_t i = 0; i < sequences.size(); ++i) {
      const Sequence& s = sequences[i];
      const int64_t slot = slots - 1 - static_cast<int64_t>(i);
      row_slots.values[i] = static_cast<double>(slot);
      lengths.values[i] = static_cast<double>(s.history.size());
      std::ranges::copy(s.history, history.values.begin() + slot * kCapacity);
      std::ranges::copy(Record(s), edits.values.begin() + slot * kLogitsEditWords);
      for (int64_t word = 0; word < allowed.dim(1); ++word) {
        uint32_t bits = 0;
        for (const int token : s.allowed) bits |= token / 32 == word ? 1U << (token % 32) : 0;
        allowed.at(slot, word) = static_cast<int32_t>(bits);
      }
    }
    // Rows behind those of the sequences are not edited.
    for (size_t r = sequences.size(); r < row_slots.values.size(); ++r) row_slots.values[r] = -1;
    for (const HostTensor& tensor : {row_slots, lengths, history, edits, allowed}) {
      tensors_.push_back(device.Upload(tensor));
    }
    tensors_.push_back(device.Upload(logits, 3));
    tensors_.push_back(device.Upload(Zeros(DType::kF32, {logits.dim(0), vocab}), 5));
    args_ = {.logits = tensors_[5].view(),
             .slots = tensors_[0].view(),
             .lengths = tensors_[1].view(),
             .history = tensors_[2].view(),
             .edits = tensors_[3].view(),
             .allowed = tensors_[4].view(),
             .out = tensors_[6].view()};
  }

  HostTensor Run(bool in_place) {
    if (in_place) args_.out = args_.logits;
    device_.backend().EditLogits(device_.stream(), args_);
    return device_.Download(tensors_[in_place ? 5 : 6]);
  }

 private:
  static constexpr int64_t kCapacity = 300;

  Device& device_;
  std::vector<DeviceTensor> tensors_;
  EditLogitsArgs args_;
};

OpResult CompareEdits(Device& device, int64_t vocab, const std::vector<Sequence>& sequences,
                      Mutation mutation) {
  std::mt19937_64 random(31);
  const auto rows = static_cast<int64_t>(sequences.size());
  const HostTensor logits = RandomTensor(random, DType::kF32, {rows + 1, vocab}, 4);
  OpResult result;
  for (const bool in_place : {false, true}) {
    const HostTensor got = EditBatch(device, logits, sequences).Run(in_place);
    for (int64_t r = 0; r <= rows; ++r) {
      std::vector<double> want(logits.values.begin() + r * vocab,
                               logits.values.begin() + (r + 1) * vocab);
      double size = 0;
      if (r < rows) {
        want = Expected(sequences[static_cast<size_t>(r)], want, mutation);
        size = 40;
      }
      // A few roundings of numbers up to the largest; a row that is not edited stays as it is.
      for (int64_t t = 0; t < vocab; ++t) {
        const double bound = size == 0 ? 0 : 1e-6 * std::max(size, std::abs(want[t]));
        result.Add(got.at(r, t), want[static_cast<size_t>(t)], std::isinf(bound) ? 0 : bound);
      }
    }
  }
  return result;
}

/// A text of few different tokens, which repeats itself.
Tokens Babble(int length, int vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  const Tokens phrase = {7, 3, vocab - 1, 3, 11, 0, 5};
  Tokens tokens;
  while (static_cast<int>(tokens.size()) < length) {
    if (random() % 3 == 0) {
      tokens.push_back(static_cast<int>(random() % static_cast<uint64_t>(vocab)));
    } else {
      const auto begin = static_cast<ptrdiff_t>(random() % 3);
      tokens.insert(tokens.end(), phrase.begin() + begin, phrase.end());
    }
  }
  tokens.resize(static_cast<size_t>(length));
  return tokens;
}

OpCase EditCase(std::string name, int64_t vocab, Sequence s, std::vector<Mutation> must_fail) {
  Sequence other;  // a neighbour with everything on, and one without a history
  other.history = Babble(50, static_cast<int>(vocab), 8);
  other.num_prompt = 9;
  other.repetition = 1.3;
  other.presence = 1;
  other.dry_multiplier = 0.5;
  other.biases = {{2, -3.5}};
  Sequence fresh = other;
  fresh.history = {};
  fresh.num_prompt = 0;
  return {"EditLogits/" + std::move(name),
          [=](Device& device, Mutation mutation) {
            return CompareEdits(device, vocab, {other, s, fresh}, mutation);
          },
          std::move(must_fail)};
}

Sequence Said(int vocab, int length = 200, int num_prompt = 60) {
  Sequence s;
  s.history = Babble(length, vocab, 5);
  s.num_prompt = num_prompt;
  return s;
}

/// Tokens that Sample drew stand in the history at the positions of their counters, and the next
/// edit counts them: rows of a presence penalty that forbids what was said never say it again.
std::string DrawsBecomeHistory(Device& device) {
  constexpr int64_t kVocab = 40;
  constexpr int64_t kSlots = 3;
  Sequence s;
  s.presence = 1000;  // beyond what a request may ask for, so that nothing is said twice
  HostTensor edits = Zeros(DType::kI32, {kSlots, kLogitsEditWords});
  std::ranges::copy(Record(s), edits.values.begin() + kLogitsEditWords);
  const auto constant = [&](DType dtype, double value) {
    return device.Upload(Tensor(dtype, {1}, {value}));
  };
  const DeviceTensor table = device.Upload(edits);
  const DeviceTensor history = device.Upload(Zeros(DType::kI32, {kSlots, kVocab}));
  const DeviceTensor allowed = device.Upload(Zeros(DType::kI32, {kSlots, 2}));
  const DeviceTensor last = device.Upload(Zeros(DType::kI32, {kSlots}));
  const DeviceTensor slot = constant(DType::kI32, 1);
  const DeviceTensor temperature = constant(DType::kF32, 1);
  const DeviceTensor off = constant(DType::kF32, 0);
  const DeviceTensor top_k = constant(DType::kI32, 0);
  const DeviceTensor seed = constant(DType::kU64, 5);
  const DeviceTensor out = constant(DType::kI32, 0);
  std::vector<bool> said(kVocab);
  Tokens drawn;
  for (int position = 0; position < kVocab; ++position) {
    const DeviceTensor logits = device.Upload(Zeros(DType::kF32, {1, kVocab}));
    const DeviceTensor length = constant(DType::kI32, position);
    const DeviceTensor counter =
        device.Upload(Tensor(DType::kU64, {1, 2}, {static_cast<double>(position), 0}));
    device.backend().EditLogits(device.stream(), {.logits = logits.view(),
                                                  .slots = slot.view(),
                                                  .lengths = length.view(),
                                                  .history = history.view(),
                                                  .edits = table.view(),
                                                  .allowed = allowed.view(),
                                                  .out = logits.view()});
    device.backend().Sample(device.stream(), {.logits = logits.view(),
                                              .temperature = temperature.view(),
                                              .top_k = top_k.view(),
                                              .top_p = temperature.view(),
                                              .min_p = off.view(),
                                              .seed = seed.view(),
                                              .counter = counter.view(),
                                              .bitmask = {},
                                              .out = out.view(),
                                              .slots = slot.view(),
                                              .last_tokens = last.view(),
                                              .history = history.view()});
    const auto token = static_cast<int>(device.Download(out).values[0]);
    if (said[static_cast<size_t>(token)]) return fmt::format("drew {} twice", token);
    said[static_cast<size_t>(token)] = true;
    drawn.push_back(token);
  }
  const HostTensor kept = device.Download(history);
  for (int64_t i = 0; i < kVocab; ++i) {
    if (kept.at(1, i) != drawn[static_cast<size_t>(i)]) return "the history is not what was drawn";
    if (kept.at(0, i) != 0 || kept.at(2, i) != 0) return "a draw went to another slot";
  }
  return "";
}

}  // namespace

std::vector<OpCase> LogitsEditCases() {
  constexpr int kVocab = 100;
  constexpr int kLarge = 20011;  // several blocks of a device
  std::vector<OpCase> cases;
  Sequence s = Said(kVocab);
  s.repetition = 1.7;
  cases.push_back(EditCase("repetition", kVocab, s, {}));
  s.repetition = 0.8;
  cases.push_back(EditCase("repetition_rewarded", kVocab, s, {}));
  s = Said(kVocab);
  s.presence = 0.7;
  s.frequency = 0.3;
  cases.push_back(EditCase("presence_frequency", kVocab, s, {Mutation::kCountPrompt}));
  s.frequency = -0.2;
  cases.push_back(EditCase("frequency_rewarded", kVocab, s, {Mutation::kCountPrompt}));
  s = Said(kVocab);
  s.dry_multiplier = 0.8;
  cases.push_back(EditCase("dry", kVocab, s, {Mutation::kLongerMatch}));
  s.dry_range = 40;
  s.breakers = {3};
  s.dry_allowed_length = 1;
  cases.push_back(EditCase("dry_range_breakers", kVocab, s, {Mutation::kLongerMatch}));
  s = Said(kVocab);
  s.history.assign(150, 4);  // one token for ever: the longest match is bounded
  s.dry_multiplier = 1e-9;
  cases.push_back(EditCase("dry_endless", kVocab, s, {}));
  s = Said(kVocab);
  s.biases = {{0, 5}, {99, -100}, {17, 0.25}, {3, 1}};
  cases.push_back(EditCase("bias", kVocab, s, {Mutation::kSkipBias}));
  const int last = s.history.back();
  const int before = s.history[s.history.size() - 2];
  s.bans = {{{17}},           {{last, 20}}, {{before, last, 21}}, {{last, before, 22}},
            {{23, last, 24}}, {{30}, 200},  {{31}, 201},          {{17}}};
  cases.push_back(EditCase("bans", kVocab, s, {Mutation::kSkipBias}));
  s.allowed = {0, 3, 17, 31, 32, 63, 64, 99};
  cases.push_back(EditCase("allowed", kVocab, s, {Mutation::kAllowAll}));
  s = Said(kLarge, 290, 100);
  s.repetition = 1.2;
  s.presence = 0.5;
  s.frequency = 0.1;
  s.dry_multiplier = 0.4;
  s.breakers = {0};
  s.biases = {{kLarge - 1, 2}, {8191, -4}, {8192, 6}, {3, 7}};
  s.bans = {{{16384}}, {{s.history.back(), 16383}}};
  for (int t = 0; t < kLarge; t += 2) s.allowed.push_back(t);
  cases.push_back(EditCase(
      "all", kLarge, s,
      {Mutation::kCountPrompt, Mutation::kLongerMatch, Mutation::kSkipBias, Mutation::kAllowAll}));
  return cases;
}

std::vector<PropertyCase> LogitsEditProperties() {
  return {{"EditLogits/draws_become_history", DrawsBecomeHistory}};
}

}  // namespace gale::test
