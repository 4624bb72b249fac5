// What a benchmark prints: a table for people, a record for machines.
#pragma once

#include <string>

#include <boost/json/object.hpp>

#include "cli/bench_run.h"

namespace gale::cli {

boost::json::object SpreadRecord(const Spread& spread);
/// Which program ran where, with what settings.
boost::json::object RunRecord(const LlmEngine& engine, const BenchRepeats& times);

/// A case of `gale bench latency`; seconds, bytes, and the fraction of the memory's read limit.
boost::json::object LatencyRecord(const CaseResult& result);
/// The device's limits over all repeats.
boost::json::object LimitsRecord(const std::vector<DeviceSpeed>& limits);

std::string LatencyHeader();  ///< of the table
std::string LatencyRow(const std::string& model, const CaseResult& result);
/// Why figures between these limits count for nothing; empty when they do.
std::string WhyVoid(const std::string& device, const std::vector<DeviceSpeed>& limits);
/// "memory read 4551 GB/s (4548 to 4556), ..." and, on a second line, why the figures are void.
std::string LimitsText(const std::string& device, const std::vector<DeviceSpeed>& limits);
/// A line for each entry; spreads as "median (min to max)".
std::string RecordText(const boost::json::object& record);

}  // namespace gale::cli
