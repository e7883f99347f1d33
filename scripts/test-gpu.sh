#!/usr/bin/env bash
# Tests the network on wgpu without a GPU: on Mesa's software Vulkan, and with the drivers or the Vulkan loader hidden. Says
# loudly that it did not run where Mesa cannot be installed.
#
# The build with the feature `gpu` is long, so it and Mesa's compiled shaders are kept outside the tree:
#   CLOUDPULSE_GPU_CACHE   the folder (${XDG_CACHE_HOME:-$HOME/.cache}/cloudpulse/gpu)
#   CARGO_FLAGS            flags for cargo, such as --locked
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! scripts/setup.sh gpu; then
  echo "!!! SKIPPED: no software Vulkan here; the network was not tested on wgpu" >&2
  exit 0
fi

cache=${CLOUDPULSE_GPU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cloudpulse/gpu}
mkdir -p "$cache/shaders"
hidden=$(mktemp -d)
trap 'rm -rf "$hidden"' EXIT
# The dynamic linker takes the first file of that name, and that one is no library.
for library in libvulkan.so.1 libEGL.so.1 libEGL.so; do echo "not a library" >"$hidden/$library"; done
software=$(compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' | paste -sd:)

# Without debug information: half the time and a third of the space.
read -ra flags <<<"${CARGO_FLAGS-}"
binary=$(CARGO_TARGET_DIR=$cache/target CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=none \
  cargo test "${flags[@]}" --package cloudpulse-lstm --features gpu --test gpu --no-run \
  --message-format json-render-diagnostics | sed -nE 's/.*"executable":"([^"]+)".*/\1/p')

run() { # TEST VARIABLE=VALUE...: one test in an environment, in a process of its own
  local test=$1 output
  shift
  printf '%s (%s)\n' "$test" "$*"
  if ! output=$(env MESA_SHADER_CACHE_DIR="$cache/shaders" "$@" timeout 300 "$binary" --exact --nocapture "$test" 2>&1) ||
    ! grep -q '1 passed' <<<"$output"; then
    printf '%s\n' "$output" >&2
    echo "failed, or took more than 5 minutes: $test" >&2
    exit 1
  fi
  sed -n '/^llvmpipe/p' <<<"$output" # what was measured, where the test says it
}

run software_vulkan_computes_what_the_kernel_does VK_DRIVER_FILES="$software"
# A software driver is no GPU; no driver is none; no loader is none.
for setting in VK_DRIVER_FILES="$software" VK_DRIVER_FILES=/nonexistent LD_LIBRARY_PATH="$hidden"; do
  run without_a_gpu_auto_is_the_cpu_and_gpu_an_error "$setting"
done
