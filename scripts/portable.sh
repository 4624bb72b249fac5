#!/usr/bin/env bash
# Builds gale, the benchmarks and every GPU test for x86-64 Linux machines with an NVIDIA driver and
# nothing else: BUILD/gpu, and the same packed as BUILD/gpu.tar.xz. scripts/gpu_check.sh runs either.
# Usage: scripts/portable.sh [--all-archs] [BUILD FOLDER]   (default: build/portable, from the preset)
# --all-archs: for compute capabilities 8.0, 8.6 and 8.9 beside 9.0
set -euo pipefail
cd "$(dirname "$0")/.."
all_archs=OFF
if [[ "${1:-}" == --all-archs ]]; then
  all_archs=ON
  shift
fi
build=${1:-build/portable}
readonly MAX_TOTAL_MIB=60  # of the tree and the archive together

[[ -n "${1:-}" ]] || cmake --preset portable -DGALE_CUDA_ALL_ARCHS=$all_archs
cmake "$build" >/dev/null  # the tree may list more tests than when the folder was made
if [[ ! -s "$build/gpu_tests.txt" ]]; then
  echo "$build has no GPU tests: it was configured without CUDA or without tests" >&2
  exit 1
fi
programs=("$build/src/cli/gale" "$build/bench/op/bench_op")
while read -r program _; do programs+=("$program"); done < <(grep . "$build/gpu_tests.txt")
cmake --build "$build" --target "${programs[@]##*/}"
python3 tools/check_portable.py "${programs[@]}"

folder=$build/gpu
rm -rf "$folder"
mkdir -p "$folder"
cp "${programs[@]}" "$folder/"
sed -E 's/^\S*\///' "$build/gpu_tests.txt" >"$folder/gpu_tests.txt"

# The programs hold the same kernels: a dictionary over all of them shrinks the rest to nothing.
tar -C "$build" -c gpu | xz --lzma2=preset=3,dict=64MiB >"$folder.tar.xz"

tree_bytes=$(git ls-files -z | xargs -0 stat -c %s | awk '{sum += $1} END {print sum}')
archive_bytes=$(stat -c %s "$folder.tar.xz")
total_mib=$(((tree_bytes + archive_bytes) >> 20))
echo "tree $((tree_bytes >> 20)) MiB and $folder.tar.xz $((archive_bytes >> 20)) MiB: $total_mib MiB"
if ((total_mib >= MAX_TOTAL_MIB)); then
  echo "that is too much to carry: less than $MAX_TOTAL_MIB MiB is allowed" >&2
  exit 1
fi
