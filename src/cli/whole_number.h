// The check of every flag that takes a whole number.
#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace gale::cli {

/// Refuses what is no whole number in [min, max], in the words of our other messages. CLI11's own
/// checks of the sign name the largest double, in 309 digits, and wrap a negative seed.
inline CLI::Validator WholeNumber(int64_t min, int64_t max = std::numeric_limits<int>::max()) {
  const auto check = [min, max](const std::string& text) -> std::string {
    int64_t number = 0;
    const char* last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, number);
    if (error == std::errc() && end == last && number >= min && number <= max) return "";
    return fmt::format("expected a whole number from {} to {}; got {}", min, max, text);
  };
  return CLI::Validator(check, "");
}

}  // namespace gale::cli
