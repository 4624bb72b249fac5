// A picture of pixels, and as much of PNG (ISO 15948) and deflate (RFC 1951) as plots need.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <span>
#include <vector>

#include "cli/plot_canvas.h"

namespace gale::cli {
namespace {

constexpr int kScale = 2;  // pixels of the picture for one of its nominal size
constexpr int kGlyphColumns = 5;
constexpr int kGlyphScale = 2;  // pixels of the picture for one of a glyph, which has 7 rows

struct Glyph {
  char character;
  std::array<uint8_t, kGlyphColumns> columns;  ///< bit 0 is the top row
};

constexpr Glyph kGlyphs[] = {
    {'0', {0x3E, 0x51, 0x49, 0x45, 0x3E}}, {'1', {0x00, 0x42, 0x7F, 0x40, 0x00}},
    {'2', {0x42, 0x61, 0x51, 0x49, 0x46}}, {'3', {0x21, 0x41, 0x45, 0x4B, 0x31}},
    {'4', {0x18, 0x14, 0x12, 0x7F, 0x10}}, {'5', {0x27, 0x45, 0x45, 0x45, 0x39}},
    {'6', {0x3C, 0x4A, 0x49, 0x49, 0x30}}, {'7', {0x01, 0x71, 0x09, 0x05, 0x03}},
    {'8', {0x36, 0x49, 0x49, 0x49, 0x36}}, {'9', {0x06, 0x49, 0x49, 0x29, 0x1E}},
    {'a', {0x20, 0x54, 0x54, 0x54, 0x78}}, {'b', {0x7F, 0x48, 0x44, 0x44, 0x38}},
    {'c', {0x38, 0x44, 0x44, 0x44, 0x28}}, {'d', {0x38, 0x44, 0x44, 0x48, 0x7F}},
    {'e', {0x38, 0x54, 0x54, 0x54, 0x18}}, {'f', {0x08, 0x7E, 0x09, 0x01, 0x02}},
    {'g', {0x0C, 0x52, 0x52, 0x52, 0x3E}}, {'h', {0x7F, 0x08, 0x04, 0x04, 0x78}},
    {'i', {0x00, 0x44, 0x7D, 0x40, 0x00}}, {'j', {0x20, 0x40, 0x44, 0x3D, 0x00}},
    {'k', {0x7F, 0x10, 0x28, 0x44, 0x00}}, {'l', {0x00, 0x41, 0x7F, 0x40, 0x00}},
    {'m', {0x7C, 0x04, 0x18, 0x04, 0x78}}, {'n', {0x7C, 0x08, 0x04, 0x04, 0x78}},
    {'o', {0x38, 0x44, 0x44, 0x44, 0x38}}, {'p', {0x7C, 0x14, 0x14, 0x14, 0x08}},
    {'q', {0x08, 0x14, 0x14, 0x14, 0x7C}}, {'r', {0x7C, 0x08, 0x04, 0x04, 0x08}},
    {'s', {0x48, 0x54, 0x54, 0x54, 0x24}}, {'t', {0x04, 0x3F, 0x44, 0x40, 0x20}},
    {'u', {0x3C, 0x40, 0x40, 0x20, 0x7C}}, {'v', {0x1C, 0x20, 0x40, 0x20, 0x1C}},
    {'w', {0x3C, 0x40, 0x30, 0x40, 0x3C}}, {'x', {0x44, 0x28, 0x10, 0x28, 0x44}},
    {'y', {0x0C, 0x50, 0x50, 0x50, 0x3C}}, {'z', {0x44, 0x64, 0x54, 0x4C, 0x44}},
    {'B', {0x7F, 0x49, 0x49, 0x49, 0x36}}, {'T', {0x01, 0x01, 0x7F, 0x01, 0x01}},
    {'W', {0x3F, 0x40, 0x38, 0x40, 0x3F}}, {',', {0x00, 0x50, 0x30, 0x00, 0x00}},
    {'.', {0x00, 0x60, 0x60, 0x00, 0x00}}, {'-', {0x08, 0x08, 0x08, 0x08, 0x08}},
    {'+', {0x08, 0x08, 0x3E, 0x08, 0x08}}};

/// Blank for a character that is not there.
std::array<uint8_t, kGlyphColumns> Columns(char character) {
  const auto* found = std::ranges::find(kGlyphs, character, &Glyph::character);
  return found == std::end(kGlyphs) ? std::array<uint8_t, kGlyphColumns>{} : found->columns;
}

void AppendBigEndian(uint32_t value, std::string& out) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xFF);
}

uint32_t Crc32(std::string_view bytes) {
  uint32_t crc = ~0U;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320U : 0);
  }
  return ~crc;
}

uint32_t Adler32(std::span<const uint8_t> bytes) {
  constexpr uint32_t kModulus = 65521;
  uint32_t a = 1;
  uint32_t b = 0;
  for (const uint8_t byte : bytes) {
    a = (a + byte) % kModulus;
    b = (b + a) % kModulus;
  }
  return b << 16 | a;
}

/// Deflate with its fixed codes, where only runs of a byte are made shorter: of rows that are
/// differences to those above, hardly anything else is left.
class RunDeflater {
 public:
  std::string Deflate(std::span<const uint8_t> bytes) {
    Bits(1, 1);  // the last block
    Bits(1, 2);  // with fixed codes
    for (size_t i = 0; i < bytes.size();) {
      size_t run = 1;
      while (i + run < bytes.size() && bytes[i + run] == bytes[i]) ++run;
      Symbol(bytes[i]);
      i += run;
      --run;
      for (; run >= kShortest; run -= std::min(run, kLongest)) Match(std::min(run, kLongest));
      for (; run > 0; --run) Symbol(bytes[i - 1]);
    }
    Symbol(256);
    Bits(0, 7);
    return std::move(out_);
  }

 private:
  static constexpr size_t kShortest = 3;
  static constexpr size_t kLongest = 258;

  /// So many times the byte before.
  void Match(size_t length) {
    const auto n = static_cast<uint32_t>(length - kShortest);
    if (length == kLongest) {
      Symbol(285);
    } else {
      const int num_extra = n < 8 ? 0 : std::bit_width(n) - 3;
      Symbol(257 + 4 * static_cast<uint32_t>(num_extra) + (n >> num_extra));
      Bits(n & ((1U << num_extra) - 1), num_extra);
    }
    Bits(0, 5);  // distance 1
  }

  void Bits(uint32_t value, int count) {
    for (int i = 0; i < count; ++i) {
      byte_ |= (value >> i & 1) << num_bits_;
      if (++num_bits_ < 8) continue;
      out_ += static_cast<char>(byte_);
      byte_ = 0;
      num_bits_ = 0;
    }
  }
  /// Huffman codes begin with their highest bit.
  void Code(uint32_t code, int length) {
    for (int i = length - 1; i >= 0; --i) Bits(code >> i & 1, 1);
  }
  void Symbol(uint32_t symbol) {
    if (symbol < 144) {
      Code(0x30 + symbol, 8);
    } else if (symbol < 256) {
      Code(0x190 + symbol - 144, 9);
    } else if (symbol < 280) {
      Code(symbol - 256, 7);
    } else {
      Code(0xC0 + symbol - 280, 8);
    }
  }

  std::string out_;
  uint32_t byte_ = 0;
  int num_bits_ = 0;
};

void AppendChunk(std::string_view type, std::string_view data, std::string& out) {
  AppendBigEndian(static_cast<uint32_t>(data.size()), out);
  const std::string body = std::string(type) + std::string(data);
  out += body;
  AppendBigEndian(Crc32(body), out);
}

class PngCanvas final : public PlotCanvas {
 public:
  PngCanvas(int width, int height)
      : width_(width * kScale),
        height_(height * kScale),
        pixels_(static_cast<size_t>(width_) * static_cast<size_t>(height_) * 3, 255) {}

  void Line(Point from, Point to, double width, Color color) override {
    Stroke({from.x * kScale, from.y * kScale}, {to.x * kScale, to.y * kScale}, width * kScale / 2,
           color);
  }
  void Dot(Point center, double radius, Color color) override {
    const Point at{center.x * kScale, center.y * kScale};
    Stroke(at, at, radius * kScale, color);
  }
  void Text(Point at, std::string_view text, Anchor anchor, Color color) override {
    constexpr int kAdvance = (kGlyphColumns + 1) * kGlyphScale;
    const int length = static_cast<int>(text.size()) * kAdvance;
    int x = static_cast<int>(at.x * kScale) - length * static_cast<int>(anchor) / 2;
    const int top = static_cast<int>(at.y * kScale) - 7 * kGlyphScale;
    for (const char character : text) {
      const auto columns = Columns(character);
      for (int i = 0; i < kGlyphColumns * kGlyphScale; ++i) {
        for (int j = 0; j < 8 * kGlyphScale; ++j) {
          const int bits = columns[static_cast<size_t>(i / kGlyphScale)];
          if (bits >> (j / kGlyphScale) & 1) Blend(x + i, top + j, 1, color);
        }
      }
      x += kAdvance;
    }
  }

  std::string Encode() const override {
    std::string header;
    AppendBigEndian(static_cast<uint32_t>(width_), header);
    AppendBigEndian(static_cast<uint32_t>(height_), header);
    header += std::string("\x08\x02\x00\x00\x00", 5);  // 8 bits of red, green and blue
    const std::vector<uint8_t> rows = FilteredRows();
    std::string data = "\x78\x01";  // zlib's (RFC 1950)
    data += RunDeflater().Deflate(rows);
    AppendBigEndian(Adler32(rows), data);

    std::string file = "\x89PNG\r\n\x1a\n";
    AppendChunk("IHDR", header, file);
    AppendChunk("IDAT", data, file);
    AppendChunk("IEND", "", file);
    return file;
  }

 private:
  /// All within `radius` of the segment; what a pixel's middle is off the edge makes it paler.
  void Stroke(Point a, Point b, double radius, Color color) {
    const double dx = b.x - a.x;
    const double dy = b.y - a.y;
    const double squared = dx * dx + dy * dy;
    const double reach = radius + 1;
    for (int y = static_cast<int>(std::min(a.y, b.y) - reach);
         y <= static_cast<int>(std::max(a.y, b.y) + reach); ++y) {
      for (int x = static_cast<int>(std::min(a.x, b.x) - reach);
           x <= static_cast<int>(std::max(a.x, b.x) + reach); ++x) {
        const double px = x + 0.5 - a.x;
        const double py = y + 0.5 - a.y;
        const double along = squared == 0 ? 0 : std::clamp((px * dx + py * dy) / squared, 0.0, 1.0);
        const double distance = std::hypot(px - along * dx, py - along * dy);
        Blend(x, y, std::clamp(radius + 0.5 - distance, 0.0, 1.0), color);
      }
    }
  }

  void Blend(int x, int y, double opacity, Color color) {
    if (x < 0 || y < 0 || x >= width_ || y >= height_ || opacity == 0) return;
    uint8_t* pixel =
        &pixels_[(static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x)) *
                 3];
    for (int i = 0; i < 3; ++i) {
      const double wanted = color >> (16 - 8 * i) & 0xFF;
      pixel[i] = static_cast<uint8_t>(std::lround(pixel[i] + opacity * (wanted - pixel[i])));
    }
  }

  /// Each row behind the number of its filter: the difference to the row above.
  std::vector<uint8_t> FilteredRows() const {
    const auto row_bytes = static_cast<size_t>(width_) * 3;
    std::vector<uint8_t> rows;
    rows.reserve(pixels_.size() + static_cast<size_t>(height_));
    for (size_t y = 0; y < static_cast<size_t>(height_); ++y) {
      rows.push_back(2);
      for (size_t i = y * row_bytes; i < (y + 1) * row_bytes; ++i) {
        rows.push_back(static_cast<uint8_t>(pixels_[i] - (y == 0 ? 0 : pixels_[i - row_bytes])));
      }
    }
    return rows;
  }

  int width_;
  int height_;
  std::vector<uint8_t> pixels_;  ///< [height][width][red, green, blue]
};

}  // namespace

std::unique_ptr<PlotCanvas> MakePngCanvas(int width, int height) {
  return std::make_unique<PngCanvas>(width, height);
}

}  // namespace gale::cli
