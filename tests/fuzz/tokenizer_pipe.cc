// Answers for tokenizer_diff.py, which compares a tokenizer with the packages of its family.
//   tokenizer_pipe FOLDER
// Reads requests from standard input until it ends: a verb, the number of bytes as u32, the bytes.
//   e  text to ids, what spells special tokens is text; p  the same, but special tokens count
//   d  ids to text, special tokens are skipped;         D  the same, but they are spelled out
// Answers each with a number of bytes and the ids (int32) or the text; all little-endian.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "gale/tokenizer.h"

namespace gale {
namespace {

std::string Answer(const Tokenizer& tokenizer, char verb, const std::string& request) {
  if (verb == 'd' || verb == 'D') {
    std::vector<TokenId> ids(request.size() / sizeof(TokenId));
    std::copy_n(request.data(), ids.size() * sizeof(TokenId), reinterpret_cast<char*>(ids.data()));
    return tokenizer.Decode(ids, /*skip_special=*/verb == 'd');
  }
  const std::vector<TokenId> ids =
      tokenizer.Encode(request, {.add_special_tokens = false, .parse_special = verb == 'p'});
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(TokenId)};
}

int Main(const std::string& folder) {
  const auto tokenizer = Tokenizer::FromFolder(folder);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str());
    return 1;
  }
  char verb;
  uint32_t size;
  while (std::fread(&verb, 1, 1, stdin) == 1 && std::fread(&size, sizeof(size), 1, stdin) == 1) {
    std::string request(size, '\0');
    if (std::fread(request.data(), 1, size, stdin) != size) return 1;
    const std::string answer = Answer(**tokenizer, verb, request);
    size = static_cast<uint32_t>(answer.size());
    std::fwrite(&size, sizeof(size), 1, stdout);
    std::fwrite(answer.data(), 1, size, stdout);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace gale

int main(int argc, char** argv) {
  if (argc == 2) return gale::Main(argv[1]);
  std::fputs("tokenizer_pipe FOLDER\n", stderr);
  return 2;
}
