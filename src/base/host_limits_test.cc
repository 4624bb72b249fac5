#include "base/host_limits.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace gale {
namespace {

/// A file system root with just the files that a test writes.
class FakeRoot {
 public:
  FakeRoot() : path_(std::filesystem::path(testing::TempDir()) / "host_limits_root") {
    std::filesystem::remove_all(path_);
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }
  void Write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(AvailableCpus, AtLeastOneEverywhere) {
  EXPECT_GE(AvailableCpus(), 1);
  EXPECT_GE(AvailableCpus("/nonexistent"), 1);
}

TEST(AvailableCpus, QuotaOfAnAncestorCuts) {
  const FakeRoot root;
  root.Write("proc/self/cgroup", "0::/pod/app\n");
  root.Write("sys/fs/cgroup/pod/cpu.max", "50000 100000\n");
  root.Write("sys/fs/cgroup/pod/app/cpu.max", "max 100000\n");
  EXPECT_EQ(AvailableCpus(root.path()), 1);
}

TEST(AvailableCpus, VersionOneQuota) {
  const FakeRoot root;
  root.Write("proc/self/cgroup", "4:cpu,cpuacct:/app\n3:memory:/app\n");
  root.Write("sys/fs/cgroup/cpu/app/cpu.cfs_quota_us", "90000\n");
  root.Write("sys/fs/cgroup/cpu/app/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(AvailableCpus(root.path()), 1);
}

TEST(HostMemory, ReadsThisMachine) {
  const HostMemory memory = ReadHostMemory();
  EXPECT_GT(memory.available_bytes, 0U);
  EXPECT_GE(memory.total_bytes, memory.available_bytes);
}

TEST(HostMemory, ControlGroupLimitCuts) {
  const FakeRoot root;
  root.Write("proc/meminfo", "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:   800 kB\n");
  EXPECT_EQ(ReadHostMemory(root.path()).available_bytes, 800U * 1024);
  root.Write("proc/self/cgroup", "0::/app\n");
  root.Write("sys/fs/cgroup/app/memory.max", "500000\n");
  root.Write("sys/fs/cgroup/app/memory.current", "400000\n");
  EXPECT_EQ(ReadHostMemory(root.path()).available_bytes, 100000U);
  EXPECT_EQ(ReadHostMemory(root.path()).total_bytes, 500000U);
  root.Write("sys/fs/cgroup/app/memory.max", "max\n");
  EXPECT_EQ(ReadHostMemory(root.path()).total_bytes, 1000U * 1024);
}

}  // namespace
}  // namespace gale
