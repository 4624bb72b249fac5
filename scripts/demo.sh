#!/usr/bin/env bash
# From a clean clone to text: installs what is missing, builds the program, and lets the bundled
# model answer. Usage: scripts/demo.sh [MESSAGE]
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_deps.sh build
cuda=OFF
[[ -e /dev/nvidiactl ]] && cuda=AUTO
cmake --preset release -DGALE_CUDA=$cuda >&2
cmake --build --preset release --target gale >&2

prompt=${1:-Tell me a story about a fox who found a boat.}
printf '\n> %s\n\n' "$prompt"
exec ./build/release/src/cli/gale run --chat "$prompt" --model models/gale-tales-10m --seed 3
