// PullModel where Gale is built without libcurl and OpenSSL, as portable programs are.
#include <fmt/format.h>

#include "gale/hub.h"
#include "weights/hub_cache.h"

namespace gale {

Result<PulledModel> PullModel(const PullOptions& options, const PullProgress&) {
  const std::optional<HubModel> model = ParseHubModel(options.model);
  std::string command = "hf download " + (model ? model->repository : options.model);
  if (model && model->revision != "main") command += " --revision " + model->revision;
  if (!options.gguf_file.empty()) command += " " + options.gguf_file;
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("this build of Gale was made without libcurl and downloads nothing. "
                               "Get the model with: {} (pip install huggingface_hub)",
                               command));
}

}  // namespace gale
