#include "backend/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gale {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

Result<std::unique_ptr<Backend>> CreateBroken(const BackendOptions&) {
  return MakeError(ErrorCode::kDevice, "no such hardware");
}

TEST(Registry, AutoTakesWhatWorks) {
  ASSERT_TRUE(RegisterBackend("broken", CreateBroken));
  EXPECT_THAT(BackendNames(), Contains("broken"));
  EXPECT_FALSE(CreateBackend("broken", {}).has_value());
  const auto backend = CreateBackend("auto", {});
  ASSERT_TRUE(backend.has_value()) << backend.error().message;
  EXPECT_NE((*backend)->info().name, "broken");
  EXPECT_THAT((*backend)->info().description, HasSubstr("(no such hardware"));
}

TEST(Registry, UnknownNameListsTheKnown) {
  const auto backend = CreateBackend("tpu", {});
  ASSERT_FALSE(backend.has_value());
  EXPECT_EQ(backend.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(backend.error().message, HasSubstr("unknown device \"tpu\": this build has"));
  EXPECT_THAT(backend.error().message, HasSubstr("cpu"));
}

TEST(RegistryDeathTest, DuplicateNameIsFatal) {
  EXPECT_DEATH(RegisterBackend("cpu", CreateBroken), "two back ends \"cpu\"");
}

}  // namespace
}  // namespace gale
