#include "quant/input_groups.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "quant/unpack.h"

namespace gale {

Result<std::vector<int32_t>> OrderByGroup(std::span<const int32_t> groups, int64_t group,
                                          std::string_view name) {
  std::vector<int32_t> order(groups.size());
  std::iota(order.begin(), order.end(), 0);
  const auto group_of = [&](int32_t input) { return groups[static_cast<size_t>(input)]; };
  std::ranges::stable_sort(order, {}, group_of);
  const int64_t last = (std::ssize(order) - 1) / group;
  for (int64_t i = 0; i < std::ssize(order); ++i) {
    const int32_t input = order[static_cast<size_t>(i)];
    if (group_of(input) < 0 || group_of(input) > last) {
      return WrongValue(name, fmt::format("expected groups from 0 to {}, got {} for input {}", last,
                                          group_of(input), input));
    }
  }
  for (int64_t i = 0; i < std::ssize(order); ++i) {
    if (group_of(order[static_cast<size_t>(i)]) == i / group) continue;
    return WrongValue(name, fmt::format("expected {} inputs in each group, got {} in group {}",
                                        group, std::ranges::count(groups, i / group), i / group));
  }
  return order;
}

}  // namespace gale
