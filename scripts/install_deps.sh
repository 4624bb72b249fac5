#!/usr/bin/env bash
# Installs the Debian packages that Gale needs, and only those that are missing.
# Usage: scripts/install_deps.sh [build|test]    (test: build plus what the tests need)
set -euo pipefail

readonly BUILD_PACKAGES=(
  g++ cmake ninja-build pkgconf git
  libexpected-dev libfmt-dev libsimdjson-dev libboost1.81-dev libpcre2-dev libutf8proc-dev
  libxxhash-dev libcli11-dev libeigen3-dev libcurl4-openssl-dev libssl-dev
)
readonly TEST_PACKAGES=(libgtest-dev libgmock-dev python3)

packages=("${BUILD_PACKAGES[@]}")
case "${1:-build}" in
  build) ;;
  test) packages+=("${TEST_PACKAGES[@]}") ;;
  *) echo "usage: $0 [build|test]" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ "$status" == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "$0: not root and no sudo; install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q >&2
"${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
