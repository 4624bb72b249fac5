// gale pull: downloads a model of the Hugging Face hub.
#include <cstdint>
#include <memory>
#include <string>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/figures.h"
#include "cli/json_text.h"
#include "cli/progress_bar.h"
#include "cli/standard_io.h"
#include "gale/hub.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

struct PullCommandOptions {
  PullOptions pull;
  bool json = false;
};

json::object PulledRecord(const PullOptions& options, const PulledModel& pulled) {
  return {{"model", options.model},
          {"commit", pulled.commit},
          {"path", pulled.path},
          {"files", json::value_from(pulled.files)},
          {"total_bytes", pulled.total_bytes},
          {"downloaded_bytes", pulled.downloaded_bytes}};
}

Status Pull(const PullCommandOptions& options) {
  Result<PulledModel> pulled;
  {
    ProgressBar bar("pulling");
    pulled = PullModel(options.pull, [&bar](uint64_t done_bytes, uint64_t total_bytes) {
      bar.Update(done_bytes, total_bytes);
    });
  }
  if (!pulled) return tl::unexpected(pulled.error());
  if (options.json) return WriteOut(JsonIndented(PulledRecord(options.pull, *pulled)));
  fmt::print(stderr, "{} file{}, {}, of which {} were fetched now\n", pulled->files.size(),
             pulled->files.size() == 1 ? "" : "s", FormatBytes(pulled->total_bytes),
             FormatBytes(pulled->downloaded_bytes));
  return WriteOut(pulled->path + "\n");
}

constexpr const char* kFooter = R"(
The files go into the Hugging Face cache (HF_HUB_CACHE, HF_HOME), which its other tools share; there
every command finds the model by its name. What is there already is not fetched again, and a
download that broke off goes on where it stopped. Checksums are compared. The folder's path goes to
standard output.

Environment: HF_TOKEN for private and gated models, HF_ENDPOINT for another hub, https_proxy.

Examples:
  gale pull Qwen/Qwen3-0.6B && gale chat Qwen/Qwen3-0.6B
  gale pull Qwen/Qwen3-0.6B@refs/pr/1                        a branch, tag or commit
  gale pull Qwen/Qwen3-0.6B-GGUF --gguf Qwen3-0.6B-Q8_0.gguf   one GGUF file, with its shards)";

}  // namespace

void AddPullCommand(CLI::App& app, Action& action) {
  auto options = std::make_shared<PullCommandOptions>();
  CLI::App* command = app.add_subcommand("pull", "Download a model of the Hugging Face hub");
  command->add_option("model", options->pull.model, "ORG/NAME or ORG/NAME@REVISION")->required();
  command
      ->add_option("--gguf", options->pull.gguf_file,
                   "This GGUF file of the repository, in place of its safetensors checkpoint")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "Path, commit, files and bytes as JSON");
  command->footer(kFooter);
  command->callback([options, &action] { action = [options] { return Pull(*options); }; });
}

}  // namespace gale::cli
