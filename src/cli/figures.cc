#include "cli/figures.h"

#include <array>
#include <fstream>

#include <fmt/format.h>

namespace gale::cli {

ProcessMemory ReadProcessMemory() {
  ProcessMemory memory;
  std::ifstream status("/proc/self/status");
  std::string key;
  while (status >> key) {
    uint64_t kib = 0;
    if (key == "RssAnon:" && status >> kib) memory.private_bytes += kib << 10;
    if ((key == "RssFile:" || key == "RssShmem:") && status >> kib)
      memory.mapped_bytes += kib << 10;
  }
  return memory;
}

double Figures::TokensPerSecond() const {
  if (sequences > 1) return total_s > 0 ? generated_tokens / total_s : 0;
  const double seconds = total_s - first_token_s;
  return generated_tokens > 1 && seconds > 0 ? (generated_tokens - 1) / seconds : 0;
}

void Figures::TakeDrafts(const EngineStats& stats) {
  drafts = static_cast<int64_t>(stats.drafts);
  draft_tokens = static_cast<int64_t>(stats.draft_tokens);
  accepted_draft_tokens = static_cast<int64_t>(stats.accepted_draft_tokens);
  draft_saved_s = stats.draft_saved_s;
}

std::string Figures::Line() const {
  const ProcessMemory memory = ReadProcessMemory();
  return fmt::format(
      "{}{} prompt tokens{}, {} generated tokens, first token after {}, {:.1f} tokens/s, "
      "{}memory {} mapped, {} private\n",
      prompts > 1 ? fmt::format("{} prompts, ", prompts) : "", prompt_tokens,
      cached_tokens > 0 ? fmt::format(" ({} cached)", cached_tokens) : "", generated_tokens,
      FormatSeconds(first_token_s), TokensPerSecond(),
      drafts > 0 ? fmt::format("{} of {} guessed tokens right, {:.2f} a guess, {:.2f} s saved, ",
                               accepted_draft_tokens, draft_tokens,
                               static_cast<double>(accepted_draft_tokens) / drafts, draft_saved_s)
                 : "",
      FormatBytes(memory.mapped_bytes), FormatBytes(memory.private_bytes));
}

std::string FormatBytes(uint64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string FormatSeconds(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.0f} us", seconds * 1e6);
  return seconds < 1 ? fmt::format("{:.1f} ms", seconds * 1e3) : fmt::format("{:.2f} s", seconds);
}

std::string FormatCount(uint64_t count) {
  constexpr std::array kUnits = {"", " K", " M", " G"};
  auto value = static_cast<double>(count);
  size_t unit = 0;
  for (; value >= 1000 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  return unit == 0 ? fmt::format("{}", count) : fmt::format("{:.2f}{}", value, kUnits[unit]);
}

}  // namespace gale::cli
