#!/usr/bin/env bash
# Builds the programs that scripts/gpu_check.sh runs, and gale itself, into one folder with every
# shared library but glibc's and the driver's, so that a machine with just a driver can run them.
# Usage: scripts/portable.sh [BUILD FOLDER]     (default: build/portable, made with the preset)
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/portable}
programs=(src/cli/gale tests/conformance/conformance_test tests/model/model_golden_test
  tests/model/model_mutation_test bench/op/bench_op)
readonly MAX_PROGRAM_BYTES=$((24 << 20))

[[ -n "${1:-}" ]] || cmake --preset portable
cmake --build "$build" --target "${programs[@]##*/}"

folder=$build/gpu
rm -rf "$folder"
mkdir -p "$folder"
for program in "${programs[@]}"; do
  cp "$build/$program" "$folder/"
  bytes=$(stat -c %s "$build/$program")
  if ((bytes > MAX_PROGRAM_BYTES)); then
    echo "$program: $bytes bytes, more than $MAX_PROGRAM_BYTES" >&2
    exit 1
  fi
  # "libfmt.so.9 => /lib/x86_64-linux-gnu/libfmt.so.9 (0x...)": glibc and the loader stay behind.
  ldd "$build/$program" | sed -nE 's/^\s+(\S+) => (\/\S+) .*/\1 \2/p' |
    while read -r name path; do
      case "$name" in
        libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.* | libcuda.so.*) ;;
        *) cp -L "$path" "$folder/$name" ;;
      esac
    done
done
du -sh "$folder"
