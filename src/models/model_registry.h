// Architectures by the name that config.json gives them. Layer L3. One file per architecture
// registers itself; gale_models is an OBJECT library, so that none is dropped by the linker.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gale/status.h"
#include "models/model.h"
#include "quant/quant_scheme.h"
#include "weights/hf_config.h"
#include "weights/param_builder.h"

namespace gale {

/// Constructs a model that has declared its parameters to `builder` and holds no weights yet.
using ModelFactory = std::unique_ptr<Model> (*)(const HfConfig& config, const QuantScheme& scheme,
                                                ParamBuilder& builder);

/// Called by static initializers; a duplicate name is fatal.
bool RegisterModel(std::string_view architecture, ModelFactory factory);
/// Errors: kUnsupported, listing the architectures there are.
Result<ModelFactory> FindModel(std::string_view architecture);

}  // namespace gale
