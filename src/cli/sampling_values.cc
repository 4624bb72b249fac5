#include "cli/sampling_values.h"

#include <charconv>
#include <cmath>
#include <utility>

#include <boost/json/value_to.hpp>

namespace gale::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kIds = "token ids such as 15,27";

/// The whole of `text` as a number.
template <class T>
bool Parse(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool ParseIds(std::string_view text, std::vector<TokenId>& ids) {
  while (true) {
    const size_t comma = text.find(',');
    if (!Parse(text.substr(0, comma), ids.emplace_back())) return false;
    if (comma == std::string_view::npos) return true;
    text.remove_prefix(comma + 1);
  }
}

template <class T>
Mismatch FromJsonInteger(const json::value& value, T& integer) {
  boost::system::error_code error;
  if (value.is_int64() || value.is_uint64()) {
    integer = value.to_number<T>(error);
    if (!error) return {};
  }
  return "an integer";
}

/// Reads each item of an array; false when it is none, or an item is not of its type.
template <class T>
bool FromJsonArray(const json::value& value, std::vector<T>& items) {
  if (!value.is_array()) return false;
  for (const json::value& item : value.get_array()) {
    if (FromJson(item, items.emplace_back())) return false;
  }
  return true;
}

}  // namespace

Mismatch FromTexts(const std::vector<std::string>& texts, float& value) {
  if (Parse(texts.back(), value) && std::isfinite(value)) return {};
  return "a number";
}

Mismatch FromTexts(const std::vector<std::string>& texts, int& value) {
  if (Parse(texts.back(), value) && value >= 0) return {};
  return "a whole number from 0 to 2147483647";
}

Mismatch FromTexts(const std::vector<std::string>& texts, std::optional<int>& value) {
  return FromTexts(texts, value.emplace());
}

Mismatch FromTexts(const std::vector<std::string>& texts, EarlyStopping& value) {
  for (const EarlyStopping each :
       {EarlyStopping::kNo, EarlyStopping::kYes, EarlyStopping::kNever}) {
    if (texts.back() != EarlyStoppingName(each)) continue;
    value = each;
    return {};
  }
  return "one of no, yes, never";
}

Mismatch FromTexts(const std::vector<std::string>& texts, std::vector<std::string>& value) {
  for (const std::string& text : texts) {
    if (text.empty()) return "at least one character";
  }
  value = texts;
  return {};
}

Mismatch FromTexts(const std::vector<std::string>& texts, std::vector<TokenId>& value) {
  value.clear();
  for (const std::string& text : texts) {
    if (!ParseIds(text, value)) return kIds;
  }
  return {};
}

Mismatch FromTexts(const std::vector<std::string>& texts,
                   std::vector<std::vector<TokenId>>& value) {
  value.clear();
  for (const std::string& text : texts) {
    if (!ParseIds(text, value.emplace_back())) return kIds;
  }
  return {};
}

Mismatch FromTexts(const std::vector<std::string>& texts, std::vector<LogitBias>& value) {
  value.clear();
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    LogitBias& entry = value.emplace_back();
    if (equals == std::string::npos || !Parse(text.substr(0, equals), entry.token) ||
        !Parse(text.substr(equals + 1), entry.bias)) {
      return "a token id and its bias such as 1234=-5";
    }
  }
  return {};
}

Mismatch FromJson(const json::value& value, bool& flag) {
  if (!value.is_bool()) return "true or false";
  flag = value.get_bool();
  return {};
}

Mismatch FromJson(const json::value& value, float& number) {
  boost::system::error_code error;
  if (value.is_number()) {
    number = value.to_number<float>(error);
    if (!error) return {};
  }
  return "a number";
}

Mismatch FromJson(const json::value& value, int& integer) {
  return FromJsonInteger(value, integer);
}

Mismatch FromJson(const json::value& value, std::optional<int>& integer) {
  return FromJsonInteger(value, integer.emplace());
}

Mismatch FromJson(const json::value& value, std::optional<uint64_t>& integer) {
  return FromJsonInteger(value, integer.emplace());
}

Mismatch FromJson(const json::value& value, EarlyStopping& stopping) {
  if (value.is_bool()) {
    stopping = value.get_bool() ? EarlyStopping::kYes : EarlyStopping::kNo;
  } else if (value == "never") {
    stopping = EarlyStopping::kNever;
  } else {
    return "true, false or \"never\"";
  }
  return {};
}

Mismatch FromJson(const json::value& value, Speculation& speculation) {
  if (value.is_string()) {
    const Result<Speculation> method = ParseSpeculation(value.get_string());
    if (method) speculation = *method;
    if (method) return {};
  }
  return "\"off\", \"auto\" or what --speculative says";
}

Mismatch FromJson(const json::value& value, std::string& text) {
  if (!value.is_string()) return "a string";
  text = json::value_to<std::string>(value);
  return {};
}

Mismatch FromJson(const json::value& value, std::vector<std::string>& texts) {
  texts.clear();
  if (!FromJson(value, texts.emplace_back())) return {};
  texts.clear();
  if (FromJsonArray(value, texts)) return {};
  return "a string or an array of strings";
}

Mismatch FromJson(const json::value& value, std::vector<TokenId>& ids) {
  ids.clear();
  if (FromJsonArray(value, ids)) return {};
  return "an array of token ids";
}

Mismatch FromJson(const json::value& value, std::vector<std::vector<TokenId>>& sequences) {
  sequences.clear();
  if (FromJsonArray(value, sequences)) return {};
  return "an array of arrays of token ids";
}

Mismatch FromJson(const json::value& value, std::vector<LogitBias>& biases) {
  constexpr std::string_view kExpected = R"(an object such as {"1234": -5})";
  biases.clear();
  if (!value.is_object()) return kExpected;
  for (const auto& [key, bias] : value.get_object()) {
    LogitBias& entry = biases.emplace_back();
    if (!Parse({key.data(), key.size()}, entry.token) || FromJson(bias, entry.bias)) {
      return kExpected;
    }
  }
  return {};
}

std::string_view EarlyStoppingName(EarlyStopping stopping) {
  switch (stopping) {
    case EarlyStopping::kNo: return "no";
    case EarlyStopping::kYes: return "yes";
    case EarlyStopping::kNever: return "never";
  }
  return "";
}

}  // namespace gale::cli
