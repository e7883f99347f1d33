#!/usr/bin/env bash
# Builds what the images hold into a folder: the static programs, the sample service, the CA bundle and an empty folder.
#
#   docker/binaries.sh FOLDER [PROGRAM...]
#
# PROGRAM is exporter, predictor, scaler or sample, linked statically against glibc; all of these where none is named; or
# predictor-gpu, the predictor with the feature `gpu`, which cannot be static: Vulkan's loader is a shared library.
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

shift
if [ $# = 0 ]; then set -- exporter predictor scaler sample; fi

static="-C target-feature=+crt-static"
for program; do
  # Each by itself: built beside the others it would share their larger feature sets, and take more memory.
  case $program in
    exporter | predictor | scaler)
      RUSTFLAGS=$static cargo build --release "${flags[@]}" --target "$target" -p "cloudpulse-$program"
      cp "$built/cloudpulse-$program" "$out"
      if [ "$program" = exporter ]; then cp "$built/cloudpulse-exporter-web" "$out"; fi
      ;;
    predictor-gpu)
      cargo build --release "${flags[@]}" --target "$target" -p cloudpulse-predictor --features gpu
      cp "$built/cloudpulse-predictor" "$out"
      ;;
    sample)
      # shellcheck disable=SC2086 # two words
      rustc --edition=2024 -O --target "$target" $static -C strip=symbols -o "$out/cloudpulse-sample" docker/sample.rs
      ;;
    *)
      echo "binaries.sh: no such program: $program (exporter, predictor, scaler, sample or predictor-gpu)" >&2
      exit 2
      ;;
  esac
done
cp /etc/ssl/certs/ca-certificates.crt "$out"
mkdir -p "$out/empty"
