#!/usr/bin/env bash
# From a clean clone to the test summary: installs what is missing, builds everything, runs every
# test. Usage: scripts/test.sh [CTEST ARGUMENT...]     (for example: -R tokenizer)
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_deps.sh test
cuda=OFF  # without a GPU its tests would only be skipped
[[ -e /dev/nvidiactl ]] && cuda=AUTO
cmake --preset dev-cpu -DGALE_CUDA=$cuda
cmake --build --preset dev-cpu
exec ctest --test-dir build/dev-cpu --output-on-failure -j "$(nproc)" "$@"
