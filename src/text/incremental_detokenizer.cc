#include "gale/tokenizer.h"
#include "text/tokenizer_impl.h"

namespace gale {

struct IncrementalDetokenizer::Impl {
  const Tokenizer::Impl* tokenizer;
  bool skip_special;
  text::Decoder::State state;
};

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer, bool skip_special)
    : impl_(std::make_unique<Impl>(
          Impl{tokenizer.impl_.get(), skip_special, tokenizer.impl_->decoder.Start()})) {}
IncrementalDetokenizer::IncrementalDetokenizer(IncrementalDetokenizer&&) noexcept = default;
IncrementalDetokenizer& IncrementalDetokenizer::operator=(IncrementalDetokenizer&&) noexcept =
    default;
IncrementalDetokenizer::~IncrementalDetokenizer() = default;

std::string IncrementalDetokenizer::Push(TokenId token) {
  std::string out;
  if (const auto spelling = impl_->tokenizer->Spelling(token, impl_->skip_special)) {
    impl_->tokenizer->decoder.Push(*spelling, &impl_->state, &out);
  }
  return out;
}

std::string IncrementalDetokenizer::Flush() {
  std::string out;
  impl_->tokenizer->decoder.Finish(&impl_->state, &out);
  return out;
}

}  // namespace gale
