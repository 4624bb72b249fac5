// A rank driven by hand-written plans, with a tiny model on the CPU.
#include "runner/model_runner.h"

#include <numeric>

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "models/load_model.h"
#include "runner/local_executor.h"
#include "runner/worker.h"

namespace gale {
namespace {

constexpr StepLimits kLimits{.max_tokens = 64, .max_seqs = 8, .max_model_len = 128};

std::unique_ptr<Worker> MakeWorker(const StepLimits& limits, const char* device = "cpu") {
  auto backend = *CreateBackend(device, {.threads = 1});
  Result<LoadedModel> loaded =
      LoadModel({.model = GALE_SOURCE_DIR "/tests/data/models/qwen3_tied"}, *backend);
  if (!loaded) ADD_FAILURE() << loaded.error().message;
  auto worker = *Worker::Create(std::move(backend), std::move(loaded->model), 16);
  EXPECT_TRUE(worker->Allocate(32, 0, limits));
  return worker;
}

std::vector<TokenId> Prompt(int num_tokens) {
  std::vector<TokenId> tokens(static_cast<size_t>(num_tokens));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i * 31 % 113);
  return tokens;
}

ScheduledSeq First(SeqId id, const std::vector<TokenId>& tokens, int num_tokens, BlockList blocks,
                   SamplingParams sampling = {}, int32_t num_computed = 0) {
  ScheduledSeq seq;
  seq.id = id;
  seq.num_tokens = num_tokens;
  seq.first_time = std::make_shared<const NewSeqData>(
      NewSeqData{.tokens = tokens,
                 .num_prompt = static_cast<int32_t>(tokens.size()),
                 .num_computed = num_computed,
                 .sample_index = 0,
                 .sampling = std::move(sampling)});
  seq.new_blocks = {std::move(blocks)};
  seq.sample = num_tokens == static_cast<int>(tokens.size());
  seq.logits = seq.sample ? LogitsRows::kLast : LogitsRows::kNone;
  return seq;
}

ScheduledSeq Next(SeqId id, int num_tokens, bool sample) {
  ScheduledSeq seq;
  seq.id = id;
  seq.num_tokens = num_tokens;
  seq.sample = sample;
  seq.logits = sample ? LogitsRows::kLast : LogitsRows::kNone;
  return seq;
}

SchedulerOutput Plan(uint64_t step, std::vector<ScheduledSeq> seqs) {
  SchedulerOutput plan;
  plan.step = step;
  plan.seqs = std::move(seqs);
  return plan;
}

ModelRunnerOutput RunStep(Worker& worker, const SchedulerOutput& plan) {
  worker.runner().Forward(plan);
  worker.runner().Sample({});
  Result<ModelRunnerOutput> output = worker.runner().Collect(plan.step);
  EXPECT_TRUE(output) << output.error().message;
  return *std::move(output);
}

SamplingParams Greedy() {
  SamplingParams sampling;
  sampling.temperature = 0;
  return sampling;
}

TEST(ModelRunnerTest, ChunksBlocksAndNeighboursChangeNothing) {
  const std::vector<TokenId> prompt = Prompt(40);
  const auto whole = MakeWorker(kLimits);
  std::vector<TokenId> expected =
      RunStep(*whole, Plan(1, {First(1, prompt, 40, {1, 2, 3}, Greedy())})).seqs[0].tokens;
  ASSERT_EQ(expected.size(), 1);
  expected.push_back(RunStep(*whole, Plan(2, {Next(1, 1, true)})).seqs[0].tokens.at(0));

  const auto chunked = MakeWorker(kLimits);
  ModelRunnerOutput output = RunStep(*chunked, Plan(1, {First(9, prompt, 17, {30, 4}, Greedy())}));
  EXPECT_TRUE(output.seqs[0].tokens.empty());
  ScheduledSeq rest = Next(9, 23, true);
  rest.new_blocks = {{11}};
  output = RunStep(*chunked, Plan(2, {First(8, Prompt(20), 20, {5, 6}), rest}));
  ASSERT_EQ(output.seqs.size(), 2);
  EXPECT_EQ(output.seqs[1].id, 9);
  EXPECT_EQ(output.seqs[1].tokens.at(0), expected[0]);
  output = RunStep(*chunked, Plan(3, {Next(9, 1, true), Next(8, 1, true)}));
  EXPECT_EQ(output.seqs[0].tokens.at(0), expected[1]);
}

TEST(ModelRunnerTest, CopiedBlocksHoldTheSameKv) {
  const std::vector<TokenId> prompt = Prompt(20);
  const auto worker = MakeWorker(kLimits);
  RunStep(*worker, Plan(1, {First(1, prompt, 20, {1, 2}, Greedy())}));
  const TokenId expected = RunStep(*worker, Plan(2, {Next(1, 1, true)})).seqs[0].tokens.at(0);

  // Another sequence that starts from copies of both blocks, with the prompt's 20 positions known.
  std::vector<TokenId> tokens = prompt;
  tokens.push_back(
      RunStep(*worker, Plan(3, {First(2, prompt, 20, {5, 6}, Greedy())})).seqs[0].tokens.at(0));
  ScheduledSeq fork = First(3, tokens, 1, {7, 8}, Greedy(), /*num_computed=*/20);
  fork.sample = true;
  SchedulerOutput plan = Plan(4, {fork});
  plan.copies = {{.group = 0, .src = 1, .dst = 7}, {.group = 0, .src = 2, .dst = 8}};
  EXPECT_EQ(RunStep(*worker, plan).seqs[0].tokens.at(0), expected);
}

TEST(ModelRunnerTest, LogitsTilesChangeNothing) {
  SamplingParams scored = Greedy();
  scored.prompt_logprobs = 2;
  scored.logprobs = 2;
  std::vector<ModelRunnerOutput> outputs;
  for (const size_t rows : {64, 7, 1}) {
    StepLimits limits = kLimits;
    limits.logits_bytes = rows * 113 * sizeof(float);
    const auto worker = MakeWorker(limits);
    std::vector<ScheduledSeq> seqs;
    for (SeqId id = 1; id <= 3; ++id) {
      seqs.push_back(First(id, Prompt(15), 15, {static_cast<BlockId>(id)}, scored));
      seqs.back().logits = LogitsRows::kAll;
    }
    outputs.push_back(RunStep(*worker, Plan(1, seqs)));
  }
  for (const ModelRunnerOutput& output : outputs) {
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(output.seqs[i].tokens, outputs[0].seqs[0].tokens);
      ASSERT_EQ(output.seqs[i].logprobs.size(), 1);
      ASSERT_EQ(output.seqs[i].prompt_logprobs.size(), 14);
      for (size_t k = 0; k < 14; ++k) {
        const PositionLogprobs& expected = outputs[0].seqs[0].prompt_logprobs[k];
        EXPECT_EQ(output.seqs[i].prompt_logprobs[k].chosen.token, Prompt(15)[k + 1]);
        EXPECT_EQ(output.seqs[i].prompt_logprobs[k].chosen.logprob, expected.chosen.logprob);
      }
    }
  }
}

TEST(ModelRunnerTest, StepOfAForgottenSequenceFailsAndTheRestLives) {
  const auto worker = MakeWorker(kLimits);
  RunStep(*worker, Plan(1, {First(1, Prompt(4), 4, {1}, Greedy())}));
  SchedulerOutput plan = Plan(2, {First(2, Prompt(5), 5, {2}, Greedy())});
  plan.finished = {1};
  RunStep(*worker, plan);
  worker->runner().Forward(Plan(3, {Next(1, 1, true)}));
  worker->runner().Sample({});
  const Result<ModelRunnerOutput> failed = worker->runner().Collect(3);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kInternal);
  EXPECT_EQ(RunStep(*worker, Plan(4, {Next(2, 1, true)})).seqs[0].tokens.size(), 1);
}

/// One sequence beside others that come and go; steps are collected `lag` steps late.
std::vector<TokenId> RunSteps(Executor& executor, int lag) {
  constexpr int kSteps = 12;
  std::vector<TokenId> tokens;
  const auto collect = [&](int step) {
    if (step < 1) return;
    Result<ModelRunnerOutput> output = executor.Collect({static_cast<uint64_t>(step)});
    ASSERT_TRUE(output) << output.error().message;
    EXPECT_EQ(output->step, step);
    tokens.push_back(output->seqs[0].tokens.at(0));
  };
  for (int step = 1; step <= kSteps; ++step) {
    SchedulerOutput plan = Plan(static_cast<uint64_t>(step), {Next(1, 1, true)});
    if (step == 1) plan.seqs = {First(1, Prompt(10), 10, {1, 2}, Greedy())};
    if (step % 3 == 2) {
      // Takes the slot of its predecessor, which has ended while its last token was being drawn.
      const auto id = static_cast<SeqId>(100 + step);
      plan.seqs.push_back(First(id, Prompt(3 + step), 3 + step, {5, 6}));
      plan.finished = {id - 3};
    } else if (step > 2) {
      plan.seqs.push_back(Next(static_cast<SeqId>(100 + step - (step - 2) % 3), 1, true));
    }
    const StepHandle handle = executor.Launch(plan);
    executor.Sample(handle, {});
    collect(step - lag);
  }
  if (lag > 0) collect(kSteps);
  EXPECT_EQ(tokens.size(), kSteps);
  return tokens;
}

TEST(LocalExecutorTest, OverlappedStepsEqualSynchronousOnes) {
  LocalExecutor synchronous(MakeWorker(kLimits));
  LocalExecutor overlapped(MakeWorker(kLimits));
  EXPECT_EQ(RunSteps(overlapped, 1), RunSteps(synchronous, 0));
}

TEST(DirectExecutorTest, AStepStartsFromATokenThatTheHostHasNotRead) {
  LocalExecutor threaded(MakeWorker(kLimits));
  DirectExecutor synchronous(MakeWorker(kLimits));
  DirectExecutor overlapped(MakeWorker(kLimits));
  const std::vector<TokenId> expected = RunSteps(threaded, 0);
  EXPECT_EQ(RunSteps(synchronous, 0), expected);
  EXPECT_EQ(RunSteps(overlapped, 1), expected);
}

TEST(DirectExecutorTest, ADeviceBehindTheHostsBackComputesTheSame) {
  LocalExecutor threaded(MakeWorker(kLimits));
  const std::vector<TokenId> expected = RunSteps(threaded, 0);
  for (const int lag : {0, 1}) {
    DirectExecutor deferred(MakeWorker(kLimits, "deferred"));
    EXPECT_EQ(RunSteps(deferred, lag), expected);
    DirectExecutor with_graphs(MakeWorker(kLimits, "deferred"));
    while (with_graphs.UseIdleTime()) {
    }
    EXPECT_EQ(RunSteps(with_graphs, lag), expected);
  }
}

TEST(DirectExecutorTest, AStepTellsHowItRan) {
  DirectExecutor executor(MakeWorker(kLimits, "deferred"));
  const auto run = [&](const SchedulerOutput& plan) {
    executor.Sample(executor.Launch(plan), {});
    return *executor.Collect({plan.step});
  };
  SamplingParams logprobs = Greedy();
  logprobs.logprobs = 1;
  const ModelRunnerOutput prompts =
      run(Plan(1, {First(1, Prompt(9), 9, {1}, Greedy()), First(2, Prompt(5), 5, {2}, logprobs)}));
  EXPECT_EQ(prompts.kind, StepKind::kLayers);
  EXPECT_FALSE(prompts.idle_s);
  while (executor.UseIdleTime()) {
  }
  EXPECT_EQ(run(Plan(2, {Next(1, 1, true)})).kind, StepKind::kGraph);
  EXPECT_EQ(run(Plan(3, {Next(1, 1, true), Next(2, 1, true)})).kind, StepKind::kLayers);
  // With a chunk the layers are a graph, whatever is drawn behind them.
  EXPECT_EQ(run(Plan(4, {Next(1, 1, true), Next(2, 1, true), First(3, Prompt(9), 7, {3})})).kind,
            StepKind::kGraph);
  SchedulerOutput overlapped = Plan(5, {Next(1, 1, true)});
  executor.Sample(executor.Launch(overlapped), {});
  overlapped.step = 6;
  executor.Sample(executor.Launch(overlapped), {});
  EXPECT_FALSE(executor.Collect({5})->idle_s);
  EXPECT_TRUE(executor.Collect({6})->idle_s);
}

TEST(WorkerTest, RefusesABlockSizeThatTheAttentionDoesNotTake) {
  auto backend = *CreateBackend("cpu", {.threads = 1});
  auto loaded = LoadModel({.model = GALE_SOURCE_DIR "/tests/data/models/qwen3_tied"}, *backend);
  ASSERT_TRUE(loaded) << loaded.error().message;
  const auto worker = Worker::Create(std::move(backend), std::move(loaded->model), 13);
  ASSERT_FALSE(worker);
  EXPECT_EQ(worker.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(worker.error().message.find("block_tokens"), std::string::npos);
}

}  // namespace
}  // namespace gale
