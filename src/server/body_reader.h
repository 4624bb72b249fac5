// Reads the fields of a JSON request body: unknown ones are ignored, null counts as absent, and the
// first of a wrong type is the error. Layer L6.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "server/api_error.h"

namespace gale::server {

/// Parses a whole body, which must be an object. Errors: code "invalid_json".
ApiResult<boost::json::object> ParseBody(std::string_view body);

class BodyReader {
 public:
  explicit BodyReader(const boost::json::object& body) : body_(body) {}

  /// Null when the field is absent or null.
  const boost::json::value* Find(std::string_view name) const;

  // Each leaves `out` alone when the field is absent, and sets error() when it is not fit.
  void Read(std::string_view name, bool& out);
  void Read(std::string_view name, std::string& out);
  void Read(std::string_view name, float& out);
  /// Numbers without a fraction count as integers.
  void Read(std::string_view name, int& out, int min = std::numeric_limits<int>::min(),
            int max = std::numeric_limits<int>::max());
  void Read(std::string_view name, uint64_t& out);
  void Read(std::string_view name, std::vector<int>& out);
  /// A string or an array of them.
  void ReadStrings(std::string_view name, std::vector<std::string>& out);
  template <class T>
  void Read(std::string_view name, std::optional<T>& out) {
    if (Find(name) != nullptr) Read(name, out.emplace());
  }
  const boost::json::object* Object(std::string_view name);
  const boost::json::array* Array(std::string_view name);

  void Fail(ApiError error);
  /// The first error; later ones are dropped.
  const std::optional<ApiError>& error() const { return error_; }

 private:
  void FailType(std::string_view name, std::string_view expected, const boost::json::value& value);

  const boost::json::object& body_;
  std::optional<ApiError> error_;
};

}  // namespace gale::server
