// What a plot is drawn on: an SVG picture or a PNG one, told apart by nobody who draws.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace gale::cli {

struct Point {
  double x = 0;
  double y = 0;  ///< downwards
};
using Color = uint32_t;  ///< 0xRRGGBB

enum class Anchor { kStart, kMiddle, kEnd };

/// White at first. Lengths are in pixels of the picture's nominal size.
class PlotCanvas {
 public:
  virtual ~PlotCanvas() = default;
  virtual void Line(Point from, Point to, double width, Color color) = 0;
  virtual void Dot(Point center, double radius, Color color) = 0;
  /// 12 pixels high; `at` is on the base line. Digits, letters and a little punctuation.
  virtual void Text(Point at, std::string_view text, Anchor anchor, Color color) = 0;
  /// The file's bytes.
  virtual std::string Encode() const = 0;
};

std::unique_ptr<PlotCanvas> MakeSvgCanvas(int width, int height);
/// Twice as many pixels each way.
std::unique_ptr<PlotCanvas> MakePngCanvas(int width, int height);

}  // namespace gale::cli
