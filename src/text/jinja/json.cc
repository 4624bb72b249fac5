#include "text/jinja/json.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "text/jinja/builtins.h"
#include "text/jinja/integer.h"
#include "text/utf8.h"

namespace gale::jinja {
namespace {

constexpr int kMaxDepth = 200;

/// json.dumps with ensure_ascii=False by default.
class JsonWriter {
 public:
  JsonWriter(const CallArguments& arguments) {
    arguments.Check("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
    ascii_ = arguments.Bool(0, "ensure_ascii", false);
    const Value indent = arguments.Get(1, "indent");
    if (indent.is_string()) {
      indent_ = indent.bytes();
      multi_line_ = true;
    } else if (!indent.is_none() && !indent.is_undefined()) {
      constexpr int64_t kMaxIndent = 64;
      const int64_t spaces = arguments.Int(1, "indent", 0);
      if (spaces > kMaxIndent) throw TemplateError("tojson: indent is too large");
      indent_ = std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' ');
      multi_line_ = true;
    }
    if (multi_line_) item_separator_ = std::string(1, ',');
    const Value separators = arguments.Get(2, "separators");
    if (separators.is_list() && separators.AsList().items.size() == 2) {
      item_separator_ = ExpectString(separators.AsList().items[0], "separators").bytes();
      key_separator_ = ExpectString(separators.AsList().items[1], "separators").bytes();
    }
    sort_keys_ = arguments.Bool(3, "sort_keys", false);
  }

  MarkedString Write(const Value& value) {
    Put(value, 0);
    return std::move(out_);
  }

 private:
  void Put(const Value& value, int depth) {
    if (depth > kMaxDepth)
      throw TemplateError("tojson: a value is nested too deeply, or in itself");
    switch (value.kind()) {
      case Value::Kind::kNone: out_.Append("null"); return;
      case Value::Kind::kBool: out_.Append(value.AsBool() ? "true" : "false"); return;
      case Value::Kind::kInt:
      case Value::Kind::kBigInt: out_.Append(IntegerText(value)); return;
      case Value::Kind::kFloat: out_.Append(Number(value.AsFloat())); return;
      case Value::Kind::kString: PutString(value.AsString()); return;
      case Value::Kind::kList:
        if (!value.AsList().is_tuple() && value.AsList().shape != List::Shape::kList) break;
        return PutList(value.AsList(), depth);
      case Value::Kind::kDict: PutDict(value.AsDict(), depth); return;
      default: break;
    }
    throw TemplateError(
        fmt::format("Object of type {} is not JSON serializable", value.TypeName()));
  }

  static std::string Number(double number) {
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(number);
  }

  void NewLine(int depth) {
    if (!multi_line_) return;
    out_.Append("\n");
    for (int i = 0; i < depth; ++i) out_.Append(indent_);
  }

  void PutList(const List& list, int depth) {
    if (list.items.empty()) return out_.Append("[]");
    out_.Append("[");
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out_.Append(item_separator_);
      NewLine(depth + 1);
      Put(list.items[i], depth + 1);
    }
    NewLine(depth);
    out_.Append("]");
  }

  void PutDict(const Dict& dict, int depth) {
    if (dict.size() == 0) return out_.Append("{}");
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (sort_keys_) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) {
        return Compare(a->first, b->first) < 0;
      });
    }
    out_.Append("{");
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_.Append(item_separator_);
      NewLine(depth + 1);
      PutKey(entries[i]->first);
      out_.Append(key_separator_);
      Put(entries[i]->second, depth + 1);
    }
    NewLine(depth);
    out_.Append("}");
  }

  /// Keys that are no strings are spelled as JSON in quotes.
  void PutKey(const Value& key) {
    if (key.is_string()) return PutString(key.AsString());
    if (key.is_list())
      throw TemplateError("tojson: keys must be strings, numbers, booleans or None");
    out_.Append("\"");
    Put(key, 0);
    out_.Append("\"");
  }

  void PutString(const MarkedString& value) {
    std::string quoted(1, '"');
    const std::string_view bytes = value.bytes();
    for (size_t pos = 0; pos < bytes.size(); pos += text::Utf8Size(bytes[pos])) {
      PutCharacter(bytes.substr(pos, text::Utf8Size(bytes[pos])), &quoted);
    }
    quoted.push_back('"');
    out_.Append(value.is_marked() ? MarkedString::User(std::move(quoted))
                                  : MarkedString(std::move(quoted)));
  }

  void PutCharacter(std::string_view character, std::string* out) const {
    const char32_t c = text::DecodeUtf8(character).code_point;
    const auto unit = [&](uint32_t value) { *out += fmt::format("\\u{:04x}", value); };
    switch (c) {
      case '"': *out += "\\\""; return;
      case '\\': *out += "\\\\"; return;
      case '\n': *out += "\\n"; return;
      case '\r': *out += "\\r"; return;
      case '\t': *out += "\\t"; return;
      case '\f': *out += "\\f"; return;
      case '\b': *out += "\\b"; return;
      default: break;
    }
    if (c < 0x20 || (ascii_ && c > 0x7E && c < 0x10000)) {
      unit(c);
    } else if (ascii_ && c >= 0x10000) {
      unit(0xD800 + ((c - 0x10000) >> 10));
      unit(0xDC00 + ((c - 0x10000) & 0x3FF));
    } else {
      *out += character;
    }
  }

  MarkedString out_;
  std::string indent_;
  bool multi_line_ = false;
  bool ascii_ = false;
  bool sort_keys_ = false;
  std::string item_separator_ = ", ";
  std::string key_separator_ = ": ";
};

Value UserString(std::string_view text) {
  return Value::String(MarkedString::User(std::string(text)));
}

}  // namespace

MarkedString ToJson(const Value& value, const CallArguments& arguments) {
  return JsonWriter(arguments).Write(value);
}

Value FromJson(Heap& heap, const simdjson::dom::element& element) {
  using Type = simdjson::dom::element_type;
  switch (element.type()) {
    case Type::NULL_VALUE: return Value::None();
    case Type::BOOL: return Value::Bool(bool(element));
    case Type::INT64: return Value::Int(int64_t(element));
    case Type::UINT64: return *ParseInteger(std::to_string(uint64_t(element)), 10);
    case Type::DOUBLE: return Value::Float(double(element));
    case Type::STRING: return UserString(std::string_view(element));
    case Type::ARRAY: {
      std::vector<Value> items;
      for (const simdjson::dom::element item : simdjson::dom::array(element)) {
        items.push_back(FromJson(heap, item));
      }
      return Value::Of(heap.NewList(std::move(items)));
    }
    case Type::OBJECT: {
      Dict* dict = heap.NewDict();
      for (const auto [key, value] : simdjson::dom::object(element)) {
        dict->Set(UserString(key), FromJson(heap, value));
      }
      return Value::Of(dict);
    }
  }
  return {};
}

}  // namespace gale::jinja
