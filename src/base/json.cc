#include "base/json.h"

#include <algorithm>
#include <bit>
#include <functional>

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {
namespace {

/// What is there, short enough for a message: a number's value, a string's beginning, a kind.
std::string Shown(const simdjson::dom::element& element) {
  constexpr size_t kMaxShown = 60;
  switch (element.type()) {
    case simdjson::dom::element_type::ARRAY: return "an array";
    case simdjson::dom::element_type::OBJECT: return "an object";
    default: break;
  }
  std::string text = simdjson::minify(element);
  if (text.size() > kMaxShown) text = text.substr(0, kMaxShown) + "...";
  return text;
}

/// A key that stands twice in `object`, if any.
std::optional<std::string_view> RepeatedKey(const simdjson::dom::object& object) {
  // Open addressing, at most half full: objects may have hundreds of thousands of members.
  size_t num_keys = 0;
  for ([[maybe_unused]] const auto field : object) ++num_keys;
  std::vector<std::string_view> slots(std::bit_ceil(2 * num_keys + 1));
  const size_t mask = slots.size() - 1;
  for (const auto [key, value] : object) {
    size_t slot = std::hash<std::string_view>()(key) & mask;
    for (; slots[slot].data() != nullptr; slot = (slot + 1) & mask) {
      if (slots[slot] == key) return key;
    }
    slots[slot] = key;
  }
  return std::nullopt;
}

/// `text` with every integer too long for 64 bits written as a float. Python's json writes integers
/// of any size ("model_max_length": 1000000000000000019884624838656); simdjson refuses them.
std::string WithoutLongIntegers(std::string_view text) {
  constexpr size_t kMaxDigits = 19;  // of any int64
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    const size_t end =
        in_string ? i : std::min(text.find_first_not_of("+-.0123456789Ee", i), text.size());
    if (end > i) {
      const std::string_view number = text.substr(i, end - i);
      out += number;
      if (number.size() > kMaxDigits && number.find_first_of(".Ee") == number.npos) out += "e0";
      i = end;
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    const size_t length = in_string && text[i] == '\\' ? 2 : 1;  // an escaped quote ends no string
    out += text.substr(i, length);
    i += length;
  }
  return out;
}

}  // namespace

std::string JsonPath::ToString() const {
  const std::string before = parent == nullptr ? "" : parent->ToString();
  if (index != kMember) return fmt::format("{}[{}]", before, index);
  return before.empty() ? std::string(key) : fmt::format("{}.{}", before, key);
}

Error JsonValue::Wrong(std::string_view expected) const {
  const std::string at = path();
  return {ErrorCode::kDataCorrupt,
          fmt::format("{}: {}: expected {}, got {}", *source_, at.empty() ? "top level" : at,
                      expected, Shown(element_))};
}

Result<bool> JsonValue::Bool() const {
  bool value = false;
  if (element_.get(value) != simdjson::SUCCESS) return tl::unexpected(Wrong("true or false"));
  return value;
}

Result<int64_t> JsonValue::Int(int64_t min, int64_t max) const {
  int64_t value = 0;
  // is_double() is true of every number; type() tells how it is written.
  if (element_.type() == simdjson::dom::element_type::DOUBLE ||
      element_.get(value) != simdjson::SUCCESS || value < min || value > max) {
    return tl::unexpected(Wrong(fmt::format("an integer in [{}, {}]", min, max)));
  }
  return value;
}

Result<double> JsonValue::Number(double min, double max) const {
  double value = 0;
  if (element_.get(value) != simdjson::SUCCESS || value < min || value > max) {
    return tl::unexpected(Wrong(fmt::format("a number in [{}, {}]", min, max)));
  }
  return value;
}

Result<std::string_view> JsonValue::String() const {
  std::string_view value;
  if (element_.get(value) != simdjson::SUCCESS) return tl::unexpected(Wrong("a string"));
  return value;
}

Result<std::vector<JsonValue>> JsonValue::Items() const {
  std::vector<JsonValue> items;
  GALE_RETURN_IF_ERROR(ForEachItem([&](JsonValue item) -> Status {
    items.push_back(std::move(item));
    return {};
  }));
  return items;
}

Result<JsonObject> JsonValue::Object() const {
  simdjson::dom::object object;
  if (element_.get(object) != simdjson::SUCCESS) return tl::unexpected(Wrong("an object"));
  if (const auto twin = RepeatedKey(object)) {
    return tl::unexpected(Wrong(fmt::format("each key once, but \"{}\" stands twice", *twin)));
  }
  return JsonObject(source_, path_, object);
}

std::optional<JsonValue> JsonObject::Find(std::string_view key) const {
  for (const auto [member, element] : object_) {
    if (member != key) continue;
    if (element.is_null()) break;
    return JsonValue(source_, {path_, member}, element);
  }
  return std::nullopt;
}

Result<JsonValue> JsonObject::Get(std::string_view key) const {
  if (auto value = Find(key)) return *value;
  return MakeError(ErrorCode::kDataCorrupt,
                   fmt::format("{}: {}: missing", *source_, JsonPath{path_, key}.ToString()));
}

Result<JsonDocument> JsonDocument::Parse(std::string_view text, std::string source,
                                         size_t max_depth) {
  if (text.empty()) {  // simdjson would copy from a null pointer
    return MakeError(ErrorCode::kDataCorrupt, fmt::format("{}: not valid JSON: empty", source));
  }
  JsonDocument document;
  document.source_ = std::make_unique<std::string>(std::move(source));
  document.parser_ = std::make_unique<simdjson::dom::parser>();
  simdjson::error_code error = document.parser_->allocate(text.size(), max_depth);
  if (error == simdjson::SUCCESS) {
    error = document.parser_->parse(text.data(), text.size()).get(document.root_);
  }
  if (error == simdjson::NUMBER_ERROR) {
    error = document.parser_->parse(WithoutLongIntegers(text)).get(document.root_);
  }
  if (error != simdjson::SUCCESS) {
    return MakeError(
        ErrorCode::kDataCorrupt,
        fmt::format("{}: not valid JSON: {}", *document.source_, simdjson::error_message(error)));
  }
  return document;
}

JsonValue JsonDocument::root() const { return JsonValue(source_.get(), {}, root_); }

}  // namespace gale
