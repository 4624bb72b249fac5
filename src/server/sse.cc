#include "server/sse.h"

namespace gale::server {
namespace {

/// What stands for a byte in a JSON string beside itself, or null.
void AppendEscaped(unsigned char c, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '"': out += "\\\""; break;
    case '\\': out += "\\\\"; break;
    case '\n': out += "\\n"; break;
    case '\r': out += "\\r"; break;
    case '\t': out += "\\t"; break;
    default:
      out += "\\u00";
      out += kHex[c >> 4];
      out += kHex[c & 15];
  }
}

}  // namespace

void AppendJsonString(std::string_view text, std::string& out) {
  out += '"';
  size_t done = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= ' ' && c != '"' && c != '\\') continue;
    out.append(text, done, i - done);
    AppendEscaped(c, out);
    done = i + 1;
  }
  out.append(text, done);
  out += '"';
}

void AppendEvent(std::string_view data, std::string& out) {
  out.append("data: ").append(data).append("\n\n");
}

}  // namespace gale::server
