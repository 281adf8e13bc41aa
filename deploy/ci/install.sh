#!/usr/bin/env bash
# Installs a release of fastpull, with its checksum verified.
#
#   FASTPULL_VERSION   a release such as v1.2.3, or latest (the default)
#   FASTPULL_SHA256    what the binary has to hash to; without it, the release's SHA256SUMS tell
#   FASTPULL_DIR       where to put it (default: ./.fastpull)
#   FASTPULL_RELEASES  where releases are (default: https://github.com/fastpull/fastpull/releases)
set -euo pipefail

version=${FASTPULL_VERSION:-latest}
dir=${FASTPULL_DIR:-$PWD/.fastpull}
releases=${FASTPULL_RELEASES:-https://github.com/fastpull/fastpull/releases}

fail() {
  echo "install fastpull $version: $*" >&2
  exit 1
}

case $(uname -s)/$(uname -m) in
  Linux/x86_64) arch=amd64 ;;
  Linux/aarch64) arch=arm64 ;;
  Linux/armv[67]l) arch=arm ;;
  Linux/i[3-6]86) arch=386 ;;
  Linux/loongarch64) arch=loong64 ;;
  Linux/riscv64 | Linux/ppc64le | Linux/s390x) arch=$(uname -m) ;;
  *) fail "there is no binary for $(uname -s) on $(uname -m)" ;;
esac
file=fastpull-linux-$arch

case $version in
  latest) url=$releases/latest/download ;;
  *) url=$releases/download/$version ;;
esac

# fetch NAME: a file of the release, as a file of that name here.
fetch() {
  if command -v curl >/dev/null; then
    curl --fail --silent --show-error --location --retry 3 --connect-timeout 20 --output "$1" "$url/$1"
  elif command -v wget >/dev/null; then
    wget -q -T 20 -t 4 -O "$1" "$url/$1"
  else
    fail "neither curl nor wget is there"
  fi || fail "$url/$1 could not be fetched"
}

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
(
  cd "$temp" # in here alone: FASTPULL_DIR may be a relative path
  fetch "$file"
  if [ -n "${FASTPULL_SHA256:-}" ]; then
    echo "$FASTPULL_SHA256  $file" > SUM
  else
    fetch SHA256SUMS
    grep -E "^[0-9a-f]{64} [ *]$file\$" SHA256SUMS > SUM || fail "SHA256SUMS does not name $file"
  fi
  sha256sum -c SUM >/dev/null 2>&1 || fail "$file does not have the checksum $(cut -c 1-64 SUM)"
)
chmod 755 "$temp/$file"
mkdir -p "$dir"
mv "$temp/$file" "$dir/fastpull"
"$dir/fastpull" --version
