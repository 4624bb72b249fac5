// Runs the conformance table on every registered back end, or on the one of --backend=NAME.
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "conformance/op_case.h"

namespace gale::test {
namespace {

/// Index of the first element out of bounds, or -1. NaN is out of bounds.
int64_t FirstFailure(const OpResult& result) {
  for (size_t i = 0; i < result.got.size(); ++i) {
    const bool same = result.got[i] == result.want[i];  // infinities too
    if (!same && !(std::abs(result.got[i] - result.want[i]) <= result.tolerance[i])) {
      return static_cast<int64_t>(i);
    }
  }
  return -1;
}

class OpTest : public testing::Test {
 public:
  OpTest(std::string backend, OpCase op) : backend_(std::move(backend)), op_(std::move(op)) {}

  void TestBody() override {
    Device device(backend_);
    const OpResult result = op_.run(device, Mutation::kNone);
    if (!result.skipped.empty()) GTEST_SKIP() << result.skipped;
    const int64_t bad = FirstFailure(result);
    if (bad >= 0) {
      const auto i = static_cast<size_t>(bad);
      ADD_FAILURE() << op_.name << ": element " << bad << " of " << result.got.size() << " is "
                    << result.got[i] << ", want " << result.want[i] << " +- "
                    << result.tolerance[i];
    }
    for (const Mutation mutation : op_.must_fail) {
      EXPECT_GE(FirstFailure(op_.run(device, mutation)), 0)
          << op_.name << ": mutation " << static_cast<int>(mutation) << " goes unnoticed";
    }
  }

 private:
  std::string backend_;
  OpCase op_;
};

class PropertyTest : public testing::Test {
 public:
  PropertyTest(std::string backend, PropertyCase property)
      : backend_(std::move(backend)), property_(std::move(property)) {}

  void TestBody() override {
    Device device(backend_);
    EXPECT_EQ(property_.run(device), "");
  }

 private:
  std::string backend_;
  PropertyCase property_;
};

/// Stands for the table of a back end that this machine cannot run.
class UnavailableTest : public testing::Test {
 public:
  explicit UnavailableTest(std::string reason) : reason_(std::move(reason)) {}
  void TestBody() override { GTEST_SKIP() << reason_; }

 private:
  std::string reason_;
};

void RegisterUnavailable(const std::string& backend, const std::string& reason) {
  testing::RegisterTest(backend.c_str(), "Unavailable", nullptr, nullptr, __FILE__, __LINE__,
                        [=]() -> testing::Test* { return new UnavailableTest(reason); });
}

template <class TestClass, class Case>
void Register(const std::string& backend, const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    testing::RegisterTest(backend.c_str(), one.name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [=]() -> testing::Test* { return new TestClass(backend, one); });
  }
}

}  // namespace
}  // namespace gale::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::string only;
  for (int i = 1; i < argc; ++i) {
    constexpr std::string_view kFlag = "--backend=";
    const std::string_view arg = argv[i];
    if (!arg.starts_with(kFlag)) {
      std::fprintf(stderr, "unknown argument %s; known: --backend=NAME\n", argv[i]);
      return 2;
    }
    only = arg.substr(kFlag.size());
  }
  for (const std::string& backend : gale::BackendNames()) {
    if (!only.empty() && backend != only) continue;
    using namespace gale::test;
    if (const auto created = gale::CreateBackend(backend, {}); !created) {
      if (created.error().code == gale::ErrorCode::kUnsupported) {
        RegisterUnavailable(backend, created.error().message);
        continue;
      }
      std::fprintf(stderr, "%s: %s\n", backend.c_str(), created.error().message.c_str());
      return 2;
    }
    Register<OpTest>(backend, RowOpCases());
    Register<OpTest>(backend, LinearCases());
    Register<OpTest>(backend, GatedLinearCases());
    Register<OpTest>(backend, GgmlCases());
    Register<OpTest>(backend, QuantLinearCases());
    Register<OpTest>(backend, AttentionCases());
    Register<OpTest>(backend, GroupedCases());
    Register<OpTest>(backend, MoeCases());
    Register<OpTest>(backend, InvarianceCases());
    Register<OpTest>(backend, LogitsEditCases());
    Register<PropertyTest>(backend, LogitsEditProperties());
    Register<PropertyTest>(backend, SamplingCases());
    Register<PropertyTest>(backend, RareFilterCases());
  }
  if (testing::UnitTest::GetInstance()->total_test_count() == 0) {
    std::fprintf(stderr, "no back end called %s\n", only.c_str());
    return 2;
  }
  return RUN_ALL_TESTS();
}
