#!/usr/bin/env bash
# A real Kubernetes control plane on 127.0.0.1, for the tests of the scaler: etcd, kube-apiserver, kube-controller-manager,
# kube-scheduler, and kwok, which plays the kubelet of fake nodes.
#
#   control-plane.sh build               compile everything from Go modules into the cache (once; 10 to 20 minutes)
#   control-plane.sh build-adapter       compile prometheus-adapter, a peer that the benchmark of external metrics starts
#   control-plane.sh build-neighbours    compile what the chart is tested beside: Prometheus, its Operator, Thanos, KEDA (half
#                                        an hour of CPU)
#   control-plane.sh build-node          compile what a real node needs: kubelet, kube-proxy, containerd, and Prometheus
#                                        (a quarter of an hour of CPU)
#   control-plane.sh start DIR           start it; state, logs, keys and kubeconfigs go into DIR
#   control-plane.sh stop DIR            stop what `start` started (DIR stays)
#   control-plane.sh kill DIR NAME       kill -9 one of its programs
#   control-plane.sh resume DIR NAME     start it again as it was; the API is ready then
#   control-plane.sh status DIR          each process: pid, state, resident memory; a dead one's last words
#   control-plane.sh cert DIR CA NAME SUBJECT [SAN]
#                                        DIR/pki/NAME.{crt,key} signed by DIR/pki/CA.crt
#
# After `start`: . DIR/env, then `kubectl get nodes`.
#
# Settings (environment):
#   CLOUDPULSE_KUBE_CACHE  binaries             ${XDG_CACHE_HOME:-$HOME/.cache}/cloudpulse/kube
#   KUBE_NODES             fake nodes; 0 = no scheduler, no kwok, pods stay Pending   (1)
#   KUBE_SERVICE_CIDR      cluster IPs, of the form A.B.0.0/16                         (127.96.0.0/16)
#   KUBE_HPA_SYNC          period of the HPA controller                               (3s)
#   KUBE_APISERVER_FLAGS, KUBE_KCM_FLAGS  more flags, split at spaces
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=${CLOUDPULSE_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cloudpulse/kube}
bin=$cache/bin

# Cluster IPs are loopback addresses: 127.0.0.0/8 is local as a whole, so the aggregator, which
# dials the cluster IP of a Service, reaches a server that listens on that address and port.
service_cidr=${KUBE_SERVICE_CIDR:-127.96.0.0/16}
service_ip=${service_cidr%.0/16}.1

die() {
  echo "control-plane.sh: $*" >&2
  exit 1
}

# ── build ────────────────────────────────────────────────────────────────────────────────────────

# build_one MODULE_DIR PACKAGE NAME [LDFLAGS] [TAGS]
build_one() {
  echo "building $3"
  # No debug data: less to compile and a smaller build cache.
  (cd "$1" && go build -trimpath -gcflags all=-dwarf=false -tags "${5-}" -ldflags "-s -w ${4-}" -o "$bin/$3" "$2")
}

build() {
  local version stamp v=k8s.io/component-base/version ldflags cmd
  version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$here/go.mod")
  stamp=$(cat "$here"/go.mod "$here"/kwok/go.mod | sha256sum)
  mkdir -p "$bin"
  if [[ -f $bin/stamp && $(<"$bin/stamp") == "$stamp" ]]; then
    echo "up to date: $bin"
    return
  fi
  # Without these the server calls itself v0.0.0-master+$Format:%H$.
  ldflags="-X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=$(cut -d. -f2 <<<"$version")"
  ldflags+=" -X $v.gitTreeState=clean -X $v.gitCommit=${version#v}"
  export CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false ${GOFLAGS-}"
  for cmd in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
    build_one "$here" "k8s.io/kubernetes/cmd/$cmd" "$cmd" "$ldflags"
  done
  build_one "$here" go.etcd.io/etcd/server/v3 etcd
  build_one "$here/kwok" sigs.k8s.io/kwok/cmd/kwok kwok
  echo "$stamp" >"$bin/stamp"
}

# build_other NAME MODULE PACKAGE VERSION_VARIABLE [TAGS] [FOLDER]: what not every test needs, each with a stamp of its own; the version
# is the one in FOLDER/go.mod, which is called as the program unless said otherwise
build_other() {
  local version stamp folder=$here/${6-$1}
  version=$(awk -v m="$2" '$1 == m { print $2 } $1 == "require" && $2 == m { print $3 }' "$folder/go.mod")
  [[ $1 != prometheus ]] || version=v3.${version#v0.3} # its module v0.316.0 is release 3.16.0
  [[ $2 != k8s.io/kubernetes ]] || version=v$version    # whose programs say the v
  stamp=$(sha256sum <"$folder/go.mod")
  mkdir -p "$bin"
  if [[ -f $bin/stamp-$1 && $(<"$bin/stamp-$1") == "$stamp" ]]; then
    echo "up to date: $bin/$1"
    return
  fi
  export CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false ${GOFLAGS-}"
  build_one "$folder" "$2/$3" "$1" "-X $4=${version#v}" "${5-}"
  echo "$stamp" >"$bin/stamp-$1"
}

build_adapter() {
  build_other prometheus-adapter sigs.k8s.io/prometheus-adapter cmd/adapter sigs.k8s.io/prometheus-adapter/pkg/version.gitVersion
}

# Debian's Prometheus finds no targets in Kubernetes; of all ways to find them this one has no other.
build_prometheus() {
  local bin=$cache/neighbours
  build_other prometheus github.com/prometheus/prometheus cmd/prometheus github.com/prometheus/common/version.Version \
    remove_all_sd,enable_kubernetes_sd,netgo,slicelabels
}

# In a folder of their own: other tests go by the Prometheus on PATH.
build_neighbours() {
  local version=github.com/prometheus/common/version.Version bin=$cache/neighbours
  build_prometheus
  build_other prometheus-operator github.com/prometheus-operator/prometheus-operator cmd/operator $version
  build_other thanos github.com/thanos-io/thanos cmd/thanos $version netgo,slicelabels
  build_other keda-operator github.com/kedacore/keda/v2 cmd/operator github.com/kedacore/keda/v2/version.Version "" keda
  build_other keda-adapter github.com/kedacore/keda/v2 cmd/adapter github.com/kedacore/keda/v2/version.Version "" keda
  rm -rf "$bin/keda-crds"
  mkdir "$bin/keda-crds"
  install -m 644 "$(cd "$here/keda" && go list -m -f '{{.Dir}}' github.com/kedacore/keda/v2)"/config/crd/bases/*.yaml "$bin/keda-crds"
}

# In a folder of their own, too: a machine may have a containerd.
build_node() {
  local bin=$cache/node name
  build_prometheus
  build_other kubelet k8s.io/kubernetes cmd/kubelet k8s.io/component-base/version.gitVersion "" node
  build_other kube-proxy k8s.io/kubernetes cmd/kube-proxy k8s.io/component-base/version.gitVersion "" node
  for name in ctr containerd-shim-runc-v2 containerd; do
    build_other $name github.com/containerd/containerd/v2 cmd/$name github.com/containerd/containerd/v2/version.Version no_btrfs,no_zfs,no_devmapper containerd
  done
}

# ── keys and kubeconfigs ─────────────────────────────────────────────────────────────────────────

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

# new_ca DIR NAME
new_ca() {
  new_key "$1/pki/$2.key"
  openssl req -x509 -new -key "$1/pki/$2.key" -subj "/CN=$2" -days 3650 -out "$1/pki/$2.crt" \
    -addext "keyUsage=critical,keyCertSign,cRLSign"
}

# new_cert DIR CA NAME SUBJECT [SAN]: for clients and servers alike
new_cert() {
  local pki=$1/pki ext=(-addext "basicConstraints=critical,CA:FALSE"
    -addext "extendedKeyUsage=clientAuth,serverAuth")
  [[ -z ${5-} ]] || ext+=(-addext "subjectAltName=$5")
  new_key "$pki/$3.key"
  openssl req -x509 -new -key "$pki/$3.key" -subj "$4" -days 3650 -out "$pki/$3.crt" \
    -CA "$pki/$2.crt" -CAkey "$pki/$2.key" "${ext[@]}"
}

new_pki() {
  local dir=$1
  mkdir -p "$dir/pki"
  new_ca "$dir" ca             # serving certificates and client certificates of the cluster
  new_ca "$dir" front-proxy-ca # only the aggregator's client certificate
  new_ca "$dir" extension-ca   # the extension server; goes into the caBundle of its APIService
  new_key "$dir/pki/sa.key"
  openssl pkey -in "$dir/pki/sa.key" -pubout -out "$dir/pki/sa.pub"
  new_cert "$dir" ca apiserver /CN=kube-apiserver \
    "IP:127.0.0.1,IP:$service_ip,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  new_cert "$dir" ca admin /O=system:masters/CN=admin
  new_cert "$dir" ca kube-controller-manager /CN=system:kube-controller-manager
  new_cert "$dir" ca kube-scheduler /CN=system:kube-scheduler
  new_cert "$dir" front-proxy-ca front-proxy-client /CN=front-proxy-client
}

# kubeconfig DIR USER
kubeconfig() {
  cat >"$1/$2.kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: local, cluster: {server: "https://127.0.0.1:$api_port", certificate-authority: "$1/pki/ca.crt"}}]
users: [{name: "$2", user: {client-certificate: "$1/pki/$2.crt", client-key: "$1/pki/$2.key"}}]
contexts: [{name: local, context: {cluster: local, user: "$2"}}]
current-context: local
EOF
}

# ── processes ────────────────────────────────────────────────────────────────────────────────────

# free_ports N: distinct, free right now, and none that the kernel gives to connections: a server that was killed finds its port
# free when it comes back
free_ports() {
  python3 - "$1" <<'EOF'
import random, socket, sys
low = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
socks = []
for port in random.sample(range(10000, low), low - 10000):
    sock = socket.socket()
    try: sock.bind(("127.0.0.1", port))
    except OSError: continue
    socks.append(sock)
    if len(socks) == int(sys.argv[1]): break
print(*(sock.getsockname()[1] for sock in socks))
EOF
}

# running DIR NAME: its pid file names a live process of that program
running() {
  local pid
  pid=$(cat "$1/run/$2.pid" 2>/dev/null) || return 1
  [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == */"$2"* ]]
}

# launch DIR NAME [FLAG...]
launch() {
  local dir=$1 name=$2
  shift 2
  printf '%s\0' "$@" >"$dir/run/$name.args" # for resume
  setsid "$bin/$name" "$@" </dev/null >>"$dir/log/$name.log" 2>&1 &
  echo $! >"$dir/run/$name.pid"
}

kill_one() {
  running "$1" "$2" || die "$2 does not run in $1"
  kill -KILL "$(<"$1/run/$2.pid")"
}

resume() {
  local args
  [[ -f $1/run/$2.args ]] || die "$2 was never started in $1"
  ! running "$1" "$2" || die "$2 runs in $1 already"
  mapfile -d '' args <"$1/run/$2.args"
  launch "$1" "$2" "${args[@]}"
  [[ $2 == kube-apiserver ]] || return 0
  # Should it end at its start, it is started again, as by a kubelet.
  local end=$((SECONDS + 60))
  until api_is_ready "$1"; do
    if ! running "$1" "$2"; then
      echo "$2 died and is started again: $(tail -n 3 "$1/log/$2.log")" >&2
      launch "$1" "$2" "${args[@]}"
    fi
    ((SECONDS < end)) || die "$2 is not ready in time; see $1/log"
    sleep 0.2
  done
}

api_is_ready() { # DIR
  "$bin/kubectl" --kubeconfig "$1/admin.kubeconfig" get --raw /readyz >/dev/null 2>&1
}

# await DIR WHAT SECONDS COMMAND...: until it succeeds, or time is up, or a process has died
await() {
  local dir=$1 what=$2 end=$((SECONDS + $3)) name
  shift 3
  until "$@" >/dev/null 2>&1; do
    for name in $(started "$dir"); do
      kill -0 "$(<"$dir/run/$name.pid")" 2>/dev/null || die "$name died: $(tail -n 3 "$dir/log/$name.log")"
    done
    ((SECONDS < end)) || die "no $what in time; see $dir/log"
    sleep 0.1
  done
}

all=(kwok kube-scheduler kube-controller-manager kube-apiserver etcd) # in the order of stopping

# started DIR: the names that have a pid file
started() {
  local name
  for name in "${all[@]}"; do [[ ! -f $1/run/$name.pid ]] || echo "$name"; done
}

start() {
  local dir nodes=${KUBE_NODES:-1} i api_port etcd_port peer_port kcm_port scheduler_port kwok_port extension_port
  [[ -x $bin/kwok ]] || die "not built: run '$0 build'"
  mkdir -p "$1" && dir=$(cd -- "$1" && pwd)
  [[ -z $(started "$dir") ]] || die "$dir is in use: run '$0 stop $dir'"
  mkdir -p "$dir/run" "$dir/log"
  trap 'trap - ERR EXIT; stop "$dir"' EXIT
  [[ -f $dir/pki/front-proxy-client.crt ]] || new_pki "$dir"
  read -r api_port etcd_port peer_port kcm_port scheduler_port kwok_port extension_port < <(free_ports 7)
  for i in admin kube-controller-manager kube-scheduler; do kubeconfig "$dir" "$i"; done
  cat >"$dir/env" <<EOF
export PATH="$bin:\$PATH"
export KUBECONFIG="$dir/admin.kubeconfig"
export KUBE_API="https://127.0.0.1:$api_port"
export KUBE_ETCD="http://127.0.0.1:$etcd_port"
export KUBE_KCM="https://127.0.0.1:$kcm_port"
export KUBE_EXTENSION_PORT=$extension_port # free, for an extension server on 127.96.0.10
EOF

  launch "$dir" etcd --name default --data-dir "$dir/etcd" --log-level warn --unsafe-no-fsync \
    --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
    --listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
    --initial-cluster "default=http://127.0.0.1:$peer_port"

  # shellcheck disable=SC2086 # extra flags are to be split
  launch "$dir" kube-apiserver --etcd-servers "http://127.0.0.1:$etcd_port" \
    --bind-address 127.0.0.1 --secure-port "$api_port" --advertise-address 127.0.0.1 \
    --endpoint-reconciler-type none --service-cluster-ip-range "$service_cidr" \
    --authorization-mode RBAC --client-ca-file "$dir/pki/ca.crt" \
    --tls-cert-file "$dir/pki/apiserver.crt" --tls-private-key-file "$dir/pki/apiserver.key" \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$dir/pki/sa.pub" --service-account-signing-key-file "$dir/pki/sa.key" \
    --requestheader-client-ca-file "$dir/pki/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-uid-headers X-Remote-Uid --requestheader-extra-headers-prefix X-Remote-Extra- \
    --proxy-client-cert-file "$dir/pki/front-proxy-client.crt" --proxy-client-key-file "$dir/pki/front-proxy-client.key" \
    --profiling=false ${KUBE_APISERVER_FLAGS-}

  local kubectl=("$bin/kubectl" --kubeconfig "$dir/admin.kubeconfig")
  await "$dir" "API" 60 api_is_ready "$dir"

  # kwok's heartbeat comes about every 55 s; by default a node is given up after 50 s, and its pods
  # are then marked not Ready for good: hence the grace period.
  # shellcheck disable=SC2086
  launch "$dir" kube-controller-manager --kubeconfig "$dir/kube-controller-manager.kubeconfig" \
    --authentication-kubeconfig "$dir/kube-controller-manager.kubeconfig" \
    --authorization-kubeconfig "$dir/kube-controller-manager.kubeconfig" \
    --bind-address 127.0.0.1 --secure-port "$kcm_port" --cert-dir "$dir/run" --leader-elect=false \
    --use-service-account-credentials --service-account-private-key-file "$dir/pki/sa.key" \
    --root-ca-file "$dir/pki/ca.crt" --horizontal-pod-autoscaler-sync-period "${KUBE_HPA_SYNC:-3s}" \
    --node-monitor-grace-period 24h --profiling=false ${KUBE_KCM_FLAGS-}

  if ((nodes > 0)); then
    launch "$dir" kube-scheduler --kubeconfig "$dir/kube-scheduler.kubeconfig" \
      --authentication-kubeconfig "$dir/kube-scheduler.kubeconfig" \
      --authorization-kubeconfig "$dir/kube-scheduler.kubeconfig" \
      --bind-address 127.0.0.1 --secure-port "$scheduler_port" --cert-dir "$dir/run" --leader-elect=false \
      --profiling=false
    # The pod network 198.18.0.0/15 (benchmark range) is only text in pod statuses; nothing dials it.
    launch "$dir" kwok --kubeconfig "$dir/admin.kubeconfig" --config "$here/kwok/stages.yaml" \
      --manage-all-nodes --cidr 198.18.0.1/15 --node-ip 127.0.0.1 --node-port "$kwok_port" \
      --server-address "127.0.0.1:$kwok_port"
    for ((i = 0; i < nodes; i++)); do
      sed "s/@NAME@/node-$i/" "$here/kwok/node.yaml" | "${kubectl[@]}" apply -f - >/dev/null
    done
    await "$dir" "node" 30 "${kubectl[@]}" wait --for condition=Ready --timeout 1s nodes --all
  fi
  # The controllers are at work once the default namespace has its ServiceAccount.
  await "$dir" "controllers" 30 "${kubectl[@]}" -n default get serviceaccount default
  trap - EXIT
  echo "started: . $dir/env"
}

stop() {
  local dir name pid i
  dir=$(cd -- "$1" && pwd)
  for name in $(started "$dir"); do
    if running "$dir" "$name"; then
      pid=$(<"$dir/run/$name.pid")
      kill "$pid"
      for ((i = 0; i < 100; i++)); do
        running "$dir" "$name" || break
        sleep 0.1
      done
      ! running "$dir" "$name" || kill -KILL "$pid"
    fi
    rm -f "$dir/run/$name.pid"
  done
}

status() {
  local dir name
  dir=$(cd -- "$1" && pwd)
  for name in $(started "$dir"); do
    if running "$dir" "$name"; then
      printf '%-24s %7d  up    %s\n' "$name" "$(<"$dir/run/$name.pid")" \
        "$(awk '/VmRSS/ { printf "%.0f MiB", $2 / 1024 }' "/proc/$(<"$dir/run/$name.pid")/status")"
    else
      printf '%-24s %7d  dead\n' "$name" "$(<"$dir/run/$name.pid")"
      tail -n 3 "$dir/log/$name.log" | sed 's/^/  /'
    fi
  done
}

case "${1-} $#" in
  "build 1") build ;;
  "build-adapter 1") build_adapter ;;
  "build-neighbours 1") build_neighbours ;;
  "build-node 1") build_node ;;
  "start 2") start "$2" ;;
  "stop 2") stop "$2" ;;
  "status 2") status "$2" ;;
  "kill 3") kill_one "$(cd -- "$2" && pwd)" "$3" ;;
  "resume 3") resume "$(cd -- "$2" && pwd)" "$3" ;;
  "cert 5" | "cert 6") new_cert "${@:2}" ;;
  *)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 2
    ;;
esac; exit # on the same line: an edit of this file during a build does no harm
