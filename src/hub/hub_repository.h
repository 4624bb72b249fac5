// One model repository of the hub: which files a revision has, and where and what each one is.
// Layer L2; used by pull. Source: huggingface_hub, whose cache and requests these are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gale/status.h"
#include "hub/http_client.h"
#include "weights/hub_cache.h"

namespace gale {

struct HubListing {
  std::string commit;
  std::vector<std::string> files;  ///< relative paths that stay in their folder
};

struct HubFile {
  std::string name;
  std::string url;
  std::string blob;  ///< its name under blobs/: the entity tag, which mostly is a checksum
  uint64_t bytes = 0;
};

class HubRepository {
 public:
  /// `client` outlives this; `has_token` words the refusals.
  HubRepository(HttpClient& client, std::string endpoint, HubModel model, bool has_token)
      : client_(client),
        endpoint_(std::move(endpoint)),
        model_(std::move(model)),
        has_token_(has_token) {}

  /// The commit that the revision stands for, and its files.
  Result<HubListing> List();
  Result<HubFile> Describe(const std::string& commit, const std::string& name);
  /// One message for each way in which the hub refuses: not known, not allowed, too often, not now.
  Status CheckAnswer(const HttpResponse& response, const std::string& name) const;
  /// The message for `reason`, why a connection came to nothing.
  tl::unexpected<Error> Unreachable(const std::string& reason) const;

 private:
  std::string WebPage() const { return endpoint_ + "/" + model_.repository; }
  tl::unexpected<Error> NoHub(const std::string& what) const;

  HttpClient& client_;
  std::string endpoint_;  ///< "https://huggingface.co"
  HubModel model_;
  bool has_token_;
};

}  // namespace gale
