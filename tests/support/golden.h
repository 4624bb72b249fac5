// Transformers' answers to the checkpoints of tests/data/models, see
// tools/goldens/model_goldens.py.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "gale/sampling_params.h"

namespace gale {

struct GoldenPrompt {
  std::vector<TokenId> prompt;
  std::vector<float> logits;    ///< [prompt tokens][vocab] flat, f32
  std::vector<TokenId> greedy;  ///< what greedy decoding adds
  /// As `logits` with a rope scaled for the prompt's own length, or empty.
  std::vector<float> own_length_logits;
};

/// Reads FOLDER/golden.safetensors; CHECKs that it is as the script writes it.
std::vector<GoldenPrompt> ReadGoldens(const std::string& folder);
/// A tensor of FOLDER/golden.safetensors by its name; CHECKs that it is there.
std::vector<float> ReadGoldenFloats(const std::string& folder, const std::string& name);
std::vector<int64_t> ReadGoldenIds(const std::string& folder, const std::string& name);
/// Names of the checkpoints, every subfolder of tests/data/models.
std::vector<std::string> GoldenModels();
std::string GoldenFolder(const std::string& name);

/// max|got - expected| / max|expected|; infinite when anything is not a number.
double RelativeError(std::span<const float> got, std::span<const float> expected);

}  // namespace gale
