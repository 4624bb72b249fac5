// The "decoder" of tokenizer.json: turns the spellings of tokens into text. It works token by
// token, so that decoding a whole sequence and streaming it are the same code and give the same
// text.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.h"

namespace gale::text {

/// Immutable; what a sequence has in progress is kept in a State.
class Decoder {
 public:
  /// What one stage keeps between tokens.
  struct StageState {
    std::string held;  ///< text or bytes that later tokens decide about
    size_t num_stripped = 0;
    bool started = false;  ///< a token has passed, or stripping at the start is over
  };
  using State = std::vector<StageState>;

  Decoder();  ///< joins spellings with spaces, as `tokenizers` does without a decoder
  static Result<Decoder> Parse(const JsonValue& value);
  /// Which tokens of SentencePiece lose a "▁" at their front, as long as there is no text yet.
  enum class DummyPrefix { kNone, kFirst, kAll };
  /// Decodes as SentencePiece does, but for " \u2047 " in place of what is unknown.
  static Decoder SentencePiece(DummyPrefix dummy_prefix);

  State Start() const { return State(stages_.size()); }
  /// Appends the text that `spelling` completes; never ends inside a character.
  void Push(std::string_view spelling, State* state, std::string* out) const;
  /// Appends what is left; unfinished characters become U+FFFD. The state starts over.
  void Finish(State* state, std::string* out) const;

 private:
  struct Join {};
  struct DropDummyPrefix {
    bool from_all;  ///< tokens until there is text; else from the first that has it
  };
  struct ByteLevel {};
  struct ByteFallback {
    bool keeps_valid = false;  ///< of a run of bytes that is no text, what is text in it
  };
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Metaspace {
    Pattern replacement;
    bool drops_first;  ///< the first token loses its replacement characters
  };
  /// Removes up to `start` times `content` from the front and `stop` times from the back: of each
  /// token, or of the whole text when a stage before has fused it.
  struct Strip {
    std::string content;
    size_t start;
    size_t stop;
    bool fused;
  };
  /// Joins all tokens to one, for a stage that must see the whole text: nothing comes out before
  /// the end.
  struct Fuse {};
  struct Bpe {
    Pattern suffix;  ///< a space, and at the end of the text nothing
  };
  struct WordPiece {
    std::string prefix;  ///< marks tokens that continue a word; the others begin one with a space
    bool cleanup;        ///< no spaces before punctuation and English contractions
  };
  /// Of speech recognizers: a token repeated is one, and `pad` stands between real repetitions.
  struct Ctc {
    Pattern pad;
    Pattern word_delimiter;
    bool cleanup;
  };
  using Stage = std::variant<Join, DropDummyPrefix, ByteLevel, ByteFallback, Replace, Metaspace,
                             Strip, Fuse, Bpe, WordPiece, Ctc>;

  Status AddStage(const JsonValue& at, std::string_view type, const JsonObject& object,
                  bool* fused);
  static Result<Stage> ParseReplace(const JsonObject& object);
  static Result<Stage> ParseMetaspace(const JsonObject& object);
  static Result<Stage> ParseCtc(const JsonObject& object);

  static Result<Strip> ParseStrip(const JsonObject& object, bool fused);
  /// Hands text on to the stage behind.
  using Next = std::function<void(std::string_view)>;
  static void Take(const Join& stage, std::string_view token, StageState* own, const Next& next);
  static void Take(const DropDummyPrefix& stage, std::string_view token, StageState* own,
                   const Next& next);
  static void Take(const ByteLevel& stage, std::string_view token, StageState* own,
                   const Next& next);
  static void Take(const ByteFallback& stage, std::string_view token, StageState* own,
                   const Next& next);
  static void Take(const Replace& stage, std::string_view token, StageState* own, const Next& next);
  static void Take(const Metaspace& stage, std::string_view token, StageState* own,
                   const Next& next);
  static void Take(const Strip& stage, std::string_view token, StageState* own, const Next& next);
  static void Take(const Fuse& stage, std::string_view token, StageState* own, const Next& next);
  static void Take(const Bpe& stage, std::string_view token, StageState* own, const Next& next);
  static void Take(const WordPiece& stage, std::string_view token, StageState* own,
                   const Next& next);
  static void Take(const Ctc& stage, std::string_view token, StageState* own, const Next& next);
  void Feed(size_t stage, std::string_view token, State* state, std::string* out) const;
  void FinishStage(size_t stage, State* state, std::string* out) const;

  std::vector<Stage> stages_;
};

}  // namespace gale::text
