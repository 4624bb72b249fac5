// gale --version and gale version: what this binary is and what it can run on.
#include <memory>
#include <string>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/build_info.h"
#include "cli/command.h"
#include "cli/json_text.h"
#include "cli/standard_io.h"
#include "gale/engine_config.h"
#include "gale/model_info.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

json::object VersionRecord() {
  return {{"version", kBuildInfo.version},
          {"commit", kBuildInfo.commit},
          {"compiler", kBuildInfo.compiler},
          {"build_type", kBuildInfo.build_type},
          {"devices", json::value_from(SupportedDevices())},
          {"architectures", json::value_from(SupportedArchitectures())}};
}

constexpr const char* kFooter = R"(
Example:
  gale version --json    {"version": "0.1.0", "commit": ..., "devices": ["cpu"], ...})";

}  // namespace

std::string VersionText() {
  return fmt::format("gale {} ({})\ncompiler       {}, {}\nback ends      {}\narchitectures  {}",
                     kBuildInfo.version, kBuildInfo.commit, kBuildInfo.compiler,
                     kBuildInfo.build_type, fmt::join(SupportedDevices(), ", "),
                     fmt::join(SupportedArchitectures(), ", "));
}

void AddVersionCommand(CLI::App& app, Action& action) {
  auto as_json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("version", "Version, commit and back ends");
  command->add_flag("--json", *as_json, "As JSON");
  command->footer(kFooter);
  command->callback([as_json, &action] {
    action = [as_json] {
      return WriteOut(*as_json ? JsonIndented(VersionRecord()) : VersionText() + "\n");
    };
  });
}

}  // namespace gale::cli
