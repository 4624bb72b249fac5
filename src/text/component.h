// What the parts of tokenizer.json share: each is an object with a "type".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/json.h"
#include "base/status_macros.h"

namespace gale::text {

/// A part of tokenizer.json: its members and its type.
struct Component {
  JsonObject object;
  std::string_view type;

  static Result<Component> Parse(const JsonValue& value) {
    GALE_ASSIGN_OR_RETURN(JsonObject object, value.Object());
    GALE_ASSIGN_OR_RETURN(const JsonValue type, object.Get("type"));
    GALE_ASSIGN_OR_RETURN(const std::string_view name, type.String());
    return Component{object, name};
  }
};

/// The one error for a part that is not built in: where it stands, its type, and what there is.
inline tl::unexpected<Error> UnknownType(const JsonValue& value, std::string_view type,
                                         std::string_view known) {
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("tokenizer.json: {}.type: \"{}\" is not supported; known are {}",
                               value.path(), type, known));
}

/// Members with a default, where absent and null are the same.
inline Result<bool> BoolOr(const JsonObject& object, std::string_view key, bool fallback) {
  const auto value = object.Find(key);
  return value ? value->Bool() : Result<bool>(fallback);
}

inline Result<std::string_view> StringOr(const JsonObject& object, std::string_view key,
                                         std::string_view fallback) {
  const auto value = object.Find(key);
  return value ? value->String() : Result<std::string_view>(fallback);
}

/// Sequences may hold sequences; this is how deep before a file is taken for a lie.
inline constexpr int kMaxSequenceDepth = 8;

/// Visits the parts of a "Sequence", found under `key`, or the part itself.
/// visit(const JsonValue&, const Component&) -> Status.
template <class Visit>
Status ForEachPart(const JsonValue& value, std::string_view key, Visit&& visit, int depth = 0) {
  GALE_ASSIGN_OR_RETURN(const Component part, Component::Parse(value));
  if (part.type != "Sequence") return visit(value, part);
  if (depth == kMaxSequenceDepth) {
    return tl::unexpected(value.Wrong(fmt::format("at most {} nested sequences", depth)));
  }
  GALE_ASSIGN_OR_RETURN(const JsonValue list, part.object.Get(key));
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, list.Items());
  for (const JsonValue& item : items) {
    GALE_RETURN_IF_ERROR(ForEachPart(item, key, visit, depth + 1));
  }
  return {};
}

}  // namespace gale::text
