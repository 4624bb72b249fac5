// Strict reading of JSON files: every accessor checks type and range, and its error names the file,
// the path of the value, what was expected and what is there. Layer L0; used by text/ and weights/.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <simdjson.h>

#include "gale/status.h"

namespace gale {

class JsonObject;

/// One value of a JsonDocument, which must outlive it. Strings are views into the document.
class JsonValue {
 public:
  JsonValue(const std::string* source, std::string path, simdjson::dom::element element)
      : source_(source), path_(std::move(path)), element_(element) {}

  bool is_null() const { return element_.is_null(); }
  bool is_string() const { return element_.is_string(); }
  bool is_array() const { return element_.is_array(); }
  bool is_object() const { return element_.is_object(); }
  bool is_bool() const { return element_.is_bool(); }
  const std::string& path() const { return path_; }  ///< "model.vocab"; "" for the root

  Result<bool> Bool() const;
  Result<int64_t> Int(int64_t min = std::numeric_limits<int64_t>::min(),
                      int64_t max = std::numeric_limits<int64_t>::max()) const;
  /// Accepts integers too.
  Result<double> Number(double min = std::numeric_limits<double>::lowest(),
                        double max = std::numeric_limits<double>::max()) const;
  Result<std::string_view> String() const;
  Result<std::vector<JsonValue>> Items() const;
  /// Refuses duplicate keys.
  Result<JsonObject> Object() const;

  /// The kDataCorrupt error of this value: "config.json: rope.factor: expected ..., got 3".
  Error Wrong(std::string_view expected) const;

 private:
  const std::string* source_;
  std::string path_;
  simdjson::dom::element element_;
};

class JsonObject {
 public:
  /// Absent and null are the same: nothing.
  std::optional<JsonValue> Find(std::string_view key) const;
  Result<JsonValue> Get(std::string_view key) const;  ///< an error when absent or null
  size_t size() const { return object_.size(); }

  /// Calls visit(key, value) for each member in the file's order, nulls included, until it fails.
  template <class Visit>
  Status ForEach(Visit&& visit) const {
    for (const auto [key, element] : object_) {
      if (Status status = visit(key, JsonValue(source_, Path(key), element)); !status)
        return status;
    }
    return {};
  }

 private:
  friend class JsonValue;
  JsonObject(const std::string* source, std::string path, simdjson::dom::object object)
      : source_(source), path_(std::move(path)), object_(object) {}
  std::string Path(std::string_view key) const;

  const std::string* source_;
  std::string path_;
  simdjson::dom::object object_;
};

/// A whole parsed file or text; movable.
class JsonDocument {
 public:
  /// `source` names the text in messages. Errors: kDataCorrupt with the parser's reason.
  static Result<JsonDocument> Parse(std::string_view text, std::string source,
                                    size_t max_depth = 64);
  JsonValue root() const;

 private:
  JsonDocument() = default;
  std::unique_ptr<std::string> source_;
  std::unique_ptr<simdjson::dom::parser> parser_;
  simdjson::dom::element root_;
};

}  // namespace gale
