#!/usr/bin/env bash
# Runs every GPU test of a prebuilt folder, from the root of the tree, on a machine that needs no
# more than a driver. Usage: scripts/gpu_check.sh [FOLDER]      (default: build/portable/gpu)
# Prints one line a program and the counts of tests run, skipped and failed; fails when any test
# fails or none runs. GALE_GPU_CHECK_SECONDS bounds each program (default 120).
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/portable/gpu}
limit=${GALE_GPU_CHECK_SECONDS:-120}

total_run=0
total_skipped=0
total_failed=0

# count OUTPUT PATTERN: the number in the first line "[ PATTERN ] N test...", or 0.
count() { sed -nE "s/^\[ +$2 +\] ([0-9]+) tests?[.,].*/\1/p" <<<"$1" | head -n 1 | grep . || echo 0; }

check() {
  local program=$1 output status passed skipped failed started=$SECONDS
  shift
  output=$(timeout "$limit" "$folder/$program" "$@" 2>&1)
  status=$?
  passed=$(count "$output" PASSED)
  skipped=$(count "$output" SKIPPED)
  failed=$(count "$output" FAILED)
  # A crash or the time limit fails the program whatever had passed before.
  if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
  echo "$program $*: $passed passed, $skipped skipped, $failed failed, exit $status," \
    "$((SECONDS - started)) s"
  if [ "$failed" -gt 0 ]; then
    grep -E "^\[  FAILED  \] [^0-9]|Failure|want|CHECK|cuda:" <<<"$output" | sort -u | head -n 30
    [ "$status" -lt 2 ] || tail -n 3 <<<"$output"
  elif [ "$passed" -eq 0 ]; then
    tail -n 3 <<<"$output"
  fi
  total_run=$((total_run + passed + failed))
  total_skipped=$((total_skipped + skipped))
  total_failed=$((total_failed + failed))
}

check conformance_test --backend=cuda
check model_golden_test --device=cuda
check model_mutation_test --device=cuda

echo "gpu tests: $total_run run, $total_skipped skipped, $total_failed failed"
if [ "$total_run" -eq 0 ]; then
  echo "no GPU test ran" >&2
  exit 1
fi
[ "$total_failed" -eq 0 ]
