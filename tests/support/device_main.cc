#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "support/device_flag.h"

namespace gale {
namespace {

std::string& Device() {
  static std::string device = "cpu";
  return device;
}

/// Stands for all tests, and says why, where this machine cannot run the device.
class UnavailableTest : public testing::Test {
 public:
  explicit UnavailableTest(std::string reason) : reason_(std::move(reason)) {}
  void TestBody() override { GTEST_SKIP() << reason_; }

 private:
  std::string reason_;
};

void SkipAllIfUnavailable() {
  const auto backend = CreateBackend(Device(), {});
  if (backend || backend.error().code != ErrorCode::kUnsupported) return;
  const std::string reason = backend.error().message;
  testing::RegisterTest("Device", "Unavailable", nullptr, nullptr, __FILE__, __LINE__,
                        [=]() -> testing::Test* { return new UnavailableTest(reason); });
  GTEST_FLAG_SET(filter, "Device.Unavailable");
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
  gale::SkipAllIfUnavailable();
  return RUN_ALL_TESTS();
}
