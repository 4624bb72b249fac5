// How a checkpoint for embeddings wants its states pooled: sentence-transformers' 1_Pooling folder.
// Layer L2 of the compute column.
#pragma once

#include <string>

#include "gale/model_info.h"
#include "gale/status.h"

namespace gale {

/// Of the checkpoint in `folder`; kLast when it does not say.
/// Errors: those of reading its JSON; kUnsupported for modes that no decoder is trained with.
Result<Pooling> ReadPooling(const std::string& folder);

}  // namespace gale
