#include "server/openai_answer.h"

#include <algorithm>
#include <utility>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "server/sse.h"

namespace gale::server {
namespace {

namespace json = boost::json;

constexpr double kLeastLogprob = -9999;  ///< JSON has no infinity

double Floored(float logprob) { return logprob > kLeastLogprob ? logprob : kLeastLogprob; }

json::array BytesJson(std::string_view bytes) {
  json::array array;
  for (const char c : bytes) array.push_back(static_cast<unsigned char>(c));
  return array;
}

json::object TokenJson(const Tokenizer& tokenizer, const TokenLogprob& token) {
  return {{"token", TokenText(tokenizer, token.token)},
          {"logprob", Floored(token.logprob)},
          {"bytes", BytesJson(tokenizer.TokenBytes(token.token))}};
}

int64_t NumCharacters(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; });
}

json::object HeadJson(const AnswerHead& head, const char* object) {
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", head.fingerprint}};
}

}  // namespace

json::object UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", 0}}}};
}

ChunkWriter::ChunkWriter(const AnswerHead& head, UsageIn usage_in)
    : is_chat_(head.is_chat), usage_in_(usage_in) {
  prefix_ = "data: " +
            json::serialize(HeadJson(head, is_chat_ ? "chat.completion.chunk" : "text_completion"));
  prefix_.back() = ',';  // goes on in place of the closing brace
  prefix_ += "\"choices\":[";
}

void ChunkWriter::Role(int index, const Usage& usage, std::string& out) const {
  fmt::format_to(std::back_inserter(out),
                 R"({}{{"index":{},"delta":{{"role":"assistant","content":""}},)"
                 R"("logprobs":null,"finish_reason":null}}])",
                 prefix_, index);
  End(usage, out);
}

void ChunkWriter::Delta(const ChoiceDelta& delta, const Usage& usage, std::string& out) const {
  out += prefix_;
  out += "{\"index\":";
  out += std::to_string(delta.index);
  out += is_chat_ ? ",\"delta\":{\"content\":" : ",\"text\":";
  AppendJsonString(delta.text, out);
  if (is_chat_) out += '}';
  out += ",\"logprobs\":";
  out += delta.logprobs.empty() ? "null" : delta.logprobs;
  out += ",\"finish_reason\":null";
  out += delta.more;
  out += "}]";
  End(usage, out);
}

void ChunkWriter::Finish(int index, FinishReason reason, const Usage& usage,
                         std::string& out) const {
  fmt::format_to(std::back_inserter(out),
                 R"({}{{"index":{},{},"logprobs":null,"finish_reason":"{}"}}])", prefix_, index,
                 is_chat_ ? "\"delta\":{}" : "\"text\":\"\"", FinishReasonName(reason));
  End(usage, out);
}

void ChunkWriter::Total(const Usage& usage, std::string& out) const {
  if (usage_in_ == UsageIn::kNoChunk) return;
  out += prefix_ + "],\"usage\":" + json::serialize(UsageJson(usage)) + "}\n\n";
}

void ChunkWriter::End(const Usage& usage, std::string& out) const {
  if (usage_in_ == UsageIn::kLastChunk) {
    out += ",\"usage\":null";
  } else if (usage_in_ == UsageIn::kEveryChunk) {
    out += ",\"usage\":" + json::serialize(UsageJson(usage));
  }
  out += "}\n\n";
}

std::string TokenText(const Tokenizer& tokenizer, TokenId token) {
  // Behind another token, where no decoder drops a leading space.
  IncrementalDetokenizer detokenizer(tokenizer, /*skip_special=*/false);
  detokenizer.Push(token);
  std::string text = detokenizer.Push(token);
  return text.empty() ? tokenizer.Decode(std::vector{token}, /*skip_special=*/false) : text;
}

json::array ChatLogprobs(const Tokenizer& tokenizer, std::span<const PositionLogprobs> positions) {
  json::array content;
  for (const PositionLogprobs& position : positions) {
    json::object entry = TokenJson(tokenizer, position.chosen);
    json::array top;
    for (const TokenLogprob& token : position.top) top.push_back(TokenJson(tokenizer, token));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return content;
}

void CompletionLogprobs::AddToken(const std::string& text) {
  tokens_.push_back(json::value(text));
  text_offset_.push_back(offset_);
  offset_ += NumCharacters(text);
}

void CompletionLogprobs::AddBare(const Tokenizer& tokenizer, TokenId token) {
  AddToken(TokenText(tokenizer, token));
  token_logprobs_.push_back(nullptr);
  top_logprobs_.push_back(nullptr);
}

void CompletionLogprobs::Add(const Tokenizer& tokenizer, const PositionLogprobs& position) {
  const std::string chosen = TokenText(tokenizer, position.chosen.token);
  AddToken(chosen);
  token_logprobs_.push_back(Floored(position.chosen.logprob));
  json::object top;
  for (const TokenLogprob& token : position.top) {
    top.emplace(TokenText(tokenizer, token.token), Floored(token.logprob));
  }
  if (!position.top.empty()) top.emplace(chosen, Floored(position.chosen.logprob));
  top_logprobs_.push_back(std::move(top));
}

void CompletionLogprobs::Append(const CompletionLogprobs& behind) {
  const auto add = [](json::array& to, const json::array& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  add(tokens_, behind.tokens_);
  add(token_logprobs_, behind.token_logprobs_);
  add(top_logprobs_, behind.top_logprobs_);
  for (const json::value& offset : behind.text_offset_) {
    text_offset_.push_back(offset.get_int64() + offset_);
  }
  offset_ += behind.offset_;
}

json::object CompletionLogprobs::Take() {
  return {{"tokens", std::exchange(tokens_, {})},
          {"token_logprobs", std::exchange(token_logprobs_, {})},
          {"top_logprobs", std::exchange(top_logprobs_, {})},
          {"text_offset", std::exchange(text_offset_, {})}};
}

std::string WholeAnswer(const AnswerHead& head, const std::vector<Choice>& choices,
                        const Usage& usage) {
  json::object answer = HeadJson(head, head.is_chat ? "chat.completion" : "text_completion");
  json::array list;
  for (const Choice& choice : choices) {
    json::object entry = {{"index", list.size()}};
    if (head.is_chat) {
      entry["message"] = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    } else {
      entry["text"] = choice.text;
    }
    entry["logprobs"] = choice.logprobs;
    entry["finish_reason"] = FinishReasonName(choice.finish_reason);
    if (!choice.token_ids.is_null()) entry["token_ids"] = choice.token_ids;
    list.push_back(std::move(entry));
  }
  answer["choices"] = std::move(list);
  answer["usage"] = UsageJson(usage);
  return json::serialize(answer);
}

}  // namespace gale::server
