#!/usr/bin/env bash
# From a clean clone to text: installs what is missing, builds the program, and lets the bundled
# model write. Usage: scripts/demo.sh [PROMPT]
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_deps.sh build
cuda=OFF
[[ -e /dev/nvidiactl ]] && cuda=AUTO
cmake --preset release -DGALE_CUDA=$cuda >&2
cmake --build --preset release --target gale >&2

prompt=${1:-Once upon a time, a small fox lived at the edge of a quiet forest.}
printf '\n%s' "$prompt"
exec ./build/release/src/cli/gale run "$prompt" --model models/gale-tales-10m \
  --max-tokens 200 --temperature 0.7 --top-p 0.95 --seed 7
