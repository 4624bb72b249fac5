// Chat templates for models that come without one, by name.
#pragma once

#include <span>
#include <string_view>

namespace gale {

struct BuiltinTemplate {
  std::string_view name;
  std::string_view source;
};

/// Sorted by name.
std::span<const BuiltinTemplate> BuiltinTemplates();

}  // namespace gale
