// Bodies of HTTP requests: whatever they hold, they are read or refused with a field or a place.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "server/body_reader.h"
#include "server/openai_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gale::server;
  const auto body = ParseBody({reinterpret_cast<const char*>(data), size});
  if (!body) {
    if (body.error().status != 400) std::abort();
    return 0;
  }
  for (const auto parse : {&ParseChatRequest, &ParseCompletionRequest}) {
    const auto request = parse(*body, {});
    if (!request && (request.error().status != 400 || request.error().message.empty()))
      std::abort();
    if (request) static_cast<void>(request->sampling.Validate());
  }
  return 0;
}
