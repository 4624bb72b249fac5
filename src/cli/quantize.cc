// gale quantize: a quantized checkpoint of a plain one.
#include "gale/quantize.h"

#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "cli/command.h"
#include "cli/figures.h"
#include "cli/progress_bar.h"
#include "cli/standard_io.h"
#include "cli/whole_number.h"

namespace gale::cli {
namespace {

struct QuantizeFlags {
  QuantizeOptions quantize;
  std::string calibration_file;
};

bool Calibrates(const std::string& scheme) {
  for (const QuantizeSchemeInfo& known : ListQuantizeSchemes()) {
    if (known.name == scheme) return known.calibrates;
  }
  return false;
}

/// One bar for each phase, which may take turns.
class PhaseBars {
 public:
  void Update(QuantizePhase phase, uint64_t done, uint64_t total) {
    if (phase_ != phase) {
      bar_.reset();
      bar_.emplace(phase == QuantizePhase::kCalibrating ? "calibrating" : "quantizing");
      phase_ = phase;
    }
    bar_->Update(done, total);
  }

 private:
  std::optional<QuantizePhase> phase_;
  std::optional<ProgressBar> bar_;
};

Status Quantize(QuantizeFlags flags) {
  QuantizeOptions& options = flags.quantize;
  if (Calibrates(options.scheme)) {
    if (flags.calibration_file.empty()) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          fmt::format("--scheme {} needs --calibration FILE: text of the kind that the "
                      "model is for",
                      options.scheme));
    }
    Result<std::string> text = ReadFile(flags.calibration_file);
    if (!text) return tl::unexpected(text.error());
    options.calibration_text = *std::move(text);
  }
  Result<QuantizeReport> report;
  {
    PhaseBars bars;
    report = QuantizeModel(options, [&](QuantizePhase phase, uint64_t done, uint64_t total) {
      bars.Update(phase, done, total);
    });
  }
  if (!report) return tl::unexpected(report.error());
  return WriteOut(fmt::format("{}: {} weights of {:.2f} bits; {} -> {}\n", options.out,
                              report->num_quantized, report->bits_per_weight,
                              FormatBytes(report->source_bytes), FormatBytes(report->out_bytes)));
}

std::string Footer() {
  std::string footer = "\nSchemes:\n";
  for (const QuantizeSchemeInfo& scheme : ListQuantizeSchemes()) {
    footer += fmt::format("  {:<12} {}{}\n", scheme.name, scheme.description,
                          scheme.calibrates ? " (needs --calibration)" : "");
  }
  return footer + R"(
The linear layers of the decoder are quantized; embeddings, norms, routers and the output head stay
as they are. An interrupted run goes on where it was when the same command is given again.
docs/quantization.md has what each scheme costs.

Examples:
  gale quantize Qwen/Qwen3-0.6B OUT --scheme awq --calibration text.txt
  gale quantize DIR OUT --scheme fp8
  gale eval compare DIR OUT --text held-out.txt)";
}

}  // namespace

void AddQuantizeCommand(CLI::App& app, Action& action) {
  auto flags = std::make_shared<QuantizeFlags>();
  QuantizeOptions& options = flags->quantize;
  CLI::App* command = app.add_subcommand("quantize", "Make a quantized checkpoint of a plain one");
  command->add_option("MODEL", options.model, "Checkpoint folder or ORG/NAME")->required();
  command->add_option("OUT", options.out, "Folder to make; of GGUF schemes a .gguf file")
      ->required();
  command->add_option("--scheme", options.scheme, "See below")->type_name("NAME")->required();
  command
      ->add_option("--group-size", options.group_size,
                   "Inputs that share a scale; 0: all of a row (default: the scheme's own)")
      ->type_name("N")
      ->check(WholeNumber(0));
  command->add_flag("--asymmetric", options.asymmetric,
                    "A zero beside each scale: gptq, int4, int8");
  const char* calibration = "Calibration";
  command->add_option("--calibration", flags->calibration_file, "Text; - is standard input")
      ->type_name("FILE")
      ->group(calibration);
  command->add_option("--samples", options.samples, "Stretches of the text that are run")
      ->type_name("N")
      ->check(WholeNumber(1))
      ->capture_default_str()
      ->group(calibration);
  command->add_option("--sample-tokens", options.sample_tokens, "Tokens of each")
      ->type_name("N")
      ->check(WholeNumber(1))
      ->capture_default_str()
      ->group(calibration);
  command->add_option("--seed", options.seed, "Of the choice of stretches")
      ->type_name("N")
      ->capture_default_str()
      ->group(calibration);
  command->add_flag("--act-order", options.act_order, "gptq: inputs of large magnitude come first")
      ->group(calibration);
  command
      ->add_option("--damping", options.damping,
                   "gptq: added to the Hessian's diagonal, as a share of its mean")
      ->type_name("SHARE")
      ->check(CLI::Range(1e-6, 10.0))
      ->capture_default_str()
      ->group(calibration);
  command
      ->add_option("--smoothing", options.smoothing,
                   "int8-smooth: how much of the outliers moves into the weights")
      ->type_name("SHARE")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(calibration);
  command->add_option("--device", options.device, "Where the text runs: auto, cpu, ...")
      ->type_name("NAME")
      ->capture_default_str()
      ->group(calibration);
  command->add_option("--threads", options.threads, "CPU threads; 0 = all this process may use")
      ->type_name("N")
      ->check(WholeNumber(0));
  command->footer(Footer());
  command->callback([flags, &action] { action = [flags] { return Quantize(*flags); }; });
}

}  // namespace gale::cli
