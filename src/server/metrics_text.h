// Prometheus's text format, version 0.0.4. Layer L6.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gale/engine_metrics.h"

namespace gale::server {

using MetricLabels = std::vector<std::pair<std::string_view, std::string>>;

/// Writes one family after the other: its head, then its samples.
class MetricsText {
 public:
  /// Every sample gets `labels` beside its own.
  explicit MetricsText(const MetricLabels& labels);

  /// Begins a family. `type`: "counter", "gauge" or "histogram".
  void Family(std::string_view name, std::string_view type, std::string_view help);
  /// A sample of the family that was begun last.
  void Sample(double value, const MetricLabels& labels = {});
  void Samples(const Histogram& histogram, const MetricLabels& labels = {});

  std::string Take() { return std::move(text_); }

 private:
  void Line(std::string_view suffix, const MetricLabels& labels, std::string_view more,
            double value);

  std::string common_labels_;
  std::string family_;
  std::string text_;
};

}  // namespace gale::server
