// Act-order: inputs that are spread over groups of scales, by a tensor that tells each one's group.
// Used by the formats of this folder.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "gale/status.h"

namespace gale {

/// The inputs in the order of their groups, of which all have `group` inputs but the last the rest.
/// Errors: kDataCorrupt when `groups`, the tensor called `name`, does not say that.
Result<std::vector<int32_t>> OrderByGroup(std::span<const int32_t> groups, int64_t group,
                                          std::string_view name);

}  // namespace gale
