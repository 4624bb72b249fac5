// Answers to generation requests over an engine that says what it is told to, without sockets.
#include "server/generation_reply.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine_test_support.h"

namespace gale::server {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kPrompt = "ab";

class GenerationReplyTest : public ::testing::Test {
 protected:
  void StartEngineThatSays(const std::string& text, int fails_after = -1) {
    auto executor = std::make_unique<FakeExecutor>(Script(kPrompt.size(), text));
    if (fails_after >= 0) executor->FailAfter(fails_after);
    EngineParts parts = FakeParts(std::move(executor));
    parts.config.overlap = false;
    engine_ = StartEngine(std::move(parts));
  }

  void Ask(GenerationRequest request) {
    exchange_ = std::make_shared<HttpExchange>(HttpRequest{}, [this] { Read(); });
    request.sampling.max_tokens = 100;
    AnswerHead head{.id = "x", .created = 1, .model = "m", .fingerprint = "f", .is_chat = true};
    std::vector<GenerationReply::Prompt> prompts(1);
    prompts[0].tokens = Bytes(kPrompt);
    std::make_shared<GenerationReply>(*engine_, metrics_, exchange_, std::move(head),
                                      std::move(request), std::move(prompts))
        ->Start();
  }

  void Read() {
    const std::lock_guard lock(mutex_);
    HttpExchange::Output news = exchange_->Take();
    answer_ += news.bytes;
    ended_ |= news.ended;
    changed_.notify_all();
  }
  std::string Answer() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_; });
    return answer_;
  }

  ServerMetrics metrics_;
  std::shared_ptr<HttpExchange> exchange_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string answer_;
  bool ended_ = false;
  std::unique_ptr<LlmEngine> engine_;  ///< first to go: its thread calls the rest
};

GenerationRequest Chat(bool stream) {
  GenerationRequest request;
  request.is_chat = true;
  request.stream = stream;
  return request;
}

TEST_F(GenerationReplyTest, Whole) {
  StartEngineThatSays("Hi \"you\"\n");
  Ask(Chat(/*stream=*/false));
  const std::string answer = Answer();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr(R"("content":"Hi \"you\"\n")"));
  EXPECT_THAT(answer, HasSubstr(R"("finish_reason":"stop")"));
  EXPECT_THAT(answer, HasSubstr(R"("prompt_tokens":2,"completion_tokens":10)"));
}

TEST_F(GenerationReplyTest, StreamEndsWithDone) {
  StartEngineThatSays("Hi");
  Ask(Chat(/*stream=*/true));
  const std::string answer = Answer();
  EXPECT_THAT(answer, HasSubstr(R"("delta":{"role":"assistant","content":""})"));
  EXPECT_THAT(answer, HasSubstr(R"("delta":{"content":"H"})"));
  EXPECT_THAT(answer, EndsWith("data: [DONE]\n\n\r\n0\r\n\r\n"));
  EXPECT_THAT(answer, Not(HasSubstr("usage")));
}

TEST_F(GenerationReplyTest, FailureBeforeTheFirstTokenIsAStatus) {
  for (const bool stream : {false, true}) {
    answer_.clear();
    ended_ = false;
    StartEngineThatSays("Hi", /*fails_after=*/0);
    Ask(Chat(stream));
    EXPECT_THAT(Answer(), StartsWith("HTTP/1.1 500 "));
    EXPECT_THAT(answer_, HasSubstr(R"("type":"server_error")"));
  }
}

TEST_F(GenerationReplyTest, FailureInAStreamIsAnEvent) {
  StartEngineThatSays("Hi there", /*fails_after=*/3);
  Ask(Chat(/*stream=*/true));
  const std::string answer = Answer();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\ndata: {\"error\":{\"message\":\"the device fell\""));
  EXPECT_THAT(answer, Not(HasSubstr("finish_reason\":\"")));
  EXPECT_THAT(answer, EndsWith("data: [DONE]\n\n\r\n0\r\n\r\n"));
}

TEST_F(GenerationReplyTest, AClientThatGoesEndsItsRequest) {
  EngineParts parts = FakeParts(std::make_unique<FakeExecutor>(HashNextToken));
  engine_ = StartEngine(std::move(parts));
  GenerationRequest request = Chat(/*stream=*/true);
  request.sampling.ignore_eos = true;
  Ask(std::move(request));
  exchange_->Gone();
  while (engine_->stats().running_seqs + engine_->stats().waiting_seqs > 0) {
    std::this_thread::yield();
  }
  exchange_->Write("nobody");
  EXPECT_EQ(exchange_->Take().ended, false);
}

}  // namespace
}  // namespace gale::server
