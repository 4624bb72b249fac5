#include "scheduler/fair_shares.h"

#include <deque>
#include <map>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "scheduler/waiting_line.h"

namespace gale {
namespace {

class FairSharesTest : public ::testing::Test {
 protected:
  explicit FairSharesTest(Fairness fairness = Fairness::kShares) : shares_(fairness, 64) {}

  /// One that waits, with a prompt of so many tokens.
  Sequence& Arrive(const std::string& client, int num_prompt = 10) {
    auto request = std::make_shared<Request>();
    request->id = seqs_.size() + 1;
    request->client = client;
    Sequence& seq = seqs_.emplace_back();
    seq.id = seqs_.size();
    seq.request = std::move(request);
    seq.tokens.resize(static_cast<size_t>(num_prompt));
    seq.num_prompt = num_prompt;
    shares_.Arrive(seq);
    line_.Push(seq);
    return seq;
  }
  /// Computes `num_tokens` of it, to its end.
  void Serve(Sequence& seq, int num_tokens) {
    line_.Remove(seq);
    shares_.Charge(seq, 0, num_tokens);
    shares_.Leave(seq);
  }

  FairShares shares_;
  std::unique_ptr<AdmissionPolicy> policy_ = MakePriorityPolicy();
  WaitingLine line_{*policy_, shares_};
  std::deque<Sequence> seqs_;
};

TEST_F(FairSharesTest, OneClientIsServedInOrder) {
  for (int i = 0; i < 5; ++i) Arrive("a", 50 - i);
  for (SeqId id = 1; id <= 5; ++id) {
    EXPECT_EQ(line_.front().id, id);
    Serve(line_.front(), 100);
  }
  EXPECT_TRUE(line_.empty());
}

TEST_F(FairSharesTest, ALightClientGoesBeforeAGreedyOnesQueue) {
  for (int i = 0; i < 100; ++i) Arrive("greedy");
  Serve(line_.front(), 50);
  Serve(line_.front(), 50);
  const Sequence& light = Arrive("light");
  Serve(line_.front(), 50);  // both had as much when "light" came
  EXPECT_EQ(&line_.front(), &light);
}

TEST_F(FairSharesTest, PrioritiesComeFirst) {
  Arrive("a");
  auto urgent = std::make_shared<Request>();
  urgent->client = "b";
  urgent->priority = -1;
  Sequence& seq = seqs_.emplace_back();
  seq.request = std::move(urgent);
  shares_.Arrive(seq);
  shares_.Charge(seq, 0, 1000);
  line_.Push(seq);
  EXPECT_EQ(&line_.front(), &seq);
}

TEST_F(FairSharesTest, WhoWasAwaySavesNothingUp) {
  Arrive("b");
  for (int i = 0; i < 50; ++i) {
    Arrive("b");
    Serve(line_.front(), 100);
  }
  for (int i = 0; i < 20; ++i) Arrive("a");
  for (int i = 0; i < 20; ++i) Arrive("b");
  std::map<std::string, int> turns;
  for (int i = 0; i < 10; ++i) {
    ++turns[line_.front().request->client];
    Serve(line_.front(), 100);
  }
  EXPECT_EQ(turns["a"], 5);
}

TEST_F(FairSharesTest, SharesAreEqualWhateverTheRequestsSizes) {
  for (int i = 0; i < 40; ++i) Arrive("big", 0);
  for (int i = 0; i < 400; ++i) Arrive("small", 0);
  std::map<std::string, int> served;
  for (int i = 0; i < 220; ++i) {
    Sequence& seq = line_.front();
    const int tokens = seq.request->client == "big" ? 100 : 10;
    served[seq.request->client] += tokens;
    Serve(seq, tokens);
  }
  EXPECT_NEAR(served["big"], served["small"], 100);
}

TEST_F(FairSharesTest, WhatIsComputedAgainIsChargedOnce) {
  Sequence& a = Arrive("a", 0);
  const Sequence& b = Arrive("b");
  shares_.Charge(a, 0, 30);
  shares_.Charge(a, 0, 20);
  shares_.Charge(a, 20, 40);
  EXPECT_EQ(shares_.Served(a), 40);
  EXPECT_EQ(shares_.Served(b), 0);
}

TEST_F(FairSharesTest, APromptsTokenCountsAQuarterOfAGeneratedOne) {
  Sequence& a = Arrive("a", 40);
  shares_.Charge(a, 0, 30);
  EXPECT_EQ(shares_.Served(a), 7.5);
  shares_.Charge(a, 30, 50);
  EXPECT_EQ(shares_.Served(a), 20);
}

TEST_F(FairSharesTest, WithoutTurnsAnAnswerIsNeverOver) {
  Sequence& seq = Arrive("a");
  seq.num_computed = 90000;
  EXPECT_FALSE(shares_.IsOver(seq));
}

class NoFairnessTest : public FairSharesTest {
 protected:
  NoFairnessTest() : FairSharesTest(Fairness::kNone) {}
};

TEST_F(NoFairnessTest, IsFirstComeFirstServed) {
  for (int i = 0; i < 6; ++i) Arrive(i < 4 ? "greedy" : "light");
  for (SeqId id = 1; id <= 6; ++id) {
    EXPECT_EQ(line_.front().id, id);
    Serve(line_.front(), 100);
  }
}

class TurnsTest : public FairSharesTest {
 protected:
  TurnsTest() : FairSharesTest(Fairness::kTurns) {}
};

TEST_F(TurnsTest, GrowAndComeLater) {
  Sequence& longer = Arrive("a", 40);
  const int first = longer.turn.end - longer.num_prompt;
  longer.num_computed = longer.turn.end - 1;
  EXPECT_FALSE(shares_.IsOver(longer));
  ++longer.num_computed;
  EXPECT_TRUE(shares_.IsOver(longer));
  const double deadline = longer.turn.deadline;
  line_.Remove(longer);
  shares_.NextTurn(longer);
  line_.Push(longer);
  EXPECT_FALSE(shares_.IsOver(longer));
  EXPECT_EQ(longer.turn.end - longer.num_prompt, first + 2 * first);
  EXPECT_EQ(longer.turn.deadline, 2 * deadline);
  EXPECT_EQ(&line_.front(), &Arrive("a", 40));
}

TEST_F(TurnsTest, AShortPromptOvertakesALongOne) {
  Arrive("a", 4000);
  EXPECT_EQ(&line_.front(), &Arrive("a", 20));
}

TEST_F(TurnsTest, NobodyIsOvertakenForever) {
  const Sequence& long_prompt = Arrive("a", 400);
  int num_overtaken = 0;
  while (&Arrive("a", 20) == &line_.front()) {
    Serve(line_.front(), 1000);
    ASSERT_LT(++num_overtaken, 1000);
  }
  EXPECT_EQ(&line_.front(), &long_prompt);
  EXPECT_GT(num_overtaken, 10);
}

}  // namespace
}  // namespace gale
