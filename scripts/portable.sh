#!/usr/bin/env bash
# Builds gale, the benchmarks and every GPU test into one folder that runs on an x86-64 Linux machine
# with an NVIDIA driver and nothing else; scripts/gpu_check.sh runs them there.
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
readonly MAX_TOTAL_MIB=60  # of the tree and the folder together

[[ -n "${1:-}" ]] || cmake --preset portable -DGALE_CUDA_ALL_ARCHS=$all_archs
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

tree_bytes=$(git ls-files -z | xargs -0 stat -c %s | awk '{sum += $1} END {print sum}')
folder_bytes=$(du -sb "$folder" | cut -f 1)
total_mib=$(((tree_bytes + folder_bytes) >> 20))
echo "tree $((tree_bytes >> 20)) MiB and $folder $((folder_bytes >> 20)) MiB: $total_mib MiB"
if ((total_mib >= MAX_TOTAL_MIB)); then
  echo "that is too much to carry: at most $MAX_TOTAL_MIB MiB are allowed" >&2
  exit 1
fi
