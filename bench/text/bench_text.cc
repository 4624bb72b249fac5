// Times a tokenizer: loading, encoding files on a cold cache, streaming tokens back to text.
// compare.py runs it beside other tokenizers.
//   bench_text load FOLDER          reads tokenizer.json
//   bench_text encode FOLDER FILE   the text as one input to a fresh tokenizer
//   bench_text stream FOLDER FILE   the text's tokens, decoded one by one
//   bench_text ids FOLDER FILE      the ids of the text, as little-endian int32 on stdout
// Each prints one line of JSON, but ids.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "gale/tokenizer.h"

namespace gale::bench {
namespace {

using Clock = std::chrono::steady_clock;

/// Wall and processor time since it was made, as members of a JSON object. The second tells more on
/// a machine that others use too.
class Timer {
 public:
  std::string Json() const {
    const double cpu_seconds = static_cast<double>(std::clock() - cpu_start_) / CLOCKS_PER_SEC;
    const std::chrono::duration<double> seconds = Clock::now() - start_;
    return fmt::format("\"seconds\": {:.6f}, \"cpu_seconds\": {:.6f}", seconds.count(),
                       cpu_seconds);
  }

 private:
  Clock::time_point start_ = Clock::now();
  std::clock_t cpu_start_ = std::clock();
};

std::unique_ptr<Tokenizer> Load(const std::string& folder) {
  auto tokenizer = Tokenizer::FromFolder(folder);
  if (!tokenizer) {
    fmt::print(stderr, "{}\n", tokenizer.error().message);
    std::exit(1);
  }
  return std::move(*tokenizer);
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    fmt::print(stderr, "{}: cannot be read\n", path);
    std::exit(1);
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<TokenId> EncodeAll(const Tokenizer& tokenizer, std::string_view text) {
  // Special tokens spelled out in the text count, as in `tokenizers`.
  return tokenizer.Encode(text, {.add_special_tokens = false, .parse_special = true});
}

void TimeLoad(const std::string& folder) {
  const Timer timer;
  const auto tokenizer = Load(folder);
  fmt::print("{{{}, \"vocab_size\": {}}}\n", timer.Json(), tokenizer->vocab_size());
}

void TimeEncode(const std::string& folder, const std::string& path) {
  const std::string text = ReadFile(path);
  const auto tokenizer = Load(folder);
  const Timer timer;
  const size_t num_tokens = EncodeAll(*tokenizer, text).size();
  const std::string times = timer.Json();
  fmt::print("{{{}, \"bytes\": {}, \"tokens\": {}}}\n", times, text.size(), num_tokens);
}

void TimeStream(const std::string& folder, const std::string& path) {
  const auto tokenizer = Load(folder);
  const std::vector<TokenId> ids = EncodeAll(*tokenizer, ReadFile(path));
  IncrementalDetokenizer detokenizer(*tokenizer);
  size_t num_bytes = 0;
  const Timer timer;
  for (const TokenId id : ids) num_bytes += detokenizer.Push(id).size();
  num_bytes += detokenizer.Flush().size();
  const std::string times = timer.Json();
  fmt::print("{{{}, \"bytes\": {}, \"tokens\": {}}}\n", times, num_bytes, ids.size());
}

void WriteIds(const std::string& folder, const std::string& path) {
  const std::vector<TokenId> ids = EncodeAll(*Load(folder), ReadFile(path));
  std::fwrite(ids.data(), sizeof(TokenId), ids.size(), stdout);
}

int Main(const std::vector<std::string>& arguments) {
  const std::string verb = arguments.empty() ? "" : arguments[0];
  if (verb == "load" && arguments.size() == 2) {
    TimeLoad(arguments[1]);
  } else if (verb == "encode" && arguments.size() == 3) {
    TimeEncode(arguments[1], arguments[2]);
  } else if (verb == "stream" && arguments.size() == 3) {
    TimeStream(arguments[1], arguments[2]);
  } else if (verb == "ids" && arguments.size() == 3) {
    WriteIds(arguments[1], arguments[2]);
  } else {
    fmt::print(stderr,
               "bench_text load FOLDER | encode FOLDER FILE | stream FOLDER FILE | "
               "ids FOLDER FILE\n");
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace gale::bench

int main(int argc, char** argv) { return gale::bench::Main({argv + 1, argv + argc}); }
