// Makes quantized checkpoints of plain ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gale/status.h"

namespace gale {

struct QuantizeOptions {
  std::string model;  ///< folder or ORG/NAME of a plain safetensors checkpoint
  std::string out;  ///< file of GGUF schemes, which must end in ".gguf"; else a folder to make; one
                    ///< that an interrupted run of the same options has left is continued
  std::string scheme;       ///< one of QuantizeSchemeNames
  int group_size = -1;      ///< inputs that share a scale; -1: the scheme's own, 0: all of a row
  bool asymmetric = false;  ///< a zero for each group beside its scale; awq always has them
  // Of schemes that calibrate.
  std::string calibration_text;
  int samples = 128;        ///< sequences drawn from the text
  int sample_tokens = 512;  ///< of each
  uint64_t seed = 0;        ///< of the drawing
  bool act_order = false;   ///< gptq: columns of large inputs first
  double damping = 0.01;    ///< gptq: see GptqOptions
  double smoothing = 0.5;   ///< int8-smooth: 0 leaves outliers to the activations, 1 moves them all
  std::string device = "cpu";   ///< where the calibration text runs
  int threads = 0;              ///< 0: all that this process may use
  size_t statistics_bytes = 0;  ///< for inputs' statistics; what does not fit is gathered in
                                ///< further passes over the text; 0: a quarter of free memory
};

struct QuantizeSchemeInfo {
  std::string_view name;
  std::string_view description;
  bool calibrates = false;
};
std::vector<QuantizeSchemeInfo> ListQuantizeSchemes();

enum class QuantizePhase { kCalibrating, kQuantizing };
/// Given what is done of the phase and in all, in bytes: of the calibration's tokens (4 each), of
/// the model's weights.
using QuantizeProgress = std::function<void(QuantizePhase, uint64_t, uint64_t)>;

struct QuantizeReport {
  uint64_t source_bytes = 0;  ///< of the model's tensors
  uint64_t out_bytes = 0;
  int num_quantized = 0;       ///< weights
  double bits_per_weight = 0;  ///< of those, scales and all included
  int num_passes = 0;          ///< over the calibration text
};

/// Writes `out`: the linear layers of the decoder quantized, all else as it is, with config.json,
/// tokenizer and generation files. Embeddings, norms, routers and the output head stay plain.
/// Memory: one decoder layer in f32 and its statistics, or those of as many layers as
/// statistics_bytes hold; when calibrating, the model besides.
/// Errors: kInvalidArgument (scheme, group that does not divide a layer's inputs, calibration text
/// too short, `out` exists and is not such a run's), kUnsupported (a model that is quantized
/// already; experts with a scheme that calibrates), kResourceExhausted (disk full), those of
/// loading.
Result<QuantizeReport> QuantizeModel(const QuantizeOptions& options,
                                     const QuantizeProgress& progress = {});

}  // namespace gale
