// The files of src/server/web, compiled in: the program needs nothing beside itself. Layer L6.
#pragma once

#include <span>
#include <string_view>

namespace gale::server {

struct EmbeddedFile {
  std::string_view name;  ///< "index.html"
  std::string_view bytes;
};

std::span<const EmbeddedFile> EmbeddedFiles();

}  // namespace gale::server
