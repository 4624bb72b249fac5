#include <fmt/format.h>

#include "cli/plot_canvas.h"

namespace gale::cli {
namespace {

class SvgCanvas final : public PlotCanvas {
 public:
  SvgCanvas(int width, int height)
      : body_(fmt::format(R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" )"
                          R"(font-family="sans-serif" font-size="12" stroke-linecap="round">)"
                          R"(<rect width="100%" height="100%" fill="white"/>)",
                          width, height)) {}

  void Line(Point from, Point to, double width, Color color) override {
    body_ += fmt::format(
        R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="#{:06x}" stroke-width="{:g}"/>)",
        from.x, from.y, to.x, to.y, color, width);
  }
  void Dot(Point center, double radius, Color color) override {
    body_ += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{:g}" fill="#{:06x}"/>)", center.x,
                         center.y, radius, color);
  }
  void Text(Point at, std::string_view text, Anchor anchor, Color color) override {
    constexpr const char* kAnchors[] = {"start", "middle", "end"};
    body_ += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="#{:06x}">{}</text>)",
                         at.x, at.y, kAnchors[static_cast<int>(anchor)], color, text);
  }
  std::string Encode() const override { return body_ + "</svg>\n"; }

 private:
  std::string body_;
};

}  // namespace

std::unique_ptr<PlotCanvas> MakeSvgCanvas(int width, int height) {
  return std::make_unique<SvgCanvas>(width, height);
}

}  // namespace gale::cli
