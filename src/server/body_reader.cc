#include "server/body_reader.h"

#include <cmath>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/stream_parser.hpp>
#include <fmt/format.h>

namespace gale::server {
namespace {

namespace json = boost::json;

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxQuotedBytes = 60;

/// The value as an integer; nothing when it has a fraction or is none.
std::optional<int64_t> WholeNumber(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (!value.is_double()) return std::nullopt;
  const double number = value.get_double();
  if (std::trunc(number) != number || std::abs(number) > 9e15) return std::nullopt;
  return static_cast<int64_t>(number);
}

}  // namespace

ApiResult<json::object> ParseBody(std::string_view body) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  json::stream_parser parser({}, options);
  boost::system::error_code error;
  const size_t parsed = parser.write_some(body.data(), body.size(), error);
  // Behind the value only white space may follow.
  const bool has_more = body.find_first_not_of(" \t\r\n", parsed) != std::string_view::npos;
  if (error || !parser.done() || has_more) {
    return tl::unexpected(
        ApiError{.message = fmt::format("The request body is not valid JSON at byte {}{}{}", parsed,
                                        error ? ": " : "", error ? error.message() : ""),
                 .code = "invalid_json"});
  }
  json::value value = parser.release();
  if (!value.is_object()) {
    return tl::unexpected(
        ApiError{.message = "The request body must be a JSON object", .code = "invalid_json"});
  }
  return std::move(value.get_object());
}

const json::value* BodyReader::Find(std::string_view name) const {
  const json::value* value = body_.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void BodyReader::Fail(ApiError error) {
  if (!error_) error_ = std::move(error);
}

void BodyReader::FailType(std::string_view name, std::string_view expected,
                          const json::value& value) {
  std::string got = json::serialize(value);
  if (got.size() > kMaxQuotedBytes) got = "something else";
  Fail(
      InvalidField(std::string(name), fmt::format("{}: expected {}, got {}", name, expected, got)));
}

void BodyReader::Read(std::string_view name, bool& out) {
  const json::value* value = Find(name);
  if (value == nullptr) return;
  if (value->is_bool()) {
    out = value->get_bool();
  } else {
    FailType(name, "true or false", *value);
  }
}

void BodyReader::Read(std::string_view name, std::string& out) {
  const json::value* value = Find(name);
  if (value == nullptr) return;
  if (value->is_string()) {
    out.assign(value->get_string().data(), value->get_string().size());
  } else {
    FailType(name, "a string", *value);
  }
}

void BodyReader::Read(std::string_view name, float& out) {
  const json::value* value = Find(name);
  if (value == nullptr) return;
  boost::system::error_code error;
  if (value->is_number()) {
    out = static_cast<float>(value->to_number<double>(error));
  } else {
    FailType(name, "a number", *value);
  }
}

void BodyReader::Read(std::string_view name, int& out, int min, int max) {
  const json::value* value = Find(name);
  if (value == nullptr) return;
  const std::optional<int64_t> number = WholeNumber(*value);
  if (number && *number >= min && *number <= max) {
    out = static_cast<int>(*number);
  } else if (min == std::numeric_limits<int>::min()) {
    FailType(name, "an integer", *value);
  } else {
    FailType(name, fmt::format("an integer from {} to {}", min, max), *value);
  }
}

void BodyReader::Read(std::string_view name, uint64_t& out) {
  const json::value* value = Find(name);
  if (value == nullptr) return;
  if (value->is_uint64()) {
    out = value->get_uint64();
  } else if (const std::optional<int64_t> number = WholeNumber(*value)) {
    out = static_cast<uint64_t>(*number);
  } else {
    FailType(name, "an integer", *value);
  }
}

void BodyReader::Read(std::string_view name, std::vector<int>& out) {
  const json::value* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_array()) return FailType(name, "an array of integers", *value);
  out.clear();
  for (const json::value& item : value->get_array()) {
    const std::optional<int64_t> number = WholeNumber(item);
    if (!number || *number < std::numeric_limits<int>::min() ||
        *number > std::numeric_limits<int>::max()) {
      return FailType(name, "an array of integers", item);
    }
    out.push_back(static_cast<int>(*number));
  }
}

void BodyReader::ReadStrings(std::string_view name, std::vector<std::string>& out) {
  const json::value* value = Find(name);
  if (value == nullptr) return;
  if (value->is_string()) {
    out = {std::string(value->get_string())};
    return;
  }
  if (!value->is_array()) return FailType(name, "a string or an array of strings", *value);
  out.clear();
  for (const json::value& item : value->get_array()) {
    if (!item.is_string()) return FailType(name, "a string or an array of strings", item);
    out.emplace_back(item.get_string());
  }
}

const json::object* BodyReader::Object(std::string_view name) {
  const json::value* value = Find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) FailType(name, "an object", *value);
  return value->if_object();
}

const json::array* BodyReader::Array(std::string_view name) {
  const json::value* value = Find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) FailType(name, "an array", *value);
  return value->if_array();
}

}  // namespace gale::server
