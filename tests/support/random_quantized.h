// Random checkpoints in any format that a quantization_config describes, each with its twin of
// plain f32 numbers, made from what models declare: no format needs a writer, and no model a file.
#pragma once

#include <string>

namespace gale {

class RandomQuantized {
 public:
  /// `config_json` is the model's, `quantization_config` a JSON object. `scale`: of what codes are
  /// multiplied with, so that weights come out near 1 / sqrt(inputs).
  RandomQuantized(const std::string& config_json, const std::string& quantization_config,
                  float scale);
  ~RandomQuantized();
  RandomQuantized(const RandomQuantized&) = delete;
  RandomQuantized& operator=(const RandomQuantized&) = delete;

  std::string quantized() const { return folder_ + "/quantized"; }  ///< folders of checkpoints
  std::string plain() const { return folder_ + "/plain"; }

 private:
  std::string folder_;
};

}  // namespace gale
