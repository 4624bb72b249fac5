#include "cli/load_plot.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "cli/plot_canvas.h"

namespace gale::cli {
namespace {

constexpr Color kInk = 0x202020;
constexpr Color kGrid = 0xCCCCCC;
constexpr int kHeight = 330;
constexpr double kPanelStep = 430;
constexpr double kFirstLeft = 60;

/// The next of 1, 2, 4, 5, 8, 10, ... from `value` on.
double NiceCeiling(double value) {
  if (value <= 0) return 1;
  const double decade = std::pow(10, std::floor(std::log10(value)));
  for (const double factor : {1.0, 2.0, 4.0, 5.0, 8.0}) {
    if (value <= factor * decade) return factor * decade;
  }
  return 10 * decade;
}

/// One kind of latency: three lines of percentiles over the load.
class Panel {
 public:
  Panel(double left, const std::vector<LoadSummary>& runs, Percentiles LoadSummary::* times)
      : left_(left), runs_(runs), times_(times) {
    for (const LoadSummary& run : runs) {
      most_load_ = std::max(most_load_, run.load_value);
      most_ms_ = std::max(most_ms_, (run.*times).p99 * 1e3);
    }
    most_load_ = NiceCeiling(most_load_);
    most_ms_ = NiceCeiling(most_ms_);
  }

  void Draw(const char* title, const std::string& axis, PlotCanvas& canvas) const {
    canvas.Text({left_, 24}, title, Anchor::kStart, kInk);
    canvas.Text({left_ + kWidth / 2, 318}, axis, Anchor::kMiddle, kInk);
    for (int i = 0; i <= 4; ++i) {
      const double share = i / 4.0;
      const double y = Y(share * most_ms_);
      canvas.Line({left_, y}, {left_ + kWidth, y}, 1, kGrid);
      canvas.Text({left_ - 6, y + 4}, fmt::format("{:g}", share * most_ms_), Anchor::kEnd, kInk);
      canvas.Text({X(share * most_load_), 298}, fmt::format("{:g}", share * most_load_),
                  Anchor::kMiddle, kInk);
    }
    DrawLine("p50", 0x1F8FB3, &Percentiles::p50, canvas);
    DrawLine("p90", 0xE08A3C, &Percentiles::p90, canvas);
    DrawLine("p99", 0xB3261E, &Percentiles::p99, canvas);
  }

 private:
  static constexpr double kWidth = 320;
  static constexpr double kTop = 44;
  static constexpr double kPlotHeight = 236;

  double X(double load) const { return left_ + load / most_load_ * kWidth; }
  double Y(double ms) const { return kTop + kPlotHeight * (1 - ms / most_ms_); }
  Point At(const LoadSummary& run, double Percentiles::* which) const {
    return {X(run.load_value), Y((run.*times_).*which * 1e3)};
  }

  void DrawLine(const char* name, Color color, double Percentiles::* which,
                PlotCanvas& canvas) const {
    for (size_t i = 0; i < runs_.size(); ++i) {
      const Point at = At(runs_[i], which);
      canvas.Dot(at, 3, color);
      if (i > 0) canvas.Line(At(runs_[i - 1], which), at, 2, color);
    }
    const Point last = At(runs_.back(), which);
    canvas.Text({last.x + 6, last.y + 4}, name, Anchor::kStart, color);
  }

  double left_;
  const std::vector<LoadSummary>& runs_;
  Percentiles LoadSummary::* times_;
  double most_load_ = 0;
  double most_ms_ = 0;
};

}  // namespace

std::string LoadPlot(const std::vector<LoadSummary>& runs, const std::string& axis,
                     const std::string& path) {
  constexpr std::pair<const char*, Percentiles LoadSummary::*> kPanels[] = {
      {"Time to first token, ms", &LoadSummary::first_token},
      {"Between tokens, ms", &LoadSummary::between_tokens},
      {"Whole request, ms", &LoadSummary::end_to_end}};
  constexpr int kWidth = static_cast<int>(kPanelStep * std::size(kPanels)) + 30;
  const auto canvas =
      path.ends_with(".png") ? MakePngCanvas(kWidth, kHeight) : MakeSvgCanvas(kWidth, kHeight);
  double left = kFirstLeft;
  for (const auto& [title, times] : kPanels) {
    Panel(left, runs, times).Draw(title, axis, *canvas);
    left += kPanelStep;
  }
  return canvas->Encode();
}

}  // namespace gale::cli
