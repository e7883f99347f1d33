#!/usr/bin/env bash
# Builds the images from this tree, without pulling any: the programs on this machine, statically, then an image of each.
#
#   scripts/images.sh            the programs, then the images
#   scripts/images.sh programs   the programs only, into target/images/dist
#   scripts/images.sh images     the images only, of the programs that are there
#
#   CLOUDPULSE_IMAGES    before the images' names (cloudpulse): cloudpulse/exporter:0.1.0, …
#   CLOUDPULSE_VERSION   their tag (the workspace's version)
#   CARGO_FLAGS          flags for cargo, such as --locked
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

images=${CLOUDPULSE_IMAGES:-cloudpulse}
version=${CLOUDPULSE_VERSION:-$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
what=${1-all}

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

case $what in
  all | programs) docker/binaries.sh target/images/dist ;;
  images) ;;
  *)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
if [ "$what" = programs ]; then exit; fi

find_docker
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
for program in exporter predictor scaler sample; do
  DOCKER_BUILDKIT=1 "$docker" build --quiet --file docker/Dockerfile --target "$program" --tag "$images/$program:$version" \
    --build-arg BINARIES=prebuilt --build-arg VERSION="$version" --build-arg REVISION="$revision" target/images >/dev/null
  printf '%s %s bytes\n' "$images/$program:$version" "$("$docker" image inspect --format '{{.Size}}' "$images/$program:$version")"
done
