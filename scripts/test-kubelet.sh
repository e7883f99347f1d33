#!/usr/bin/env bash
# Runs the Helm chart on a real Kubernetes node: kubelet, containerd, kube-proxy and a bridge for the pods, beside the control plane of
# testkit/kubernetes. The images are those of docker/Dockerfile. Do they run as the chart asks, under Pod Security's level restricted and
# on a read-only root; do the kubelet's probes find them well, with TLS and a user too; are containers named; does a claimed volume keep
# what was learnt; do `helm test`, an HPA and a rule work with pods that are real?
#
# Wants root, because it mounts and makes cgroups; what scripts/setup.sh helm kubelet installs; `testkit/kubernetes/control-plane.sh
# build` and `build-node`; and the programs in target/images (scripts/images.sh programs).
#
# It runs in network, mount and process namespaces of its own, which take all that it started with them.
# shellcheck disable=SC1091,SC2034,SC2154 # helm/tests/lib.sh has the variables that are not seen here
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1-}" != inside ]; then
  die() {
    echo "test-kubelet.sh: $*" >&2
    exit 1
  }
  [ "$(id -u)" = 0 ] || die "it must be root"
  # A kubelet ends the pods that it does not know.
  if [ -n "$(find /sys/fs/cgroup -path '*/kubepods*' -name cgroup.procs -exec head -n 1 -q {} +)" ]; then die "a kubelet is at work on this machine"; fi
  status=0
  CHART_TEST_FOLDER=$(mktemp -d /tmp/cpc-XXXXXX)
  export CHART_TEST_FOLDER
  unshare --net --mount --pid --fork --kill-child --mount-proc scripts/test-kubelet.sh inside || status=$?
  find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + || echo "test-kubelet.sh: cgroups are left in /sys/fs/cgroup" >&2
  if [ -z "${KEEP-}" ]; then rm -rf --one-file-system "$CHART_TEST_FOLDER"; fi # not before its mounts went with their namespace
  exit $status
fi
cache=${CLOUDPULSE_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cloudpulse/kube}
export PATH=$PWD/target/tools/bin:$PATH
binaries=
. helm/tests/lib.sh
version=$(sed -n 's/^version: //p' helm/cloudpulse/Chart.yaml)

# --- A machine ---------------------------------------------------------------------------------------------------------------------

node=10.240.0.1 pods=10.244.0.0/24 services=10.96.0.0/16
mount --make-rshared / # as systemd has it; what is mounted below is seen in containers
for folder in /run /var/log /opt /usr/libexec; do mount -t tmpfs test-kubelet $folder; done
echo "nameserver $node" >"$work/resolv.conf"
mount --bind "$work/resolv.conf" /etc/resolv.conf
ip link set lo up
ip address add $node/32 dev lo
ip route add $services dev lo # a route to them, from which kube-proxy turns away
echo 1 >/proc/sys/net/ipv4/ip_forward
mkdir "$work/names"
name() { echo "$2 $1" >"$work/names/$1"; } # NAME ADDRESS
name prometheus-operated.monitoring.svc $node
start dns dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --hostsdir="$work/names" --local=/cluster.local/ \
  --listen-address=$node --bind-interfaces --user=root --pid-file=

KUBE_NODES=0 KUBE_SERVICE_CIDR=$services KUBE_APISERVER_FLAGS="--bind-address 0.0.0.0 --advertise-address $node --endpoint-reconciler-type master-count" \
  testkit/kubernetes/control-plane.sh start "$work/cluster"
cluster=$work/cluster
. "$cluster/env"
export KUBECACHEDIR=$work/kubectl-cache HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm
start scheduler kube-scheduler --kubeconfig "$cluster/kube-scheduler.kubeconfig" --leader-elect=false --bind-address 127.0.0.1 \
  --secure-port "$(free_port)" --cert-dir "$work/scheduler"

# --- Images, built by an engine that ends before the node begins -----------------------------------------------------------------------

mkdir "$work/pause" "$work/engine"
echo 'fn main() { loop { std::thread::park() } }' >"$work/pause.rs"
rustc --edition=2024 -O -C target-feature=+crt-static -C strip=symbols -o "$work/pause/pause" "$work/pause.rs"
tar -C "$work/pause" -cf "$work/pause.tar" pause
export DOCKER_HOST=unix://$work/engine/docker.sock DOCKER_CONFIG=$work/engine
echo '{}' >"$work/engine/daemon.json"
PATH=/usr/sbin:/usr/bin:$PATH start dockerd dockerd --host="$DOCKER_HOST" --pidfile="$work/engine/pid" --data-root="$work/engine/data" --exec-root="$work/engine/exec" \
  --config-file="$work/engine/daemon.json" --storage-driver=overlay2 --bridge=none --iptables=false --ip6tables=false --ip-forward=false
engine_pid=${pids[-1]}
wait_for 60 "a Docker engine" docker version
CLOUDPULSE_VERSION=$version scripts/images.sh images
docker import --change 'ENTRYPOINT ["/pause"]' --change 'USER 65535:65535' "$work/pause.tar" cloudpulse/pause:test >/dev/null
docker save --output "$work/images.tar" cloudpulse/{exporter,predictor,scaler}:"$version" cloudpulse/pause:test
kill "$engine_pid"
wait "$engine_pid" || die "the engine ended with $?: $(tail -n 3 "$work/dockerd.log")"

# --- A node ----------------------------------------------------------------------------------------------------------------------------

export PATH=$cache/node:$cache/neighbours:$PATH
cat >"$work/containerd.toml" <<EOT
version = 3
root = "$work/containerd/root"
state = "$work/containerd/state"
[grpc]
address = "$work/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "docker.io/cloudpulse/pause:test"
[plugins.'io.containerd.cri.v1.runtime']
disable_apparmor = true
restrict_oom_score_adj = true # for a machine that may not be preferred to others
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "$work/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
EOT
mkdir "$work/cni"
cat >"$work/cni/10-pods.conflist" <<EOT
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$work/addresses", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
EOT
cat >"$work/kubelet.yaml" <<EOT
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix://$work/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $cluster/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
clusterDNS: [$node]
clusterDomain: cluster.local
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}
EOT
start containerd containerd --config "$work/containerd.toml"
ctr=(ctr --address "$work/containerd.sock" --namespace k8s.io)
wait_for 30 containerd "${ctr[@]}" version
"${ctr[@]}" images import "$work/images.tar" >"$work/import.log" 2>&1 || die "containerd takes no images: $(tail -n 3 "$work/import.log")"
start kubelet kubelet --config "$work/kubelet.yaml" --kubeconfig "$cluster/admin.kubeconfig" --hostname-override node-0 --node-ip $node --root-dir "$work/kubelet"
start kube-proxy kube-proxy --kubeconfig "$cluster/admin.kubeconfig" --proxy-mode nftables --hostname-override node-0 --masquerade-all --cluster-cidr "$pods" \
  --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0
ready() { kubectl wait --for condition=Ready --timeout 1s node/node-0; }
wait_for 90 "a node" ready
say "a node is ready: kubelet $(object '' node node-0 '{.status.nodeInfo.kubeletVersion}'), $(object '' node node-0 '{.status.nodeInfo.containerRuntimeVersion}')"

# --- Install ------------------------------------------------------------------------------------------------------------------------

for namespace in cloudpulse nodes shop; do kubectl create namespace $namespace >/dev/null; done
kubectl label namespace cloudpulse pod-security.kubernetes.io/enforce=restricted >/dev/null
mkdir "$work/volume"
cat <<EOT | kubectl apply -f - >/dev/null
apiVersion: v1
kind: PersistentVolume
metadata: {name: volume}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  local: {path: $work/volume}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node-0]}]}]}}
EOT
cat >"$work/values.yaml" <<'EOT'
exporter: {namespace: nodes, containers: true}
predictor:
  persistence: {enabled: true, interval: 5s}
  config:
    forecasts:
      - {name: load, query: node_load1, step: 15s, interval: 5s, history: 1h, horizons: [5m], lstm: {enabled: false}}
      - {name: steady, query: '600 * sum(up{job="cloudpulse-exporter"})', step: 15s, interval: 5s, history: 1h, horizons: [5m], lstm: {enabled: false}}
log: {format: text}
EOT
# prometheus_config MORE: the chart's own scrape jobs and rules
prometheus_config() {
  sed -e "s|role: pod|&, api_server: '$KUBE_API', tls_config: {ca_file: $cluster/pki/ca.crt, cert_file: $cluster/pki/admin.crt, key_file: $cluster/pki/admin.key}|" \
    -e "s|^  - job_name: .*|&${1-}|" helm/cloudpulse/examples/scrape-configs.yaml
  echo "global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}"
  echo "rule_files: ['$PWD/helm/cloudpulse/files/rules/*.yml']"
}
prometheus_config >"$work/prometheus.yml"
start prometheus prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" --web.listen-address=$node:9090 --log.level=warn
prometheus_pid=${pids[-1]}
helm install cloudpulse helm/cloudpulse --namespace cloudpulse --values "$work/values.yaml" --wait --timeout 2m >"$work/install.log" ||
  die "the chart does not get well: $(kubectl get events -A | grep Warning)"
say "the chart is installed, its four pods are ready: $(kubectl -n cloudpulse get pods -o jsonpath='{range .items[*]}{.metadata.name} {end}')"

# count PROMQL: how many series, or nothing
count() {
  curl --silent --show-error --fail --get "http://$node:9090/api/v1/query" --data-urlencode "query=count($1)" |
    python3 -c 'import json, sys; print(*[each["value"][1] for each in json.load(sys.stdin)["data"]["result"]])'
}
counts() { [ "$(count "$1")" = "$2" ]; } # PROMQL NUMBER
some() { [ -n "$(count "$1")" ]; }       # PROMQL
wait_for 60 "all targets up" counts 'up == 1' 4
wait_for 60 "forecasts" counts 'cloudpulse_forecast{quantile="0.5"}' 2
for container in scaler predictor exporter; do
  wait_for 60 "memory of the container $container" some "container_memory_working_set_bytes{container=\"$container\",pod=~\"cloudpulse-$container-.+\",namespace=~\"cloudpulse|nodes\"} > 0"
  wait_for 60 "the start of the container $container" some "container_start_time_seconds{container=\"$container\"} > time() - 600"
done
wait_for 60 "the network of three pods, and not that of the node" counts 'container_network_receive_bytes_total{interface="eth0",namespace="cloudpulse"}' 3
counts 'container_network_receive_bytes_total' 3 || die "there are other networks: $(count 'container_network_receive_bytes_total')"
counts 'container_memory_working_set_bytes{id=~"/kubepods/.+",pod=""}' '' || die "a container has no pod"
say "all $(count 'container_memory_working_set_bytes{id=~"/kubepods/.+"}') containers of pods are named, beside $(count '{__name__=~"node_.+"}') series of the node"

# --- helm test, an HPA and a rule -----------------------------------------------------------------------------------------------------------

name cloudpulse-scaler.cloudpulse.svc "$(object cloudpulse service cloudpulse-scaler '{.spec.clusterIP}')"
helm test cloudpulse --namespace cloudpulse --timeout 2m >"$work/test.log" || die "helm test: $(tail -n 5 "$work/test.log" /var/log/pods/cloudpulse_cloudpulse-test_*/*/*.log)"
say "helm test passes"
{ deployment web cloudpulse/pause:test && hpa web && deployment api cloudpulse/pause:test && rule api; } | kubectl apply -f - >/dev/null
wait_for 120 "three pods by an HPA, for a forecast of 600 at 200 a replica" is shop deployment web '{.status.readyReplicas}' 3
wait_for 120 "two pods by a rule" is shop deployment api '{.status.readyReplicas}' 2
say "an HPA has three pods, a rule two"

# --- Another pod, the same volume; TLS and a user ---------------------------------------------------------------------------------------------

wait_for 60 "a saved state" test -d "$work/volume/steady"
web_config cloudpulse nodes
secured=(--reset-then-reuse-values --set webConfig.existingSecret=web --set 'webConfig.probeHeaders[0].name=Authorization')
# The probes are real: with another password no pod gets ready.
if helm upgrade cloudpulse helm/cloudpulse --namespace cloudpulse "${secured[@]}" --set "webConfig.probeHeaders[0].value=Basic bm90aGluZzpub25l" --wait --timeout 20s >"$work/wrong.log" 2>&1; then
  die "pods are ready whose probes are no user's"
fi
helm upgrade cloudpulse helm/cloudpulse --namespace cloudpulse "${secured[@]}" --set "webConfig.probeHeaders[0].value=$(as_user)" --wait --timeout 2m >"$work/tls.log" ||
  die "with TLS the chart does not get well: $(kubectl get events -A | grep Warning | tail -n 5)"
grep -q 'state restored' /var/log/pods/cloudpulse_cloudpulse-predictor-0_*/predictor/*.log || die "the new pod did not take up what was learnt"
prometheus_config "\\n    scheme: https\\n    tls_config: {ca_file: $cluster/pki/ca.crt, server_name: cloudpulse}\\n    basic_auth: {username: scrape, password: secret}" >"$work/prometheus.yml"
began=$(date +%s)
kill -HUP "$prometheus_pid"
wait_for 90 "all targets up over TLS" counts "up == 1 and timestamp(up) > $((began + 2))" 4
wait_for 120 "forecasts over TLS" counts "cloudpulse_predictor_last_success_timestamp_seconds > $began" 2
say "after an upgrade to TLS with a user the probes pass, Prometheus scrapes, and the predictor goes on with what its volume kept"

# --- Uninstall ---------------------------------------------------------------------------------------------------------------------------

kubectl delete namespace shop >/dev/null
helm uninstall cloudpulse --namespace cloudpulse --wait --timeout 2m >/dev/null
gone() { [ -z "$(kubectl get pods,persistentvolumeclaims -A -o name)" ]; }
wait_for 60 "no pod and no claim" gone
say "uninstalled: no pod and no claim is left"
