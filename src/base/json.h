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

/// Where a value stands: a member or an item of what stands at `parent`. Written out only for
/// messages, since files have hundreds of thousands of values and few errors.
struct JsonPath {
  static constexpr size_t kMember = std::numeric_limits<size_t>::max();

  std::shared_ptr<const JsonPath> parent;  ///< null for the root
  std::string_view key;                    ///< of a member; a view into the document
  size_t index = kMember;                  ///< of an item

  std::string ToString() const;
};

/// One value of a JsonDocument, which must outlive it. Strings are views into the document.
class JsonValue {
 public:
  JsonValue(const std::string* source, JsonPath path, simdjson::dom::element element)
      : source_(source), path_(std::move(path)), element_(element) {}

  bool is_null() const { return element_.is_null(); }
  bool is_string() const { return element_.is_string(); }
  bool is_array() const { return element_.is_array(); }
  bool is_object() const { return element_.is_object(); }
  bool is_bool() const { return element_.is_bool(); }
  std::string path() const { return path_.ToString(); }  ///< "model.vocab"; "" for the root

  Result<bool> Bool() const;
  Result<int64_t> Int(int64_t min = std::numeric_limits<int64_t>::min(),
                      int64_t max = std::numeric_limits<int64_t>::max()) const;
  /// Accepts integers too.
  Result<double> Number(double min = std::numeric_limits<double>::lowest(),
                        double max = std::numeric_limits<double>::max()) const;
  Result<std::string_view> String() const;
  Result<std::vector<JsonValue>> Items() const;
  /// Calls visit(value) for each item of an array in order until it fails.
  template <class Visit>
  Status ForEachItem(Visit&& visit) const {
    simdjson::dom::array array;
    if (element_.get(array) != simdjson::SUCCESS) return tl::unexpected(Wrong("an array"));
    const auto self = std::make_shared<const JsonPath>(path_);
    size_t index = 0;
    for (const simdjson::dom::element item : array) {
      if (Status status = visit(JsonValue(source_, {self, {}, index++}, item)); !status) {
        return status;
      }
    }
    return {};
  }
  /// Refuses duplicate keys.
  Result<JsonObject> Object() const;

  /// The value as JSON without white space.
  std::string Minified() const { return simdjson::minify(element_); }

  /// The kDataCorrupt error of this value: "config.json: rope.factor: expected ..., got 3".
  Error Wrong(std::string_view expected) const;

 private:
  const std::string* source_;
  JsonPath path_;
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
      if (Status status = visit(key, JsonValue(source_, {path_, key}, element)); !status) {
        return status;
      }
    }
    return {};
  }

 private:
  friend class JsonValue;
  JsonObject(const std::string* source, JsonPath path, simdjson::dom::object object)
      : source_(source),
        path_(std::make_shared<const JsonPath>(std::move(path))),
        object_(object) {}

  const std::string* source_;
  std::shared_ptr<const JsonPath> path_;
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
