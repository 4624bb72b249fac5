// Base64 (RFC 4648, section 4), in which tokenizer files write bytes that are not text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace gale::text {

/// The bytes of `text`; nothing unless it is whole groups of four with the padding they need.
std::optional<std::string> DecodeBase64(std::string_view text);

}  // namespace gale::text
