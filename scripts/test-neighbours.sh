#!/usr/bin/env bash
# Tests the Helm chart beside the real Prometheus Operator, Thanos and KEDA, in a real Kubernetes control plane: does the Operator make of
# the chart's monitors and rules a configuration with which Prometheus finds, scrapes and forecasts, over plain HTTP and over TLS with a user;
# does it without the Operator, too; is Thanos as good a source; does KEDA scale by a forecast, and does the scaler pass on what only KEDA knows?
#
# There are no kubelets: kwok calls pods ready, and their programs run as processes (helm/tests/kubelet.py). So that they have the
# addresses of their pods, all of it is in a network of its own, in which those are this machine's, and the names of Services
# are in a hosts file of its own.
#
# Wants what scripts/setup.sh helm installs, `testkit/kubernetes/control-plane.sh build` and `build-neighbours`, and the programs in
# target/debug, or another folder in CLOUDPULSE_BINARIES.
# shellcheck disable=SC1091,SC2034,SC2154 # helm/tests/lib.sh has the variables that are not seen here
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1-}" != inside ]; then
  as_root=(--map-root-user)
  [ "$(id -u)" != 0 ] || as_root=()
  exec unshare "${as_root[@]}" --net --mount scripts/test-neighbours.sh inside
fi
cache=${CLOUDPULSE_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cloudpulse/kube}
export PATH=$PWD/target/tools/bin:$PATH
binaries=${CLOUDPULSE_BINARIES:-$PWD/target/debug}
. helm/tests/lib.sh

# --- A cluster with names and addresses ------------------------------------------------------------------------------------------

ip link set lo up
ip route add local 198.18.0.0/15 dev lo # the pods', see testkit/kubernetes/control-plane.sh
echo "127.0.0.1 localhost" >"$work/hosts"
mount --bind "$work/hosts" /etc/hosts
start_cluster 1
export PATH=$cache/neighbours:$PATH

pod_ip() { object "$1" pod "$2" '{.status.podIP}'; } # NAMESPACE POD
has_ip() { [ -n "$(pod_ip "$@")" ]; }
name() { # ADDRESS NAME
  grep -v " $2\$" "$work/hosts" >"$work/hosts.new" # in place, because the file is mounted
  { cat "$work/hosts.new" && echo "$1 $2"; } >"$work/hosts"
}

for namespace in monitoring cloudpulse nodes shop; do kubectl create namespace "$namespace" >/dev/null; done
kubectl label namespace cloudpulse pod-security.kubernetes.io/enforce=restricted >/dev/null

# --- The Prometheus Operator ---------------------------------------------------------------------------------------------------------

prometheus-operator full-crds >"$work/operator-crds.yaml"
kubectl apply --server-side -f "$work/operator-crds.yaml" >/dev/null
wait_for 30 "the Operator's kinds" kubectl get prometheuses,prometheusrules,servicemonitors,podmonitors -A
start operator prometheus-operator --apiserver="$KUBE_API" --ca-file="$cluster/pki/ca.crt" --cert-file="$cluster/pki/admin.crt" \
  --key-file="$cluster/pki/admin.key" --web.listen-address=127.0.0.1:8080 --kubelet-endpoints=false
version=$(prometheus --version 2>&1 | sed -n 's/^prometheus, version \([0-9.]*\).*/\1/p')

# prometheus_object [REMOTE_READ]: as kube-prometheus-stack makes it, which takes what has its release's label
prometheus_object() {
  cat <<EOT
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata: {name: k8s, namespace: monitoring}
spec:
  version: v$version
  scrapeInterval: 2s
  evaluationInterval: 2s
  serviceMonitorSelector: {matchLabels: {release: stack}}
  serviceMonitorNamespaceSelector: {}
  podMonitorSelector: {matchLabels: {release: stack}}
  podMonitorNamespaceSelector: {}
  ruleSelector: {matchLabels: {release: stack}}
  ruleNamespaceSelector: {}
  apiserverConfig:
    host: $KUBE_API
    tlsConfig: {caFile: $cluster/pki/ca.crt, certFile: $cluster/pki/admin.crt, keyFile: $cluster/pki/admin.key}
${1-}
EOT
}
prometheus_object | kubectl apply --server-side -f - >/dev/null

# Values: the label alone, and three forecasts that are quick to make. The address of Prometheus is the chart's default.
cat >"$work/values.yaml" <<'EOT'
monitoring: {labels: {release: stack}}
exporter: {namespace: nodes}
predictor:
  replicas: 2
  config:
    forecasts:
      - {name: load, query: node_load1, step: 15s, interval: 5s, history: 1h, horizons: [5m], lstm: {enabled: false}}
      - {name: steady, query: '600 * sum(up{job="cloudpulse-exporter"})', step: 15s, interval: 5s, history: 1h, horizons: [5m], lstm: {enabled: false}}
      - {name: memory, query: sum(node_memory_MemAvailable_bytes), step: 15s, interval: 5s, history: 1h, horizons: [5m], lstm: {enabled: false}}
log: {format: text}
EOT
helm install cloudpulse helm/cloudpulse --namespace cloudpulse --values "$work/values.yaml" --wait --timeout 2m >"$work/install.log"
says "$work/install.log" "Monitors and rules for the Prometheus Operator are there"
wait_for 60 "an exporter" is nodes daemonset cloudpulse-exporter '{.status.numberReady}' 1
wait_for 60 "two predictors" is cloudpulse statefulset cloudpulse-predictor '{.status.readyReplicas}' 2
wait_for 60 "two scalers" is cloudpulse deployment cloudpulse-scaler '{.status.readyReplicas}' 2
wait_for 60 "the Operator's Prometheus" has_ip monitoring prometheus-k8s-0

# from_notes NOTES [FIELD]...: what the notes say that Prometheus wants for the curve, taken at their word, with more fields
from_notes() {
  sed -n '/^3\. /,/^4\. /{s/^     //;/^- url:/,/atchers/p}' "$1" | while IFS= read -r line; do
    echo "    $line"
    [[ $line != *atchers* ]] || printf '      %s\n' "${@:2}"
  done >"$work/remote-read"
  [ "$(grep -c 'url:' "$work/remote-read")" = 2 ] || die "the notes name no two remote reads: $(cat "$1")"
  cat "$work/remote-read"
}
remote_read() {
  prometheus_object "  remoteRead:
$(from_notes "$@")" | kubectl apply --server-side -f - >/dev/null
}
remote_read "$work/install.log"

# configuration SCHEME JOBS: what the Operator made of it is there, as its config-reloader gives it to Prometheus; so many jobs name the scheme
configuration() {
  object monitoring secret prometheus-k8s '{.data.prometheus\.yaml\.gz}' | base64 -d | gunzip >"$work/operator.new" || return 1
  for wanted in podMonitor/nodes/cloudpulse-exporter serviceMonitor/cloudpulse/cloudpulse-predictor \
    serviceMonitor/cloudpulse/cloudpulse-scaler "$1://cloudpulse-predictor-1.cloudpulse-predictor"; do
    grep "$wanted" "$work/operator.new" || return 1
  done
  [ "$(grep -c "^  scheme: $1\$" "$work/operator.new")" = "$2" ] || return 1
  sed -e "s|/etc/prometheus/rules/prometheus-k8s-rulefiles-0/|$work/rules/|; s|/etc/prometheus/certs/|$work/certs/|" \
    -e "s/\$(SHARD)/0/; s/\$(POD_NAME)/prometheus-k8s-0/" "$work/operator.new" >"$work/operator.yaml"
}
wait_for 60 "the Operator's configuration" configuration http 0
mkdir "$work/rules"
rules() {
  kubectl -n monitoring get configmap prometheus-k8s-rulefiles-0 -o json |
    python3 -c 'import json, sys, pathlib
for name, text in json.load(sys.stdin)["data"].items(): (pathlib.Path(sys.argv[1]) / name).write_text(text)' "$work/rules"
  [ "$(find "$work/rules" -name '*.yaml' | wc -l)" = "$(find helm/cloudpulse/files/rules -name '*.yml' | wc -l)" ]
}
wait_for 60 "all of the chart's rules, taken by the Operator" rules
say "the Operator $(prometheus-operator --short-version) made a configuration for Prometheus $version of the chart's monitors and rules"

# --- The programs, at their pods' addresses ----------------------------------------------------------------------------------------------

prometheus_ip=$(pod_ip monitoring prometheus-k8s-0)
name "$prometheus_ip" prometheus-operated.monitoring.svc
start prometheus prometheus --config.file="$work/operator.yaml" --storage.tsdb.path="$work/prometheus" \
  --web.listen-address="$prometheus_ip:9090" --log.level=warn
prometheus_pid=${pids[-1]}
start_exporter() { # NAME
  start "$1" run_pod nodes "$(kubectl -n nodes get pods --field-selector status.phase=Running -o jsonpath='{.items[0].metadata.name}')" "$1"
  exporter_pid=${pids[-1]}
}
start_exporter exporter
programs=()
start_predictors() { # NAME
  local shard address
  for shard in 0 1; do
    address=$(pod_ip cloudpulse "cloudpulse-predictor-$shard")
    name "$address" "cloudpulse-predictor-$shard.cloudpulse-predictor.cloudpulse.svc"
    start "$1-$shard" run_pod cloudpulse "cloudpulse-predictor-$shard" "$1-$shard" --replace "0.0.0.0:9101=$address:9101"
    programs+=("${pids[-1]}")
  done
}
service=$(object cloudpulse service cloudpulse-scaler '{.spec.clusterIP}')
name "$service" cloudpulse-scaler.cloudpulse.svc
start_scalers() { # NAME
  local pod number=0 address https=$service:443
  for pod in $(kubectl -n cloudpulse get pods -l app.kubernetes.io/component=scaler --field-selector status.phase=Running \
    -o jsonpath='{.items[*].metadata.name}'); do
    address=$(pod_ip cloudpulse "$pod")
    # kube-apiserver dials the Service; nothing here sends that on to a pod, so one of the two listens there.
    start "$1-$number" run_pod cloudpulse "$pod" "$1-$number" --replace "0.0.0.0:9102=$address:9102" --replace "0.0.0.0:6443=$https"
    programs+=("${pids[-1]}")
    number=$((number + 1))
    https=$address:6443
  done
}
start_predictors predictor
start_scalers scaler

# query PROMQL [SECONDS FROM NOW] [HOST:PORT]: the result as "labels value" lines
query() {
  curl --silent --show-error --fail --get "http://${3-$prometheus_ip:9090}/api/v1/query" --data-urlencode "query=$1" \
    --data-urlencode "time=$(($(date +%s) + ${2-0}))" |
    python3 -c 'import json, sys
for each in json.load(sys.stdin)["data"]["result"]:
    labels = ",".join("%s=%s" % pair for pair in sorted(each["metric"].items()))
    print(labels, each["value"][1])'
}
# has PROMQL LINES [SECONDS FROM NOW] [HOST:PORT]: it has so many series
has() {
  local lines
  query "$1" "${3-0}" "${@:4}" | tee "$work/result" || return 1
  lines=$(wc -l <"$work/result")
  [ "$lines" = "$2" ]
}
wait_for 90 "all targets up" has 'up{job=~"cloudpulse-(exporter|predictor|scaler)"} == 1' 5
has 'up == 0' 0 >/dev/null || die "Prometheus reaches not all: $(query 'up == 0')"
has 'node_load1{job="cloudpulse-exporter",instance="node-0"}' 1 >/dev/null ||
  die "a node's metric is not under its name: $(query node_load1)"
wait_for 120 "a forecast of the node's load" has 'cloudpulse_forecast{job="cloudpulse-exporter",instance="node-0",quantile="0.5"}' 1
wait_for 60 "a forecast of a sum, with no job of its own" has 'cloudpulse_forecast{job="",instance="",quantile="0.5"}' 2
# The Operator gives each target the labels of its pod; a forecast of another pod's series must not wear them.
has '{__name__=~"cloudpulse_forecast.*|node_.*",pod=~".+"}' 0 >/dev/null ||
  die "series under the name of a pod: $(head -n 3 "$work/result")"
has '{__name__=~"cloudpulse_forecast.*",service=~".+"}' 0 >/dev/null ||
  die "forecasts under the name of a service: $(head -n 3 "$work/result")"
ahead() { [ "$(query 'count(cloudpulse_forecast_path)' 240 "$@" | wc -l)" = 1 ]; } # [HOST:PORT]
wait_for 60 "the curve four minutes from now, through Prometheus" ahead
say "Prometheus scrapes $(query 'count(up)' | cut -d' ' -f2) targets of the Operator's making; forecasts come back under their own labels, the curve reaches into the future"

# Each group is evaluated without an error.
healthy() { # HOST:PORT
  curl --silent --fail "http://$1/api/v1/rules" | python3 -c 'import json, sys
groups = json.load(sys.stdin)["data"]["groups"]
rules = [rule for group in groups for rule in group["rules"]]
bad = [(rule["name"], rule["health"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]
if bad or not rules: sys.exit(str(bad))
print(len(groups), "groups,", len(rules), "rules")'
}
wait_for 60 "all rules evaluated without an error" healthy "$prometheus_ip:9090"
say "all rules are well: $(healthy "$prometheus_ip:9090")"

# --- Prometheus without the Operator: the chart's scrape jobs and rules, and the remote read of the notes ---------------------------------

helm upgrade cloudpulse helm/cloudpulse --namespace cloudpulse --values "$work/values.yaml" --set monitoring.operator=false --dry-run=server >"$work/plain.log"
sed "s|role: pod|&, api_server: '$KUBE_API', tls_config: {ca_file: $cluster/pki/ca.crt, cert_file: $cluster/pki/admin.crt, key_file: $cluster/pki/admin.key}|" \
  helm/cloudpulse/examples/scrape-configs.yaml >"$work/plain.yml"
cat >>"$work/plain.yml" <<EOT
global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}
rule_files: ["$PWD/helm/cloudpulse/files/rules/*.yml"]
remote_read:
$(from_notes "$work/plain.log")
EOT
plain=198.18.255.4:9090
start plain prometheus --config.file="$work/plain.yml" --storage.tsdb.path="$work/plain" --web.listen-address=$plain --log.level=warn
plain_pid=${pids[-1]}
wait_for 60 "all targets up without the Operator" has 'up{job=~"cloudpulse-(exporter|predictor|scaler)"} == 1' 5 0 $plain
wait_for 60 "a node's metric and its forecast without the Operator" has '{__name__=~"node_load1|cloudpulse_forecast",instance="node-0",quantile=~"0.5|"}' 2 0 $plain
wait_for 60 "the curve without the Operator" ahead $plain
wait_for 60 "all rules evaluated without an error and without the Operator" healthy $plain
say "the same without the Operator, by the chart's own scrape jobs: $(healthy $plain)"
kill "$plain_pid"

# --- TLS and a user: the same by a Secret with a web config file --------------------------------------------------------------------------

web_config cloudpulse nodes monitoring
for namespace in cloudpulse nodes monitoring; do
  kubectl -n "$namespace" create secret generic scrape --from-literal=username=scrape --from-literal=password=secret >/dev/null
done
tls='tlsConfig: {ca: {secret: {name: web, key: ca.crt}}, serverName: cloudpulse}'
user='basicAuth: {username: {name: scrape, key: username}, password: {name: scrape, key: password}}'
cat >>"$work/values.yaml" <<EOT
webConfig:
  existingSecret: web
  probeHeaders: [{name: Authorization, value: $(as_user)}]
EOT
sed -i "s/^monitoring: {/&$tls, $user, /" "$work/values.yaml"
helm upgrade cloudpulse helm/cloudpulse --namespace cloudpulse --values "$work/values.yaml" --wait --timeout 2m >"$work/tls.log"
rolled_out() { kubectl -n "$1" rollout status "$2" --timeout 1s; }
all_rolled_out() {
  rolled_out nodes daemonset/cloudpulse-exporter && rolled_out cloudpulse statefulset/cloudpulse-predictor &&
    rolled_out cloudpulse deployment/cloudpulse-scaler
}
wait_for 60 "pods with TLS" all_rolled_out
remote_read "$work/tls.log" "$tls" "$user"
wait_for 60 "the Operator's configuration with TLS" configuration https 3
mkdir "$work/certs"
certificates() {
  kubectl -n monitoring get secret prometheus-k8s-tls-assets-0 -o json |
    python3 -c 'import base64, json, sys, pathlib
for name, data in json.load(sys.stdin)["data"].items(): (pathlib.Path(sys.argv[1]) / name).write_bytes(base64.b64decode(data))' "$work/certs"
}
certificates
kill "$exporter_pid" "${programs[@]}"
wait "$exporter_pid" "${programs[@]}" || die "a program ended with $?"
programs=()
began=$(date +%s)
start_exporter exporter-tls
start_predictors predictor-tls
start_scalers scaler-tls
kill -HUP "$prometheus_pid"
wait_for 90 "all targets up over TLS" has "up{job=~\"cloudpulse-(exporter|predictor|scaler)\"} == 1 and timestamp(up) > $((began + 2))" 5
address=$(pod_ip cloudpulse cloudpulse-predictor-0)
status() { # URL FLAG...
  curl --silent --output "$work/result" --write-out '%{http_code}' --cacert "$cluster/pki/ca.crt" --connect-to "cloudpulse:9101:$address:9101" "$@"
}
[ "$(status https://cloudpulse:9101/metrics)" = 401 ] || die "who is no user reads metrics"
[ "$(status https://cloudpulse:9101/metrics --user scrape:secret)" = 200 ] || die "the user does not read metrics"
[ "$(status http://cloudpulse:9101/metrics)" = 000 ] || die "plain HTTP is still answered"
wait_for 120 "forecasts over TLS" has "count(max by (forecast) (cloudpulse_predictor_last_success_timestamp_seconds) > $began) == 3" 1
wait_for 60 "the curve over TLS" ahead
# Another pod of the exporter, the same series of the node.
has 'last_over_time(node_load1[10m])' 1 >/dev/null || die "a node's series began anew with a pod: $(cat "$work/result")"
say "the same over TLS, with a user; the node's series went on in the exporter's new pod"

# --- Thanos: two Prometheus of the same targets, and the deduplicated view of both as the source -------------------------------------

sed 's/prometheus-k8s-0/prometheus-k8s-1/' "$work/operator.yaml" >"$work/operator-1.yaml"
second=198.18.255.1
start prometheus-1 prometheus --config.file="$work/operator-1.yaml" --storage.tsdb.path="$work/prometheus-1" \
  --web.listen-address="$second:9090" --log.level=warn
sidecars=()
for address in "$prometheus_ip" "$second"; do
  start "thanos-$address" thanos sidecar --prometheus.url="http://$address:9090" --tsdb.path="$work/prometheus" \
    --http-address="$address:10902" --grpc-address="$address:10901"
  sidecars+=("--endpoint=$address:10901")
done
view=198.18.255.2
name $view thanos-query.monitoring.svc
start thanos-query thanos query --http-address=$view:9090 --grpc-address=$view:10901 --query.replica-label=prometheus_replica "${sidecars[@]}"
everything_twice() {
  curl --silent --fail "http://$view:9090/api/v1/query?query=node_load1&dedup=false" | grep -o prometheus_replica | wc -l | grep -qx 2
}
wait_for 60 "both Prometheus in Thanos" everything_twice

helm upgrade cloudpulse helm/cloudpulse --namespace cloudpulse --reset-then-reuse-values --set prometheus.url=http://thanos-query.monitoring.svc:9090 \
  --set-string prometheus.params.dedup=true --wait --timeout 2m >"$work/upgrade.log"
wait_for 60 "the new pods" all_rolled_out
kill "${programs[@]}"
programs=()
began=$(date +%s)
start_predictors predictor-thanos
start_scalers scaler-thanos
wait_for 120 "a forecast from Thanos" has "count(max by (forecast) (cloudpulse_predictor_last_success_timestamp_seconds) > $began) == 3" 1 0 "$view:9090"
wait_for 60 "one forecast of the node's load, under its own labels" \
  has 'cloudpulse_forecast{job="cloudpulse-exporter",instance="node-0",quantile="0.5",pod=""}' 1 0 "$view:9090"
if grep prometheus_replica "$work/result"; then die "Thanos did not deduplicate"; fi
say "with $(thanos --version 2>&1 | sed -n 's/^thanos, version \([0-9.]*\).*/Thanos \1/p') of two Prometheus as the source the forecasts go on"

. helm/tests/keda.sh
