// Server-sent events and the JSON text in them, appended by hand: the part of an answer that runs
// once per token. Layer L6; stop 11 of the request path.
#pragma once

#include <string>
#include <string_view>

namespace gale::server {

/// `text`, which must be UTF-8, as a JSON string with its quotes.
void AppendJsonString(std::string_view text, std::string& out);

/// One event: `data` must be one line.
void AppendEvent(std::string_view data, std::string& out);

inline constexpr std::string_view kDoneEvent = "data: [DONE]\n\n";

}  // namespace gale::server
