#!/usr/bin/env bash
# Builds the images from this tree, without pulling any: the programs on this machine, statically, then an image of each.
#
#   scripts/images.sh            the programs, then the images
#   scripts/images.sh programs   the programs only, into target/images/dist
#   scripts/images.sh images     the images only, of the programs that are there
#   scripts/images.sh all gpu    the predictor with GPU support and its image predictor:VERSION-gpu instead; or programs, or images. It
#                                is no image from nothing: it wants Debian's, and Debian's packages while it is built
#
#   CLOUDPULSE_IMAGES    before the images' names (cloudpulse): cloudpulse/exporter:0.1.0, …
#   CLOUDPULSE_VERSION   their tag (the workspace's version)
#   CLOUDPULSE_GPU_BASE  what the image with GPU support builds on (debian:bookworm-slim)
#   CLOUDPULSE_GPU_CACHE where what the program with GPU support is built from is kept, as in scripts/test-gpu.sh
#   DOCKER_BUILD_FLAGS   flags for docker build, such as --network=host
#   CARGO_FLAGS          flags for cargo, such as --locked
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

images=${CLOUDPULSE_IMAGES:-cloudpulse}
version=${CLOUDPULSE_VERSION:-$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
what=${1-all}
variant=${2-}

# BuildKit builds only the stages that are needed, and so pulls nothing; the classic builder builds all. Docker has it in the
# plugin buildx, and before version 23 in itself.
find_docker() {
  local client major
  for client in docker /usr/bin/docker; do
    command -v "$client" >/dev/null || continue
    major=$("$client" version --format '{{.Client.Version}}' 2>/dev/null | cut -d. -f1)
    if "$client" buildx version >/dev/null 2>&1 || [ "${major:-99}" -lt 23 ]; then
      docker=$client
      return
    fi
  done
  echo "images.sh: no Docker client with BuildKit; install the plugin buildx (Debian 13: docker-buildx, Docker's own: docker-buildx-plugin)" >&2
  exit 1
}

case $what-$variant in
  all- | programs-) docker/binaries.sh target/images/dist ;;
  all-gpu | programs-gpu)
    cache=${CLOUDPULSE_GPU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cloudpulse/gpu}
    CARGO_TARGET_DIR=$cache/target CARGO_INCREMENTAL=0 docker/binaries.sh target/images/dist-gpu predictor-gpu
    ;;
  images- | images-gpu) ;;
  *)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
if [ "$what" = programs ]; then exit; fi

find_docker
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
read -ra build_flags <<<"${DOCKER_BUILD_FLAGS-}"

build() { # TARGET NAME FLAG...
  local target=$1 name=$2
  shift 2
  DOCKER_BUILDKIT=1 "$docker" build --quiet --file docker/Dockerfile --target "$target" --tag "$name" \
    --build-arg BINARIES=prebuilt --build-arg VERSION="$version" --build-arg REVISION="$revision" "$@" "${build_flags[@]}" \
    target/images >/dev/null
  printf '%s %s bytes\n' "$name" "$("$docker" image inspect --format '{{.Size}}' "$name")"
}

if [ "$variant" = gpu ]; then
  build predictor-gpu "$images/predictor:$version-gpu" ${CLOUDPULSE_GPU_BASE:+--build-arg GPU_BASE="$CLOUDPULSE_GPU_BASE"}
else
  for program in exporter predictor scaler sample; do build "$program" "$images/$program:$version"; done
fi
