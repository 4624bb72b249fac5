#!/usr/bin/env bash
# From a clean clone to the test summary: installs what is missing, builds everything, runs every
# test. Usage: scripts/test.sh [CTEST ARGUMENT...]     (for example: -R tokenizer)
# Where nvcc is, the CUDA back end is compiled too (for Hopper); its tests run where a GPU is.
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_deps.sh test
cmake --preset dev-cpu -DGALE_CUDA=AUTO
cmake --build --preset dev-cpu
exec ctest --test-dir build/dev-cpu --output-on-failure -j "$(nproc)" "$@"
