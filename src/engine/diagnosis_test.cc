#include "engine/diagnosis.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

namespace gale {
namespace {

using testing::HasSubstr;

constexpr size_t kGiB = size_t{1} << 30;

TEST(DeviceFindingTest, TellsAnUnusableDeviceWithItsFix) {
  const Result<DeviceInfo> refused =
      MakeError(ErrorCode::kUnsupported, "device cuda: no NVIDIA driver; install one");
  const Finding unasked = DeviceFinding("cuda", refused, false);
  EXPECT_EQ(unasked.subject, "cuda");
  EXPECT_EQ(unasked.health, Health::kWarning);
  EXPECT_EQ(unasked.fact, "device cuda: no NVIDIA driver");
  EXPECT_EQ(unasked.fix, "install one");
  EXPECT_EQ(DeviceFinding("cuda", refused, true).health, Health::kProblem);
  const Result<DeviceInfo> without_fix = MakeError(ErrorCode::kDevice, "broken");
  EXPECT_FALSE(DeviceFinding("cuda", without_fix, true).fix.empty());
}

TEST(DeviceFindingTest, WarnsOfSlowKernelsAndOfMemoryThatIsTaken) {
  DeviceInfo cpu{
      .name = "cpu", .description = "AMD EPYC, avx512, 2 threads", .is_host_memory = true};
  EXPECT_EQ(DeviceFinding("cpu", cpu, true).health, Health::kOk);
  cpu.description = "AMD EPYC, portable, 2 threads";
  EXPECT_EQ(DeviceFinding("cpu", cpu, true).health, Health::kWarning);
  DeviceInfo gpu{
      .name = "cuda", .description = "H200", .total_bytes = 4 * kGiB, .free_bytes = 3 * kGiB};
  EXPECT_EQ(DeviceFinding("cuda", gpu, true).health, Health::kOk);
  EXPECT_EQ(DeviceFinding("cuda", gpu, true).fact, "H200, 3.00 GiB free of 4.00 GiB");
  gpu.free_bytes = kGiB;
  EXPECT_EQ(DeviceFinding("cuda", gpu, true).health, Health::kWarning);
}

TEST(ProcessorFindingTest, WarnsOfAQuota) {
  EXPECT_EQ(ProcessorFinding(8, 8).health, Health::kOk);
  const Finding cut = ProcessorFinding(2, 8);
  EXPECT_EQ(cut.health, Health::kWarning);
  EXPECT_THAT(cut.fact, HasSubstr("2 of 8"));
  EXPECT_THAT(cut.fix, HasSubstr("--cpus"));
}

TEST(MemoryFindingTest, TellsALimitFromASmallMachine) {
  EXPECT_EQ(MemoryFinding({8 * kGiB, 6 * kGiB}, 8 * kGiB).health, Health::kOk);
  const Finding limited = MemoryFinding({2 * kGiB, kGiB}, 8 * kGiB);
  EXPECT_EQ(limited.health, Health::kWarning);
  EXPECT_THAT(limited.fact, HasSubstr("1.00 GiB free of 2.00 GiB, the control group's limit"));
  EXPECT_THAT(limited.fix, HasSubstr("--memory"));
  const Finding full = MemoryFinding({8 * kGiB, kGiB / 8}, 8 * kGiB);
  EXPECT_EQ(full.health, Health::kProblem);
  EXPECT_THAT(full.fact, testing::Not(HasSubstr("limit")));
  EXPECT_FALSE(full.fix.empty());
}

TEST(HugePageFindingTest, WarnsOnlyWhereTheyAreOff) {
  EXPECT_EQ(HugePageFinding("always [madvise] never").health, Health::kOk);
  EXPECT_EQ(HugePageFinding("always [madvise] never").fact, "madvise");
  EXPECT_EQ(HugePageFinding("").health, Health::kOk);
  EXPECT_EQ(HugePageFinding("always madvise [never]").health, Health::kWarning);
}

TEST(CacheFolderFindingTest, LooksForAFolderThatCanBeMade) {
  const std::filesystem::path root =
      std::filesystem::path(testing::TempDir()) / "gale_diagnosis_test";
  std::filesystem::remove_all(root);
  std::filesystem::create_directories(root);
  std::ofstream(root / "file") << "";
  EXPECT_EQ(CacheFolderFinding(root / "a/b").health, Health::kOk);
  const Finding blocked = CacheFolderFinding(root / "file/gale");
  EXPECT_EQ(blocked.health, Health::kWarning);
  EXPECT_THAT(blocked.fix, HasSubstr((root / "file").string()));
  EXPECT_EQ(CacheFolderFinding("").health, Health::kOk);
  std::filesystem::remove_all(root);
}

TEST(DiagnoseMachineTest, LooksAtThisMachine) {
  const Result<std::vector<Finding>> findings = DiagnoseMachine("auto");
  ASSERT_TRUE(findings);
  for (const char* subject : {"cpu", "processors", "memory", "huge pages", "cache", "hub cache"}) {
    const auto found = std::find_if(findings->begin(), findings->end(),
                                    [&](const Finding& f) { return f.subject == subject; });
    ASSERT_NE(found, findings->end()) << subject;
    EXPECT_FALSE(found->fact.empty()) << subject;
  }
  for (const Finding& finding : *findings) {
    EXPECT_EQ(finding.health == Health::kOk, finding.fix.empty()) << finding.subject;
  }
}

TEST(DiagnoseMachineTest, RefusesADeviceThatThisBuildLacks) {
  const Result<std::vector<Finding>> findings = DiagnoseMachine("abacus");
  ASSERT_FALSE(findings);
  EXPECT_EQ(findings.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(findings.error().message, HasSubstr("cpu"));
}

}  // namespace
}  // namespace gale
