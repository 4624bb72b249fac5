// Published models by name: their config.json facts, for dummy weights and `gale info`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gale {

/// The config.json text of a preset; empty when there is none of that name.
std::string_view PresetConfig(std::string_view name);
std::vector<std::string> PresetNames();  ///< sorted

}  // namespace gale
