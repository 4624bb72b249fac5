#include "server/metrics_text.h"

#include <fmt/format.h>

namespace gale::server {
namespace {

std::string LabelText(const MetricLabels& labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    text += text.empty() ? "" : ",";
    text += name;
    text += "=\"";
    for (const char c : value) {
      if (c == '\\' || c == '"') text += '\\';
      text += c == '\n' ? ' ' : c;
    }
    text += '"';
  }
  return text;
}

}  // namespace

MetricsText::MetricsText(const MetricLabels& labels) : common_labels_(LabelText(labels)) {}

void MetricsText::Family(std::string_view name, std::string_view type, std::string_view help) {
  family_ = name;
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void MetricsText::Sample(double value, const MetricLabels& labels) { Line("", labels, "", value); }

void MetricsText::Samples(const Histogram& histogram, const MetricLabels& labels) {
  uint64_t total = 0;
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    total += histogram.counts[i];
    const std::string bound =
        i < histogram.bounds.size() ? fmt::format("{}", histogram.bounds[i]) : "+Inf";
    Line("_bucket", labels, fmt::format("le=\"{}\"", bound), static_cast<double>(total));
  }
  Line("_sum", labels, "", histogram.sum);
  Line("_count", labels, "", static_cast<double>(total));
}

void MetricsText::Line(std::string_view suffix, const MetricLabels& labels, std::string_view more,
                       double value) {
  std::string all = common_labels_;
  const std::string own = LabelText(labels);
  for (const std::string_view part : {std::string_view(own), more}) {
    if (!part.empty() && !all.empty()) all += ',';
    all += part;
  }
  text_ += family_;
  text_ += suffix;
  if (!all.empty()) text_ += '{' + all + '}';
  text_ += fmt::format(" {}\n", value);
}

}  // namespace gale::server
