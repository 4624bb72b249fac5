#include "cli/json_text.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace gale::cli {
namespace {

namespace json = boost::json;

class Writer {
 public:
  Writer(int digits, bool indented) : digits_(digits), indented_(indented) {}

  void Write(const json::value& value, int depth) {
    if (const json::object* object = value.if_object()) {
      WriteObject(*object, depth);
    } else if (const json::array* array = value.if_array()) {
      WriteArray(*array, depth);
    } else if (const double* number = value.if_double()) {
      text_ += std::isfinite(*number) ? fmt::format("{:.{}g}", *number, digits_) : "null";
    } else {
      text_ += json::serialize(value);
    }
  }

  std::string Take() { return std::move(text_); }

 private:
  void WriteObject(const json::object& object, int depth) {
    text_ += '{';
    bool first = true;
    for (const auto& [key, value] : object) {
      Separate(first, indented_, depth + 1);
      text_ += json::serialize(json::value(key)) + ": ";
      Write(value, depth + 1);
    }
    if (!first && indented_) NewLine(depth);
    text_ += '}';
  }

  void WriteArray(const json::array& array, int depth) {
    const bool on_lines =
        indented_ && std::any_of(array.begin(), array.end(),
                                 [](const auto& item) { return item.is_structured(); });
    text_ += '[';
    bool first = true;
    for (const json::value& item : array) {
      Separate(first, on_lines, depth + 1);
      Write(item, depth + 1);
    }
    if (on_lines) NewLine(depth);
    text_ += ']';
  }

  void Separate(bool& first, bool on_lines, int depth) {
    if (!first) text_ += on_lines ? "," : ", ";
    first = false;
    if (on_lines) NewLine(depth);
  }

  void NewLine(int depth) { text_ += '\n' + std::string(2 * static_cast<size_t>(depth), ' '); }

  int digits_;
  bool indented_;
  std::string text_;
};

}  // namespace

std::string JsonLine(const json::value& value, int digits) {
  Writer writer(digits, false);
  writer.Write(value, 0);
  return writer.Take() + '\n';
}

std::string JsonIndented(const json::value& value, int digits) {
  Writer writer(digits, true);
  writer.Write(value, 0);
  return writer.Take() + '\n';
}

}  // namespace gale::cli
