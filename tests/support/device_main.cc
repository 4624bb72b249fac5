#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "support/device_flag.h"

namespace gale {
namespace {

std::string& Device() {
  static std::string device = "cpu";
  return device;
}

}  // namespace

const std::string& TestDevice() { return Device(); }

std::unique_ptr<Backend> CreateTestBackend() {
  auto backend = CreateBackend(TestDevice(), {});
  if (!backend) {
    std::fprintf(stderr, "%s\n", backend.error().message.c_str());
    std::exit(2);
  }
  return std::move(*backend);
}

}  // namespace gale

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    constexpr std::string_view kFlag = "--device=";
    if (!argument.starts_with(kFlag)) {
      std::fprintf(stderr, "unknown argument %s; known: --device=NAME\n", argv[i]);
      return 2;
    }
    gale::Device() = argument.substr(kFlag.size());
  }
  return RUN_ALL_TESTS();
}
