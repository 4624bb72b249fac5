// Sets of layers by name, as quantization_config lists them. Used by the formats of this folder.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "gale/status.h"

struct pcre2_real_code_8;

namespace gale {

class LayerFilter {
 public:
  /// A name that is whole components of a layer's ("mlp.gate" of "model.layers.3.mlp.gate"), or,
  /// with "re:" in front, a regular expression that matches its beginning. Errors: kDataCorrupt for
  /// an expression that cannot be compiled; `source` is its place.
  Status Add(std::string_view name, const JsonValue& source);
  Status AddPattern(std::string_view expression, const JsonValue& source);
  /// All of an array of strings.
  Status AddAll(const JsonValue& names);

  bool Has(std::string_view layer) const;

 private:
  std::vector<std::string> names_;
  std::vector<std::shared_ptr<const pcre2_real_code_8>> patterns_;
};

}  // namespace gale
