// Which of a repository's files a model is made of. Layer L2; used by pull.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "gale/status.h"

namespace gale {

/// Of the files in the repository's top folder: configuration, tokenizer, chat template and
/// safetensors weights. Where there are weights named model*, others are left out: they are the
/// same in a format of the model's maker. With `gguf_file` that file and its other shards, which
/// hold everything.
/// Errors: kNotFound, listing the GGUF files there are.
Result<std::vector<std::string>> SelectFiles(std::span<const std::string> files,
                                             const std::string& gguf_file);

}  // namespace gale
