// JSON in and out of template values.
#pragma once

#include <string_view>

#include <simdjson.h>

#include "text/jinja/value.h"

namespace gale::jinja {

/// A JSON value as template value; all of its strings, keys too, are marked as the user's.
Value FromJson(Heap& heap, const simdjson::dom::element& element);

}  // namespace gale::jinja
