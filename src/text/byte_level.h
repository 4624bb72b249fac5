// GPT-2's bijection between bytes and printable characters, in which byte-level vocabularies are
// written (github.com/openai/gpt-2, encoder.py, bytes_to_unicode).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gale::text {

/// Appends the spelling of `bytes`, one or two UTF-8 bytes for each.
void AppendByteLevel(std::string_view bytes, std::string* out);

/// Appends the bytes that `spelling` stands for; false, appending nothing, if a character is not
/// one of the 256.
bool AppendBytesOfSpelling(std::string_view spelling, std::string* out);

}  // namespace gale::text
