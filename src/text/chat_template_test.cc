// Chat templates against goldens made with Python's jinja2 (tools/goldens/text_chat_goldens.py).
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include "gale/chat.h"
#include "text/test_files.h"

namespace gale {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<ChatTemplate> Compile(std::string_view source) {
  auto result = ChatTemplate::FromSource(source);
  EXPECT_TRUE(result.has_value()) << result.error().message;
  return std::move(result).value();
}

Result<RenderedPrompt> RenderSource(std::string_view source, std::string_view messages,
                                    const ChatOptions& options = {}) {
  auto result = ChatTemplate::FromSource(source);
  if (!result) return tl::unexpected(result.error());
  return (*result)->Render(messages, options);
}

std::string Marked(const RenderedPrompt& prompt) {
  std::string text = prompt.text;
  for (auto it = prompt.user_spans.rbegin(); it != prompt.user_spans.rend(); ++it) {
    text.insert(it->end, "]");
    text.insert(it->begin, "[");
  }
  return text;
}

class ChatGoldens : public testing::Test {
 protected:
  void SetUp() override {
    // Another file than the committed one, for runs over random templates.
    const char* path = std::getenv("GALE_CHAT_GOLDENS");
    const std::string goldens = path != nullptr ? path : kTextData + "chat_goldens.json";
    ASSERT_EQ(parser_.load(goldens).get(root_), simdjson::SUCCESS) << goldens;
    is_committed_ = path == nullptr;
  }
  bool is_committed_ = true;
  simdjson::dom::parser parser_;
  simdjson::dom::element root_;
};

TEST_F(ChatGoldens, RealTemplatesRenderAsJinja2Does) {
  int num_texts = 0;
  int num_errors = 0;
  for (const simdjson::dom::element chat : simdjson::dom::array(root_["chats"])) {
    const std::string_view name = chat["template"];
    const std::string_view conversation = chat["case"];
    SCOPED_TRACE(std::string(name) + ": " + std::string(conversation));
    const auto inputs = root_["conversations"][conversation];
    ChatOptions options;
    options.add_generation_prompt = bool(chat["add_generation_prompt"]);
    options.continue_final_message = bool(chat["continue_final_message"]);
    options.kwargs_json = simdjson::minify(chat["variables"]);
    if (!simdjson::dom::element(inputs["tools"]).is_null()) {
      options.tools_json = simdjson::minify(inputs["tools"]);
    }
    // A clock that stands still, as in the script.
    const std::string source =
        "{% macro strftime_now(format) %}2024-07-26{% endmacro +%}" +
        ReadFile(name.starts_with('/') ? std::string(name)
                                       : GALE_SOURCE_DIR "/" + std::string(name));
    const auto prompt = RenderSource(source, simdjson::minify(inputs["messages"]), options);
    std::string_view text;
    if (chat["text"].get(text) == simdjson::SUCCESS) {
      ASSERT_TRUE(prompt.has_value()) << prompt.error().message;
      EXPECT_EQ(prompt->text, text);
      ++num_texts;
    } else {
      EXPECT_FALSE(prompt.has_value()) << prompt->text;
      ++num_errors;
    }
  }
  if (is_committed_) {
    EXPECT_GT(num_texts, 200);
    EXPECT_GT(num_errors, 20);
  }
}

TEST_F(ChatGoldens, SnippetsRenderAsJinja2Does) {
  ChatOptions options;
  options.kwargs_json = simdjson::minify(root_["variables"]);
  for (const simdjson::dom::element snippet : simdjson::dom::array(root_["snippets"])) {
    const std::string_view source = snippet["source"];
    SCOPED_TRACE(source);
    const auto prompt = RenderSource(source, "[]", options);
    std::string_view text;
    if (snippet["text"].get(text) == simdjson::SUCCESS) {
      EXPECT_EQ(prompt ? prompt->text : prompt.error().message, text);
    } else {
      EXPECT_FALSE(prompt.has_value()) << prompt->text << "\n" << snippet["error"];
    }
  }
}

TEST(ChatTemplate, MarksWhatTheUserWrote) {
  const auto marked = [](std::string_view source) {
    const auto prompt = RenderSource(source, R"([{"role": "user", "content": " a<|im_end|>b "}])");
    EXPECT_TRUE(prompt.has_value()) << prompt.error().message;
    return Marked(*prompt);
  };
  EXPECT_EQ(marked("<|im_start|>{{ messages[0].content }}<|im_end|>"),
            "<|im_start|>[ a<|im_end|>b ]<|im_end|>");
  EXPECT_EQ(marked("{{ '<|x|>' + messages[0].content | trim + '<|im_end|>' }}"),
            "<|x|>[a<|im_end|>b]<|im_end|>");
  EXPECT_EQ(marked("{{ messages[0].content.split('<|im_end|>') | join('<|im_end|>') }}"),
            "[ a]<|im_end|>[b ]");
  EXPECT_EQ(marked("{{ messages[0].content.replace('b', '<eos>') }}"), "[ a<|im_end|>]<eos>[ ]");
  EXPECT_EQ(marked("{{ messages[0].content[1:3] ~ 1 }}"), "[a<]1");
  EXPECT_EQ(marked("{% set x %}({{ messages[0].content.strip() }}){% endset %}{{ x }}"),
            "([a<|im_end|>b])");
  EXPECT_EQ(marked("{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m(messages[0].content | upper) }}"),
            "<[ A<|IM_END|>B ]>");
  EXPECT_EQ(marked("{{ messages | tojson }}"),
            "[{[\"role\"]: [\"user\"], [\"content\"]: [\" a<|im_end|>b \"]}]");
  EXPECT_EQ(marked("{{ messages[0].content | indent(2, true) }}"), "  [ a<|im_end|>b ]");
  EXPECT_EQ(marked("{% for c in messages[0].content[:2] %}{{ c }}.{% endfor %}"), "[ ].[a].");
}

TEST(ChatTemplate, ToolsAndArgumentsOfTheRequestAreMarkedToo) {
  ChatOptions options;
  options.tools_json = R"([{"name": "</s>"}])";
  options.kwargs_json = R"({"note": "<s>"})";
  const auto prompt = RenderSource("{{ tools[0].name }}|{{ note }}", "[]", options);
  ASSERT_TRUE(prompt.has_value());
  EXPECT_EQ(Marked(*prompt), "[</s>]|[<s>]");
}

TEST(ChatTemplate, ErrorsNameLineAndColumn) {
  const auto compile_error = [](std::string_view source) {
    const auto result = ChatTemplate::FromSource(source);
    EXPECT_FALSE(result.has_value());
    return result ? std::string() : result.error().message;
  };
  EXPECT_THAT(compile_error("a\n  {% fro x in y %}"),
              HasSubstr("line 2, column 3: unknown tag \"fro\""));
  EXPECT_THAT(compile_error("{{ 1 + }}"), HasSubstr("line 1, column 8: expected an expression"));
  EXPECT_THAT(compile_error("\n{% if x %}a"), HasSubstr("line 2"));
  EXPECT_THAT(compile_error("{% include 'other' %}"), HasSubstr("other templates cannot be read"));
  EXPECT_THAT(compile_error("{% break %}"), HasSubstr("outside of a loop"));
  EXPECT_THAT(compile_error("\xFF"), HasSubstr("UTF-8"));

  const auto render_error = [](std::string_view source) {
    const auto prompt = RenderSource(source, "[]");
    EXPECT_FALSE(prompt.has_value());
    return prompt ? Error() : prompt.error();
  };
  const Error missing = render_error("x\n{{ nothing.at.all }}");
  EXPECT_EQ(missing.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(missing.message, HasSubstr("line 2"));
  EXPECT_THAT(missing.message, HasSubstr("'nothing' is undefined"));
  EXPECT_THAT(render_error("{{ raise_exception('roles must alternate') }}").message,
              HasSubstr("roles must alternate"));
}

TEST(ChatTemplate, RefusesMessagesThatAreNone) {
  const auto chat = Compile("{{ messages | length }}");
  EXPECT_EQ(chat->Render(R"([{"role": "user"}])")->text, "1");
  for (const char* messages :
       {"", "{}", "[1]", R"([{"content": "x"}])", R"([{"role": 1}])", "[{", "nul"}) {
    const auto prompt = chat->Render(messages);
    ASSERT_FALSE(prompt.has_value()) << messages;
    EXPECT_EQ(prompt.error().code, ErrorCode::kInvalidArgument);
  }
  ChatOptions options;
  options.tools_json = "{}";
  EXPECT_THAT(chat->Render("[]", options).error().message,
              HasSubstr("tools: expected a JSON array"));
}

TEST(ChatTemplate, LimitsHoldForHostileTemplates) {
  const auto fails = [](std::string_view source, const char* message) {
    const auto prompt = RenderSource(source, "[]");
    ASSERT_FALSE(prompt.has_value()) << source;
    EXPECT_THAT(prompt.error().message, HasSubstr(message)) << source;
  };
  fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deep");
  fails("{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}",
        "steps");
  fails("{{ 'x' * 1000000000 }}", "bytes");
  fails(
      "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% "
      "endfor %}",
      "bytes");
  fails("{{ range(10000000) }}", "range()");
  fails("{{ 2 ** 100000 }}", "bits");
  fails("{{ 'x'.ljust(10 ** 12) }}", "bytes");
  fails("{{ '{:99999999999}'.format(1) }}", "width");
  fails("{% set l = [] %}{% set _ = l.append(l) %}", "cannot change lists");
  fails("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}", "nested too deeply");
  fails("{{ " + std::string(5000, '-') + "1 }}", "nested too deeply");
  std::string blocks;
  for (int i = 0; i < 2000; ++i) blocks += "{% if true %}";
  fails(blocks, "nested too deeply");
  std::string sum = "{{ 1";
  for (int i = 0; i < 5000; ++i) sum += " + 1";
  fails(sum + " }}", "nested too deeply");
}

TEST(ChatTemplate, ContinuesTheFinalMessage) {
  const std::string source =
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}";
  const auto chat = Compile(source);
  const std::string messages =
      R"([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I </> am "}])";
  ChatOptions options;
  options.continue_final_message = true;
  EXPECT_THAT(chat->Render(messages, options).error().message, HasSubstr("add_generation_prompt"));
  options.add_generation_prompt = false;
  const auto prompt = chat->Render(messages, options);
  ASSERT_TRUE(prompt.has_value()) << prompt.error().message;
  EXPECT_EQ(Marked(*prompt), "<[user]>[Hi]</><[assistant]>[I </> am ]");
  EXPECT_THAT(chat->Render("[]", options).error().message, HasSubstr("no messages"));
  EXPECT_THAT(chat->Render(R"([{"role": "user", "content": null}])", options).error().message,
              HasSubstr("no text"));
  EXPECT_THAT(Compile("x")->Render(messages, options).error().message, HasSubstr("leaves out"));
}

TEST(ChatTemplate, SaysWhatTheAssistantWrote) {
  const auto prompt = RenderSource(
      "a{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}!{% "
      "endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}z",
      R"([{"role": "user", "content": "x"}, {"role": "assistant", "content": "yy"},
          {"role": "user", "content": "x"}, {"role": "assistant", "content": "w"}])");
  ASSERT_TRUE(prompt.has_value()) << prompt.error().message;
  EXPECT_EQ(prompt->text, "axyy!xw!z");
  ASSERT_EQ(prompt->assistant_spans.size(), 2u);
  EXPECT_EQ(prompt->text.substr(prompt->assistant_spans[0].begin, 3), "yy!");
  EXPECT_EQ(prompt->assistant_spans[1].begin, 6u);
  EXPECT_EQ(prompt->assistant_spans[1].end, 8u);
}

TEST(ChatTemplate, BuiltinTemplatesHaveNames) {
  const std::string messages =
      R"([{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "U"}]}])";
  const auto rendered = [&](std::string_view name) {
    const auto chat = ChatTemplate::FromName(name);
    EXPECT_TRUE(chat.has_value()) << name << ": " << chat.error().message;
    return (*chat)->Render(messages)->text;
  };
  for (const std::string_view name : ChatTemplate::Names()) {
    EXPECT_THAT(rendered(name), HasSubstr("U")) << name;
  }
  EXPECT_EQ(
      rendered("chatml"),
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(rendered("llama3"),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(rendered("gemma"),
            "<bos><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(rendered("llama2"), "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]");
  EXPECT_EQ(rendered("mistral"), "<s>[INST] S\n\nU [/INST]");
  EXPECT_EQ(rendered("phi3"), "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n");
  EXPECT_EQ(rendered("zephyr"), "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\n");
  EXPECT_EQ(rendered("plain"), "S\n\nUser: U\nAssistant:");
  EXPECT_THAT(ChatTemplate::FromName("alpaca").error().message,
              HasSubstr("there are chatml, gemma"));
  EXPECT_THAT(ChatTemplate::FromFileOrName("none.jinja").error().message,
              HasSubstr("no such file"));
}

TEST(ChatTemplate, DeepListsNeitherLeakNorOverflowTheStack) {
  const auto prompt = RenderSource(
      "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor "
      "%}"
      "{{ ns.l | length }}",
      "[]");
  ASSERT_TRUE(prompt.has_value()) << prompt.error().message;
  EXPECT_EQ(prompt->text, "1");
}

class ChatFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "gale_chat_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  std::string Rendered(const ChatOptions& options = {}) {
    const auto chat = ChatTemplate::FromFolder(folder_);
    if (!chat) return chat.error().message;
    return (*chat)->Render("[]", options)->text;
  }
  std::string folder_;
};

TEST_F(ChatFolder, FileComesBeforeConfig) {
  EXPECT_EQ(ChatTemplate::FromFolder(folder_).error().code, ErrorCode::kNotFound);
  Write("tokenizer_config.json",
        R"({"chat_template": "config {{ bos_token }}{{ eos_token }}", "bos_token": "<s>",
            "eos_token": {"content": "</s>"}, "pad_token": null})");
  EXPECT_EQ(Rendered(), "config <s></s>");
  Write("chat_template.jinja", "file {{ bos_token }}");
  EXPECT_EQ(Rendered(), "file <s>");
}

TEST_F(ChatFolder, ListTakesDefaultAndToolUse) {
  Write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "rag", "template": "{% x"},
                              {"name": "tool_use", "template": "t{{ tools | length }}"}]})");
  EXPECT_EQ(Rendered(), "d");
  ChatOptions options;
  options.tools_json = "[1, 2]";
  EXPECT_EQ(Rendered(options), "t2");
}

TEST_F(ChatFolder, BadFilesGiveOneClearError) {
  Write("tokenizer_config.json", R"({"chat_template": 3})");
  EXPECT_THAT(Rendered(), HasSubstr("chat_template: expected a string"));
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "other", "template": "x"}]})");
  EXPECT_THAT(Rendered(), HasSubstr("\"default\""));
  Write("tokenizer_config.json", R"({"chat_template": "{{")");
  EXPECT_THAT(Rendered(), HasSubstr("not valid JSON"));
}

}  // namespace
}  // namespace gale
