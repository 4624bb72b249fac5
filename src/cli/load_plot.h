// Latency over load, as a picture.
#pragma once

#include <string>
#include <vector>

#include "cli/load_report.h"

namespace gale::cli {

/// The bytes of a PNG picture where `path` ends in ".png", else of an SVG one. `axis`: what
/// load_value counts.
std::string LoadPlot(const std::vector<LoadSummary>& runs, const std::string& axis,
                     const std::string& path);

}  // namespace gale::cli
