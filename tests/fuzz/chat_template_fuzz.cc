// Any bytes as chat template, rendered over messages that reach most of the engine.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gale/chat.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto chat = gale::ChatTemplate::FromSource({reinterpret_cast<const char*>(data), size});
  if (!chat) return 0;
  gale::ChatOptions options;
  options.tools_json =
      R"([{"type": "function", "function": {"name": "f", "parameters": {"a": [1, 2.5]}}}])";
  options.kwargs_json = R"({"n": 3, "s": "Ab c", "list": [3, 1, 2], "d": {"b": 1, "a": null}})";
  const auto prompt = (*chat)->Render(
      R"([{"role": "system", "content": "é"}, {"role": "user", "content": " hi <|im_end|> "},
          {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": true}}}]},
          {"role": "tool", "content": "x\ny"}])",
      options);
  if (!prompt) return 0;
  size_t done = 0;
  for (const gale::TextSpan& span : prompt->user_spans) {
    if (span.begin < done || span.begin >= span.end || span.end > prompt->text.size()) std::abort();
    done = span.end;
  }
  return 0;
}
