// gale tokenize: text to token ids and back, as the model's tokenizer does it.
#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/chat_flags.h"
#include "cli/command.h"
#include "cli/json_text.h"
#include "cli/model_argument.h"
#include "cli/standard_io.h"
#include "cli/whole_number.h"
#include "gale/model_info.h"
#include "gale/tokenizer.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

struct TokenizeOptions {
  ModelAndText arguments;
  std::string model;
  std::optional<std::string> text;
  std::string file = "-";
  std::vector<TokenId> decode;
  bool parse_special = false;
  bool no_special = false;
  bool count = false;
  bool show = false;
  bool json = false;
  bool use_template = false;
  ChatFlags chat_flags;
};

/// The tokens, each spelled as the text it stands for, told apart by color or by bars.
std::string Shown(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens) {
  const bool colored = isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
  constexpr std::array kBackgrounds = {44, 42, 45, 46, 43};
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const TokenId token = tokens[i];
    std::string piece = tokenizer.Decode(std::span(&token, 1), /*skip_special=*/false);
    if (colored) {
      const int style = tokenizer.IsSpecial(token) ? 41 : kBackgrounds[i % kBackgrounds.size()];
      text += fmt::format("\x1b[30;{}m{}\x1b[0m", style, piece);
      if (piece.ends_with('\n')) text += '\n';
    } else {
      text += fmt::format("{}[{}]", json::serialize(json::value(piece)), token);
      text += i + 1 < tokens.size() ? " " : "";
    }
  }
  return text + "\n";
}

Status PrintTokens(const Tokenizer& tokenizer, const TokenizeOptions& options,
                   const std::vector<TokenId>& tokens) {
  if (options.count) {
    return WriteOut(options.json ? JsonLine(json::object{{"count", tokens.size()}})
                                 : fmt::format("{}\n", tokens.size()));
  }
  if (options.show) return WriteOut(Shown(tokenizer, tokens));
  if (options.json) {
    json::array pieces;
    for (const TokenId token : tokens) pieces.emplace_back(std::string(tokenizer.IdToToken(token)));
    return WriteOut(JsonLine(json::object{{"count", tokens.size()},
                                          {"tokens", json::value_from(tokens)},
                                          {"pieces", std::move(pieces)}}));
  }
  std::string table;
  for (const TokenId token : tokens) {
    const std::string piece(tokenizer.IdToToken(token));
    table += fmt::format("{:>8}  {}{}\n", token, json::serialize(json::value(piece)),
                         tokenizer.IsSpecial(token) ? "  special" : "");
  }
  return WriteOut(table);
}

/// A JSON conversation, or any other text as one user message.
json::array MessagesOf(const std::string& text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (!error && value.is_array()) return value.get_array();
  return {json::object{{"role", "user"}, {"content", text}}};
}

Status TokenizeChat(const TokenizeOptions& options, const std::string& folder,
                    const Tokenizer& tokenizer, const std::string& text) {
  std::unique_ptr<ChatTemplate> own;
  if (options.chat_flags.chat_template.empty()) {
    auto loaded = ChatTemplate::FromFolder(folder);
    if (!loaded && loaded.error().code != ErrorCode::kNotFound) {
      return tl::unexpected(loaded.error());
    }
    if (loaded) own = *std::move(loaded);
  }
  const auto prompter = ChatPrompter::Load(options.chat_flags, folder, own.get());
  if (!prompter) return tl::unexpected(prompter.error());
  const Result<RenderedPrompt> prompt = prompter->Render(MessagesOf(text));
  if (!prompt) return tl::unexpected(prompt.error());
  const std::vector<TokenId> tokens = tokenizer.EncodePrompt(prompt->text, prompt->user_spans);
  if (options.json && !options.count) {
    return WriteOut(JsonLine(json::object{
        {"count", tokens.size()}, {"text", prompt->text}, {"tokens", json::value_from(tokens)}}));
  }
  if (!options.count && !options.show) {
    if (const Status status = WriteOut(prompt->text + "\n\n"); !status) return status;
  }
  return PrintTokens(tokenizer, options, tokens);
}

Status Tokenize(const TokenizeOptions& options) {
  const Result<std::string> folder = ResolveModel(options.model, LoadFormat::kDummy);
  if (!folder) return tl::unexpected(folder.error());
  const Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromFolder(*folder);
  if (!tokenizer) return tl::unexpected(tokenizer.error());
  if (!options.decode.empty()) {
    const std::string text = (*tokenizer)->Decode(options.decode, false);
    return WriteOut(options.json ? JsonLine(json::object{{"text", text}}) : text + "\n");
  }
  std::string text;
  if (options.text) {
    text = *options.text;
  } else {
    Result<std::string> read = ReadFile(options.file);
    if (!read) return tl::unexpected(read.error());
    text = *std::move(read);
  }
  if (options.use_template) return TokenizeChat(options, *folder, **tokenizer, text);
  return PrintTokens(**tokenizer, options,
                     (*tokenizer)
                         ->Encode(text, {.add_special_tokens = !options.no_special,
                                         .parse_special = options.parse_special}));
}

constexpr const char* kFooter = R"(
Examples:
  gale tokenize DIR "Hello, world"                   one line per token: id and spelling
  gale tokenize --file book.txt --count --model DIR  how many tokens a file has
  gale tokenize "<|im_end|>" --parse-special --model DIR
  gale tokenize --decode 9906,11,1917 --model DIR    back to text
  gale tokenize "Hello" --show --model DIR           the text, cut into its tokens
  gale tokenize "Hi" --template --model DIR          the prompt a chat makes of it, and its tokens
  gale tokenize --file chat.json --template --tools tools.json --model DIR
      a conversation [{"role": "user", "content": "Hi"}, ...]; one that ends with the assistant is
      left open

Spellings are the vocabulary's own: byte-level tokenizers write a space as one of their letters.
Input is taken byte for byte; a line break at its end is a token too.)";

}  // namespace

void AddTokenizeCommand(CLI::App& app, Action& action) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app.add_subcommand("tokenize", "Show the tokens of a text, or the reverse");
  options->arguments.AddTo(*command, options->model, options->text,
                           "What to tokenize (none: --file or standard input)");
  command->add_option("--file", options->file, "Read the text from a file; - is standard input")
      ->type_name("FILE");
  command->add_option("--decode", options->decode, "Print the text of these token ids instead")
      ->type_name("ID,ID,...")
      ->delimiter(',')
      ->check(WholeNumber(0))
      ->excludes(command->get_option("--file"));
  command->add_flag("--parse-special", options->parse_special,
                    "Special tokens spelled out in the text become their ids");
  command->add_flag("--no-special", options->no_special,
                    "Do not add what the tokenizer adds by itself, such as a begin token");
  CLI::Option* count = command->add_flag("--count", options->count, "Only the number of tokens");
  command
      ->add_flag("--show", options->show,
                 "The text cut into its tokens: in color on a terminal, else with their ids")
      ->excludes(count);
  CLI::Option* use_template = command->add_flag(
      "--template", options->use_template,
      "The text is a user message, or a JSON conversation: show the chat template's prompt");
  AddChatFlags(*command, options->chat_flags, use_template);
  command
      ->add_flag("--json", options->json, "{\"count\": ..., \"tokens\": [...], \"pieces\": [...]}")
      ->excludes("--show");
  command->footer(kFooter);
  command->callback([options, command, &action] {
    options->arguments.Resolve();
    for (const char* other : {"--file", "--decode"}) {
      if (options->text && command->count(other) > 0) throw CLI::ExcludesError(other, "a text");
    }
    const bool has_input =
        options->text || !options->decode.empty() || command->count("--file") > 0;
    if (!has_input && isatty(STDIN_FILENO) == 1) {
      throw CLI::ValidationError("text", "give one as an argument, with --file or on a pipe");
    }
    action = [options] { return Tokenize(*options); };
  });
}

}  // namespace gale::cli
