#!/usr/bin/env bash
# Makes a release twice, from two clones in folders of different length and with two cargo homes, and compares the checksums.
# Builds the programs twice: minutes for the exporter, half an hour of CPU and more for all three.
#
#   scripts/dist-check.sh [PROGRAM...]   as scripts/dist.sh
#
#   CARGO_FLAGS   further flags for cargo
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
  echo "dist-check.sh: commit first; what is not committed would not be checked" >&2
  exit 1
fi
scripts/setup.sh dist
tools=$PWD/target/tools
# What only writes texts need not be built twice.
read -ra flags <<<"${CARGO_FLAGS-}"
cargo build --quiet --locked "${flags[@]}" --package cloudpulse-dist
export DIST_TOOL=${CARGO_TARGET_DIR:-$PWD/target}/debug/cloudpulse-dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo_home=${CARGO_HOME:-$HOME/.cargo}

make_in() { # FOLDER
  local clone=$work/$1/tree home=$work/$1/cargo
  git clone --quiet --shared . "$clone"
  mkdir -p "$home" "$clone/target"
  ln -s "$cargo_home"/* "$home/" # the same crates under another path
  ln -s "$tools" "$clone/target/tools"
  env -u CARGO_TARGET_DIR -u SOURCE_DATE_EPOCH CARGO_HOME="$home" DIST_OUT="$work/$1/out" "$clone/scripts/dist.sh" "${@:2}"
  rm -rf "$clone/target"
}

make_in first "$@"
make_in the-second-with-a-longer-name "$@"
if ! diff "$work"/*/out/SHA256SUMS >&2; then
  echo "the two are not the same" >&2
  exit 1
fi
echo "the same twice:"
cat "$work/first/out/SHA256SUMS"
