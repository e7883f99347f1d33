#!/usr/bin/env bash
# Tests the Helm chart: what it renders (helm/tests/check.py), and what becomes of it in a real Kubernetes control plane:
# dry runs of all sets of values, install of an older chart, upgrade, `helm test`, an HPA that goes by the predictor's forecast,
# uninstall. There are no kubelets: kwok calls pods ready, and helm/tests/kubelet.py runs the programs of some of them.
#
# Wants what scripts/setup.sh helm installs, the control plane (testkit/kubernetes/control-plane.sh build), and the programs in
# target/debug, or another folder in CLOUDPULSE_BINARIES.
# shellcheck disable=SC1091,SC2034,SC2154 # helm/tests/lib.sh has the variables that are not seen here
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=$PWD/target/tools/bin:$PATH
binaries=${CLOUDPULSE_BINARIES:-$PWD/target/debug}
python=$PWD/target/tools/venv/bin/python

. helm/tests/lib.sh

# --- Without a cluster -------------------------------------------------------------------------------------------------------

CLOUDPULSE_SCALER=$binaries/cloudpulse-scaler scripts/manifests.sh --check
helm lint --strict --quiet helm/cloudpulse
mkdir "$work/rendered"
"$python" helm/tests/check.py "$binaries" "$work/rendered"
say "the chart renders what it should"

# --- A cluster ----------------------------------------------------------------------------------------------------------------

start_cluster 2

kubectl apply -f helm/tests/monitoring-crds.yaml >/dev/null
for namespace in cloudpulse nodes shop grafana; do kubectl create namespace "$namespace" >/dev/null; done
kubectl label namespace cloudpulse pod-security.kubernetes.io/enforce=restricted >/dev/null
if kubectl -n cloudpulse run plain --image=plain --dry-run=server >"$work/plain.log" 2>&1; then die "the level restricted is not enforced"; fi
says "$work/plain.log" "violates PodSecurity"
wait_for 30 "the Operator's kinds" kubectl get prometheusrules,servicemonitors,podmonitors -A

for file in "$work"/rendered/*.yaml manifests/*.yaml; do
  kubectl apply --server-side --validate=strict --dry-run=server -f "$file" >"$work/dry-run.log" 2>&1 ||
    die "${file##*/}: $(grep -v 'serverside-applied' "$work/dry-run.log")"
done
say "kube-apiserver takes all sets of values and the plain manifests (dry run)"

# everything: all objects of the cluster, but those that pass by themselves
everything() {
  local kinds
  kinds=$(kubectl api-resources --verbs=list -o name | grep -vE '^events|^endpoints$|^componentstatuses|external.metrics' | paste -sd,)
  kubectl get "$kinds" -A --ignore-not-found \
    -o jsonpath='{range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}{"\n"}{end}' | sort
}
everything >"$work/before"

# --- The programs beside it -----------------------------------------------------------------------------------------------------

prometheus=$(free_port) page=$(free_port) predictor0=$(free_port) predictor1=$(free_port) exporter=$(free_port)
mkdir "$work/page" "$work/prometheus"
# A day of a load of 600 that swings a little, and a page on which it goes on.
echo "web_requests 600" >"$work/page/metrics"
python3 - "$page" >"$work/history" <<'EOF'
import math, sys, time
now = int(time.time()) // 60 * 60
print("# TYPE web_requests gauge")
for at in range(now - 86400, now + 1, 60):
    print(f'web_requests{{instance="127.0.0.1:{sys.argv[1]}",job="page"}} {600 + 30 * math.sin(at / 600)} {at}')
print("# EOF")
EOF
promtool tsdb create-blocks-from openmetrics -q "$work/history" "$work/prometheus" >/dev/null
cat >"$work/prometheus.yml" <<EOF
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - {job_name: page, static_configs: [{targets: ["127.0.0.1:$page"]}]}
  - job_name: cloudpulse-predictor
    honor_labels: true
    static_configs: [{targets: ["127.0.0.1:$predictor0", "127.0.0.1:$predictor1"]}]
EOF
start page python3 -m http.server --bind 127.0.0.1 --directory "$work/page" "$page"
start prometheus prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
  --web.listen-address="127.0.0.1:$prometheus" --log.level=warn
prometheus_pid=${pids[-1]}

cat >"$work/values.yaml" <<EOF
prometheus: {url: "http://127.0.0.1:$prometheus"}
exporter: {namespace: nodes, listenAddress: 127.0.0.1, port: $exporter}
predictor:
  replicas: 2
  config:
    forecasts:
      - name: web-requests
        query: web_requests
        step: 1m
        interval: 5s
        history: 1d
        horizons: [5m]
        peak_horizons: [5m]
        lstm: {enabled: false}
scaler: {externalMetrics: {servicePort: $KUBE_EXTENSION_PORT}}
networkPolicy: {enabled: true}
log: {format: text}
EOF

# --- Install of an older chart, upgrade to this one -----------------------------------------------------------------------------------

# It has another version, an older definition, an object that is no more, and lacks one that came later.
older=0.0.1
cp -R helm/cloudpulse "$work/older"
sed -i "s/^\(version\|appVersion\): .*/\1: $older/" "$work/older/Chart.yaml"
sed -i '/^ *shortNames:/,/^ *- /d' "$work/older/crds/scalingrules.yaml"
rm "$work/older/templates/network-policies.yaml"
cat >"$work/older/templates/former.yaml" <<'EOF'
apiVersion: v1
kind: ConfigMap
metadata: {name: former, namespace: "{{ .Release.Namespace }}"}
EOF
helm package --destination "$work" "$work/older" >/dev/null
helm package --destination "$work" helm/cloudpulse >/dev/null
version=$(sed -n 's/^version: //p' helm/cloudpulse/Chart.yaml)
[ "$version" != "$older" ] || die "the chart has the version of the older one"

helm install cloudpulse "$work/cloudpulse-$older.tgz" --namespace cloudpulse --values "$work/values.yaml" \
  --set predictor.replicas=1,scaler.watchNamespace=shop --wait --timeout 2m >"$work/install.log"
says "$work/install.log" "Monitors and rules for the Prometheus Operator are there"
wait_for 60 "exporters on both nodes" is nodes daemonset cloudpulse-exporter '{.status.numberReady}' 2
wait_for 60 "a predictor" is cloudpulse statefulset cloudpulse-predictor '{.status.readyReplicas}' 1
wait_for 60 "two scalers" is cloudpulse deployment cloudpulse-scaler '{.status.readyReplicas}' 2
is '' crd scalingrules.cloudpulse.io '{.status.conditions[?(@.type=="Established")].status}' True || die "the definition is not established"
say "the older chart is installed, predictor and scaler in a namespace of the level restricted"

if helm install second helm/cloudpulse --namespace shop --dry-run=server >"$work/second.log" 2>&1; then die "a second API was taken"; fi
says "$work/second.log" "The Service cloudpulse/cloudpulse-scaler has the cluster's external.metrics.k8s.io"

start_scaler() {
  local pod
  pod=$(kubectl -n cloudpulse get pods -l app.kubernetes.io/component=scaler --field-selector status.phase=Running \
    --sort-by '{.metadata.creationTimestamp}' -o jsonpath='{.items[-1:].metadata.name}')
  start "$1" run_pod cloudpulse "$pod" "$1" --replace "0.0.0.0:9102=$service:9102" --replace "0.0.0.0:6443=$service:$KUBE_EXTENSION_PORT"
  scaler_pid=${pids[-1]}
}
start exporter run_pod nodes "$(kubectl -n nodes get pods -o jsonpath='{.items[0].metadata.name}')" exporter
measured() {
  curl --silent --fail "http://127.0.0.1:$exporter/metrics" >"$work/exporter.page" && grep -q '^node_load1 ' "$work/exporter.page" &&
    grep -q '^cloudpulse_exporter_node_info{.*"node-' "$work/exporter.page"
}
wait_for 30 "metrics of a node, under its name" measured

# The address of the Service is one of this machine, so that kube-apiserver reaches a process that listens there.
service=$(object cloudpulse service cloudpulse-scaler '{.spec.clusterIP}')
available='{.status.conditions[?(@.type=="Available")].status}'
start_scaler scaler
wait_for 60 "the external metrics API" is '' apiservice v1beta1.external.metrics.k8s.io "$available" True
ca=$(object '' apiservice v1beta1.external.metrics.k8s.io '{.spec.caBundle}')
secret=$(object cloudpulse secret cloudpulse-scaler-certificates '{.data}')
if [ -z "$ca" ] || [ -z "$secret" ]; then die "the scaler has not written its certificates"; fi
# With rights in one namespace it scales there, and misses none.
{ deployment web none && rule web; } | kubectl apply -f - >/dev/null
wait_for 60 "a scaled workload" is shop deployment web '{.spec.replicas}' 2
wait_for 60 "a rule that says so" is shop scalingrule web '{.status.conditions[?(@.type=="Ready")].status}' True
if grep -i 'forbidden' "$work/scaler.log"; then die "the scaler lacks a right"; fi
kubectl -n shop delete scalingrule web >/dev/null
kill "$scaler_pid"
wait "$scaler_pid" || die "the scaler ended with $?: $(tail -n 3 "$work/scaler.log")"

helm upgrade cloudpulse "$work/cloudpulse-$version.tgz" --namespace cloudpulse --reset-then-reuse-values \
  --set predictor.replicas=2,scaler.watchNamespace= --wait --timeout 2m >"$work/upgrade.log"
says "$work/upgrade.log" "helm show crds"
kubectl get clusterrolebinding cloudpulse-scaler >/dev/null
wait_for 60 "two predictors" is cloudpulse statefulset cloudpulse-predictor '{.status.readyReplicas}' 2
image=$(object cloudpulse deployment cloudpulse-scaler '{.spec.template.spec.containers[0].image}')
[ "$image" = "cloudpulse/scaler:$version" ] || die "the scaler's image is $image"
kubectl -n cloudpulse get networkpolicy cloudpulse-scaler cloudpulse-predictor >/dev/null
if kubectl -n cloudpulse get configmap former >"$work/former.log" 2>&1; then die "what the newer chart has not is still there"; fi
is '' apiservice v1beta1.external.metrics.k8s.io '{.spec.caBundle}' "$ca" || die "the upgrade took the caBundle away"
is cloudpulse secret cloudpulse-scaler-certificates '{.data}' "$secret" || die "the upgrade took the CA away"
# Helm leaves the definition as it is; the notes say how it is brought up.
is '' crd scalingrules.cloudpulse.io '{.spec.names.shortNames}' '' || die "Helm changed the definition"
helm show crds "$work/cloudpulse-$version.tgz" | kubectl apply --server-side --force-conflicts -f - >/dev/null
is '' crd scalingrules.cloudpulse.io '{.spec.names.shortNames}' '["srule"]' || die "the definition is the older one"
say "upgraded to $version; certificates and caBundle stayed"

# --- An HPA by the predictor's forecast ------------------------------------------------------------------------------------------------

start predictor-0 run_pod cloudpulse cloudpulse-predictor-0 predictor-0 --replace "0.0.0.0:9101=127.0.0.1:$predictor0"
start predictor-1 run_pod cloudpulse cloudpulse-predictor-1 predictor-1 --replace "0.0.0.0:9101=127.0.0.1:$predictor1"
start_scaler scaler-upgraded
wait_for 60 "the external metrics API after the upgrade" is '' apiservice v1beta1.external.metrics.k8s.io "$available" True
kubectl apply -f helm/cloudpulse/examples/hpa.yaml >/dev/null
wait_for 180 "the HPA's metric" is shop hpa web '{.status.conditions[?(@.type=="ScalingActive")].status}' True
risen() { [ "$(object shop deployment web '{.spec.replicas}')" -ge 5 ]; }
wait_for 60 "five replicas for a forecast of 600 at 120 a replica" risen
raw='/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/cloudpulse-forecast-web-requests?labelSelector=horizon%3D5m%2Cquantile%3D0.99'
say "the HPA of examples/hpa.yaml has $(object shop deployment web '{.spec.replicas}') replicas by $(kubectl get --raw "$raw" | grep -o '"value":"[^"]*"')"
leader() { curl --silent --fail "http://$service:9102/metrics" | grep -q '^cloudpulse_scaler_leader 1'; }
wait_for 60 "a scaler that leads" leader

# --- helm test ---------------------------------------------------------------------------------------------------------------------------

# Plays the kubelet for the test's pod: runs its containers here, and tells the API how they ended.
play_test() {
  local container phase=Succeeded
  wait_for 60 "the test's pod" is cloudpulse pod cloudpulse-test '{.status.phase}' Running
  for container in prometheus scaler; do
    if ! (run_pod cloudpulse cloudpulse-test "test-$container" --container "$container" --replace "cloudpulse-scaler.cloudpulse.svc=$service") \
      >"$work/test-$container.log" 2>&1; then
      phase=Failed
    fi
  done
  kubectl -n cloudpulse patch pod cloudpulse-test --subresource status --type merge -p "{\"status\": {\"phase\": \"$phase\"}}" >/dev/null
}
start helm-test helm test cloudpulse --namespace cloudpulse --timeout 2m
play_test
wait "${pids[-1]}" || die "helm test: $(cat "$work/helm-test.log" "$work"/test-*.log)"
kill "$prometheus_pid"
status=0
wait "$prometheus_pid" || status=$?
[ "$status" = 0 ] || [ "$status" = 143 ] || die "Prometheus ended with $status: $(tail -n 3 "$work/prometheus.log")"
start helm-test helm test cloudpulse --namespace cloudpulse --timeout 2m
play_test
if wait "${pids[-1]}"; then die "helm test finds nothing wrong without Prometheus"; fi
says "$work/test-prometheus.log" "cannot be reached"
# What failed stays for its log.
kubectl -n cloudpulse delete --ignore-not-found pod/cloudpulse-test configmap/cloudpulse-test >/dev/null
say "helm test passes, and fails without Prometheus"

# --- Uninstall ------------------------------------------------------------------------------------------------------------------------

kubectl -n shop delete hpa/web deployment/web >/dev/null
helm uninstall cloudpulse --namespace cloudpulse --wait --timeout 2m >/dev/null
kill "$scaler_pid"
# kube-apiserver makes an APIService of each definition.
printf '%s\n' APIService//v1.cloudpulse.io CustomResourceDefinition//scalingrules.cloudpulse.io | sort - "$work/before" >"$work/wanted"
as_before() {
  everything >"$work/after"
  diff "$work/wanted" "$work/after"
}
wait_for 60 "nothing left but the definition" as_before
say "uninstalled; nothing is left but the definition of ScalingRules"

# --- Without Helm ------------------------------------------------------------------------------------------------------------------------

plain=(-f manifests/predictor.yaml -f manifests/scaler.yaml)
kubectl apply --server-side -f manifests/crds.yaml >/dev/null
kubectl apply "${plain[@]}" >/dev/null
wait_for 60 "a predictor by plain manifests" is cloudpulse statefulset cloudpulse-predictor '{.status.readyReplicas}' 1
wait_for 60 "two scalers by plain manifests" is cloudpulse deployment cloudpulse-scaler '{.status.readyReplicas}' 2
kubectl delete "${plain[@]}" >/dev/null
wait_for 60 "nothing left of the plain manifests" as_before
say "the plain manifests install and go, too"
