#!/usr/bin/env bash
# Builds what the images hold into a folder: the static programs, the sample service, the CA bundle and an empty folder.
#
#   docker/binaries.sh FOLDER        the programs, linked statically against glibc
#   docker/binaries.sh FOLDER gpu    the predictor with the feature `gpu`, which cannot be static: Vulkan's loader is a shared library
#
# CARGO_FLAGS are flags for cargo, such as --locked. The Dockerfile runs it in a container, scripts/images.sh on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=$(realpath -m "${1:?the folder to write to}")
# The target is named even where it is this machine's: only then do RUSTFLAGS leave build scripts and macros alone.
target=$(rustc -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-target}/$target/release
read -ra flags <<<"${CARGO_FLAGS-}"
mkdir -p "$out"

if [ "${2-}" = gpu ]; then
  cargo build --release "${flags[@]}" --target "$target" -p cloudpulse-predictor --features gpu
  cp "$built/cloudpulse-predictor" "$out"
else
  export RUSTFLAGS="-C target-feature=+crt-static"
  # The exporter by itself: built beside the others it would share their larger feature sets, and take more memory.
  cargo build --release "${flags[@]}" --target "$target" -p cloudpulse-exporter
  cargo build --release "${flags[@]}" --target "$target" -p cloudpulse-predictor -p cloudpulse-scaler
  for program in exporter exporter-web predictor scaler; do cp "$built/cloudpulse-$program" "$out"; done
  rustc --edition=2024 -O --target "$target" -C target-feature=+crt-static -C strip=symbols -o "$out/cloudpulse-sample" docker/sample.rs
fi
cp /etc/ssl/certs/ca-certificates.crt "$out"
mkdir -p "$out/empty"
