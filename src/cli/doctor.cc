// gale doctor: what this machine offers, and how to mend what is wrong.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/command.h"
#include "cli/json_text.h"
#include "cli/standard_io.h"
#include "gale/diagnosis.h"
#include "gale/engine_config.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

struct DoctorOptions {
  std::string device = "auto";
  bool json = false;
};

std::string_view HealthName(Health health) {
  switch (health) {
    case Health::kOk: return "ok";
    case Health::kWarning: return "warning";
    case Health::kProblem: break;
  }
  return "problem";
}

std::string FindingTable(const std::vector<Finding>& findings) {
  std::string table;
  for (const Finding& finding : findings) {
    table +=
        fmt::format("{:<8} {:<11} {}\n", HealthName(finding.health), finding.subject, finding.fact);
    if (!finding.fix.empty()) table += fmt::format("{:<20} fix: {}\n", "", finding.fix);
  }
  return table;
}

json::array FindingRecords(const std::vector<Finding>& findings) {
  json::array records;
  for (const Finding& finding : findings) {
    records.push_back(json::object{{"subject", finding.subject},
                                   {"health", std::string(HealthName(finding.health))},
                                   {"fact", finding.fact},
                                   {"fix", finding.fix}});
  }
  return records;
}

Status Doctor(const DoctorOptions& options) {
  const Result<std::vector<Finding>> findings = DiagnoseMachine(options.device);
  if (!findings) return tl::unexpected(findings.error());
  const Status written =
      WriteOut(options.json ? JsonIndented(FindingRecords(*findings)) : FindingTable(*findings));
  if (!written) return written;
  const auto problems =
      std::count_if(findings->begin(), findings->end(),
                    [](const Finding& finding) { return finding.health == Health::kProblem; });
  if (problems == 0) return {};
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{} problem{} found", problems, problems == 1 ? "" : "s"));
}

constexpr const char* kFooter = R"(
Each line is ok, a warning (it runs, but could run better) or a problem, then followed by the fix.
Exit code 1 with a problem.

Examples:
  gale doctor                  everything; an accelerator that cannot be used is a warning
  gale doctor --device cuda    the same is a problem
  gale doctor --json           [{"subject": "memory", "health": "ok", "fact": ..., "fix": ""}, ...])";

}  // namespace

void AddDoctorCommand(CLI::App& app, Action& action) {
  auto options = std::make_shared<DoctorOptions>();
  CLI::App* command = app.add_subcommand("doctor", "Check this machine: devices, limits, folders");
  command
      ->add_option(
          "--device", options->device,
          fmt::format("Device that must work: auto, {}", fmt::join(SupportedDevices(), ", ")))
      ->type_name("NAME")
      ->capture_default_str();
  command->add_flag("--json", options->json, "As JSON");
  command->footer(kFooter);
  command->callback([options, &action] { action = [options] { return Doctor(*options); }; });
}

}  // namespace gale::cli
