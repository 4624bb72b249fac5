#!/usr/bin/env bash
# Runs every GPU test and the benchmarks of a folder that scripts/portable.sh has filled, or of its
# archive, from the root of the tree, on a machine that needs no more than an NVIDIA driver.
# Usage: scripts/gpu_check.sh [--tests | --bench] [FOLDER | FOLDER.tar.xz]
#                                                             (default: both, build/portable/gpu)
# Prints the counts of tests run, skipped and failed; fails when one fails or none runs, or when a
# benchmark does. Figures go to $GALE_GPU_CHECK_OUT (default: FOLDER/results) as JSON too.
# GALE_GPU_CHECK_SECONDS bounds each program (default 300).
set -uo pipefail
cd "$(dirname "$0")/.."
tests=1
bench=1
case "${1:-}" in
  --tests) bench=0; shift ;;
  --bench) tests=0; shift ;;
esac
folder=${1:-build/portable/gpu}
if [[ "$folder" == *.tar.xz ]]; then
  tar -C "$(dirname "$folder")" -xJf "$folder" || exit 1
  folder=$(dirname "$folder")/gpu
fi
limit=${GALE_GPU_CHECK_SECONDS:-300}
out=${GALE_GPU_CHECK_OUT:-$folder/results}
if [[ ! -s "$folder/gpu_tests.txt" ]]; then
  echo "$folder has no gpu_tests.txt: fill it with scripts/portable.sh" >&2
  exit 1
fi
mkdir -p "$out"

total_run=0
total_skipped=0
total_failed=0
bench_failed=0

# count OUTPUT PATTERN: the number in the first line "[ PATTERN ] N test...", or 0.
count() { sed -nE "s/^\[ +$2 +\] ([0-9]+) tests?[.,].*/\1/p" <<<"$1" | head -n 1 | grep . || echo 0; }

check() {
  local program=$1 output status passed skipped failed started=$SECONDS
  shift
  output=$(timeout "$limit" "$folder/$program" "$@" 2>&1)
  status=$?
  printf '%s\n' "$output" >"$out/$program.log"
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

# measure NAME PROGRAM ARGUMENT...: the table goes to the terminal and to NAME.txt.
measure() {
  local name=$1 program=$2
  shift 2
  echo "== $program $*"
  if ! timeout "$limit" "$folder/$program" "$@" 2>"$out/$name.err" | tee "$out/$name.txt"; then
    tail -n 5 "$out/$name.err"
    bench_failed=$((bench_failed + 1))
  fi
}

clocks() {
  command -v nvidia-smi >/dev/null || return 0
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu \
    --format=csv,noheader
}

clocks
if ((tests)); then
  while read -r program arguments; do
    read -ra arguments <<<"$arguments"
    check "$program" "${arguments[@]}"
  done < <(grep . "$folder/gpu_tests.txt")
  echo "gpu tests: $total_run run, $total_skipped skipped, $total_failed failed"
fi
if ((bench)); then
  measure latency gale bench latency --device cuda --json "$out/latency.json" \
    --dummy qwen2.5-1.5b,qwen3-0.6b,qwen3-1.7b,llama3-8b --batch-size 1,8,16 --max-model-len 1024
  measure latency_context gale bench latency --device cuda --json "$out/latency_context.json" \
    --dummy llama3-8b --batch-size 8,16 --prompt-tokens 128 --max-model-len 1024
  measure op bench_op --backend=cuda --json="$out/op.json"
  clocks
fi
if ((tests)) && [ "$total_run" -eq 0 ]; then
  echo "no GPU test ran" >&2
  exit 1
fi
[ "$total_failed" -eq 0 ] && [ "$bench_failed" -eq 0 ]
