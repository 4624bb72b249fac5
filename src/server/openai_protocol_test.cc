#include "server/openai_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/body_reader.h"
#include "server/embedding_reply.h"

namespace gale::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

boost::json::object Body(std::string_view text) {
  ApiResult<boost::json::object> body = ParseBody(text);
  EXPECT_TRUE(body.has_value()) << body.error().message;
  return *std::move(body);
}

ApiResult<GenerationRequest> Chat(const std::string& fields) {
  return ParseChatRequest(
      Body(R"({"messages": [{"role": "user", "content": "Hi"}])" + fields + "}"), {});
}

ApiResult<GenerationRequest> Completion(const std::string& fields) {
  return ParseCompletionRequest(Body(R"({"prompt": "Hi")" + fields + "}"), {});
}

TEST(ParseBody, SaysWhereItIsWrong) {
  EXPECT_THAT(ParseBody(R"({"a": x})").error().message, HasSubstr("byte 6"));
  EXPECT_EQ(ParseBody("{").error().code, "invalid_json");
  EXPECT_EQ(ParseBody("{} {}").error().code, "invalid_json");
  EXPECT_EQ(ParseBody("3").error().code, "invalid_json");
  EXPECT_EQ(ParseBody("{\"a\": \"\xff\"}").error().code, "invalid_json");
  EXPECT_EQ(ParseBody(std::string(100, '[')).error().code, "invalid_json");
  EXPECT_TRUE(ParseBody(" {} \r\n").has_value());
}

TEST(ParseChatRequest, ReadsSampling) {
  const auto request = Chat(
      R"(, "temperature": 0.5, "top_k": -1, "seed": 7, "n": 2.0, "stop": "x", "logit_bias":
      {"5": -100, "6": 1.5}, "min_tokens": 3, "max_tokens": 4, "max_completion_tokens": 9,
      "frequency_penalty": 1, "bad_words": ["a", "b"], "top_p": null, "unknown": {"x": []})");
  ASSERT_TRUE(request.has_value()) << request.error().message;
  const SamplingParams& sampling = request->sampling;
  EXPECT_EQ(sampling.temperature, 0.5F);
  EXPECT_EQ(sampling.top_k, 0);
  EXPECT_EQ(sampling.top_p, SamplingParams().top_p);
  EXPECT_EQ(sampling.seed, 7U);
  EXPECT_EQ(sampling.n, 2);
  EXPECT_THAT(sampling.stop, ElementsAre("x"));
  EXPECT_EQ(sampling.logit_bias.size(), 2U);
  EXPECT_EQ(sampling.min_tokens, 3);
  EXPECT_EQ(sampling.max_tokens, 9);
  EXPECT_EQ(sampling.frequency_penalty, 1.0F);
  EXPECT_THAT(sampling.bad_words, ElementsAre("a", "b"));
}

TEST(ParseChatRequest, NamesTheFieldThatIsWrong) {
  for (const char* fields :
       {R"("temperature": "hot")", R"("n": 1.5)", R"("seed": [])", R"("stop": [1])",
        R"("stream": 1)", R"("logit_bias": {"x": 1})", R"("logit_bias": {"1": "a"})", R"("n": -1)",
        R"("n": 100000)", R"("max_tokens": -1)", R"("max_tokens": 1e300)", R"("model": {})",
        R"("stop_token_ids": ["a"])", R"("top_logprobs": 21, "logprobs": true)",
        R"("speculative": "fast")", R"("speculative": 1)"}) {
    const auto request = Chat(std::string(", ") + fields);
    ASSERT_FALSE(request.has_value()) << fields;
    EXPECT_EQ(request.error().status, 400);
    EXPECT_THAT(fields, HasSubstr("\"" + request.error().param + "\""));
  }
}

TEST(ParseChatRequest, WhatItCannotDoIsNoSecret) {
  for (const char* fields :
       {R"("response_format": {"type": "json_object"})", R"("tools": [{}])", R"("functions": [{}])",
        R"("guided_json": {"a": 1})", R"("structured_outputs": {"regex": "a"})",
        R"("skip_special_tokens": false)", R"("chat_template": "x")", R"("prompt_logprobs": 1)"}) {
    const auto request = Chat(std::string(", ") + fields);
    ASSERT_FALSE(request.has_value()) << fields;
    EXPECT_EQ(request.error().code, "unsupported_parameter");
  }
  EXPECT_TRUE(Chat(R"(, "response_format": {"type": "text"}, "tools": [])").has_value());
  EXPECT_TRUE(Chat(R"(, "tools": [{}], "tool_choice": "none")").has_value());
}

TEST(ParseChatRequest, BeamsAreAsManyAsSamplesAreLookedAt) {
  const auto request = Chat(R"(, "use_beam_search": true, "n": 2, "best_of": 4)");
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->sampling.num_beams, 4);
  EXPECT_FALSE(request->sampling.best_of.has_value());
}

TEST(ParseMessages, BecomeWhatTemplatesKnow) {
  const auto messages = ParseMessages(Body(R"({"messages": [
      {"role": "developer", "content": "Be kind."},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": null, "tool_calls": [
          {"function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
      {"role": "tool", "tool_call_id": "1", "content": "ok"}]})"));
  ASSERT_TRUE(messages.has_value()) << messages.error().message;
  EXPECT_EQ(*messages,
            R"([{"role":"system","content":"Be kind."},{"role":"user","content":"a\nb"},)"
            R"({"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f",)"
            R"("arguments":{"x":1}}}]},{"role":"tool","tool_call_id":"1","content":"ok"}])");
}

TEST(ParseCompletionRequest, PromptsOfEveryKind) {
  const auto kinds = [](const char* prompt) {
    const auto inputs = ParseInputs(Body(std::string(R"({"prompt": )") + prompt + "}"), "prompt");
    return inputs ? static_cast<int>(inputs->size()) : -1;
  };
  EXPECT_EQ(kinds(R"("a")"), 1);
  EXPECT_EQ(kinds(R"(["a", "b"])"), 2);
  EXPECT_EQ(kinds("[1, 2, 3]"), 1);
  EXPECT_EQ(kinds("[[1], [2, 3]]"), 2);
  for (const char* wrong : {"[]", "3", "{}", "[1, \"a\"]", "[[1.5]]", "[-1]", "[[99999999999]]"}) {
    EXPECT_EQ(kinds(wrong), -1) << wrong;
  }
}

TEST(ParseCompletionRequest, ChoicesAreBounded) {
  std::string prompts = "[[1]";
  for (int i = 1; i < 600; ++i) prompts += ",[1]";
  const auto parse = [&prompts](int n) {
    return ParseCompletionRequest(
        Body("{\"prompt\": " + prompts + "], \"n\": " + std::to_string(n) + "}"), {});
  };
  EXPECT_TRUE(parse(1).has_value());
  EXPECT_THAT(parse(2).error().message, HasSubstr("1200 choices"));
}

TEST(ParseCompletionRequest, Defaults) {
  const auto request = Completion("");
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->sampling.max_tokens, 16);
  EXPECT_FALSE(request->max_tokens_given);
  EXPECT_FALSE(request->sampling.logprobs.has_value());
  const auto scored = Completion(R"(, "echo": true, "logprobs": 0, "max_tokens": 0)");
  ASSERT_TRUE(scored.has_value());
  EXPECT_EQ(scored->sampling.prompt_logprobs, 0);
  EXPECT_EQ(Completion(R"(, "suffix": "x")").error().code, "unsupported_parameter");
}

TEST(ParseEmbeddingRequest, ReadsInputsAndForm) {
  const auto parse = [](const std::string& fields) {
    return ParseEmbeddingRequest(Body(R"({"input": ["a", [3, 4]])" + fields + "}"), 64);
  };
  const auto request = parse(R"(, "encoding_format": "base64", "dimensions": 8, "timeout": 2.5)");
  ASSERT_TRUE(request.has_value()) << request.error().message;
  ASSERT_EQ(request->inputs.size(), 2U);
  EXPECT_EQ(std::get<std::string>(request->inputs[0]), "a");
  EXPECT_THAT(std::get<std::vector<TokenId>>(request->inputs[1]), ElementsAre(3, 4));
  EXPECT_TRUE(request->is_base64);
  EXPECT_EQ(request->dimensions, 8);
  EXPECT_EQ(request->timeout_s, 2.5F);
  EXPECT_FALSE(parse("")->is_base64);
  for (const auto& [fields, param] : {std::pair{R"(, "encoding_format": "hex")", "encoding_format"},
                                      {R"(, "dimensions": 65)", "dimensions"},
                                      {R"(, "dimensions": 0)", "dimensions"},
                                      {R"(, "timeout": -1)", "timeout"}}) {
    EXPECT_EQ(parse(fields).error().param, param);
  }
  EXPECT_EQ(ParseEmbeddingRequest(Body(R"({"input": []})"), 64).error().param, "input");
  EXPECT_EQ(ParseEmbeddingRequest(Body(R"({"prompt": "a"})"), 64).error().param, "input");
}

TEST(EmbeddingForm, IsThatOfOpenAi) {
  EXPECT_EQ(JsonNumbers(std::vector<float>{0.25F, -1, 3e-5F}), "[0.25,-1,3e-05]");
  EXPECT_EQ(Base64Floats(std::vector<float>{1, -2}), "AACAPwAAAMA=");
  EXPECT_EQ(Base64Floats({}), "");
  EXPECT_THAT(Shortened({0.6F, 0, 0.8F}, 2), ElementsAre(1, 0));
  EXPECT_THAT(Shortened({0.6F, 0.8F}, 0), ElementsAre(0.6F, 0.8F));
}

}  // namespace
}  // namespace gale::server
