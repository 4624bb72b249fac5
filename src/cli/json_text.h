// JSON on standard output: one line per record, or indented for people.
#pragma once

#include <string>

#include <boost/json/value.hpp>

namespace gale::cli {

/// `{"id": 1, "share": 0.25}`: one line, plain decimal numbers (Boost's own writer has
/// only 2.5E-1). Doubles keep `digits` significant digits; what is not finite becomes null.
std::string JsonLine(const boost::json::value& value, int digits = 9);
/// The same over several lines; arrays of plain values stay on one.
std::string JsonIndented(const boost::json::value& value, int digits = 9);

}  // namespace gale::cli
