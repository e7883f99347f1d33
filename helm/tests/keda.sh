# shellcheck shell=bash disable=SC2034,SC2154
# The chart beside KEDA, which had the external metrics API first: the end of scripts/test-neighbours.sh, which has the cluster, Prometheus and
# the chart as the Operator finds it, and sources this.

helm uninstall cloudpulse --namespace cloudpulse --wait --timeout 2m >/dev/null
kill "${programs[@]}"
programs=()
kubectl create namespace keda >/dev/null
kubectl apply --server-side -f "$cache/neighbours/keda-crds" >/dev/null
keda=127.96.0.20 keda_operator=198.18.255.3
name $keda keda-operator-metrics-apiserver.keda.svc
name $keda_operator keda-operator.keda.svc
testkit/kubernetes/control-plane.sh cert "$cluster" ca keda /CN=keda DNS:keda-operator.keda.svc,DNS:keda-operator-metrics-apiserver.keda.svc
mkdir "$work/keda"
cp "$cluster/pki/ca.crt" "$work/keda/ca.crt"
cp "$cluster/pki/keda.crt" "$work/keda/tls.crt"
cp "$cluster/pki/keda.key" "$work/keda/tls.key"
kubectl -n keda create secret generic kedaorg-certs --from-file="$work/keda" >/dev/null
start keda-operator env KEDA_CLUSTER_OBJECT_NAMESPACE=keda WATCH_NAMESPACE= keda-operator --kubeconfig="$KUBECONFIG" --cert-dir="$work/keda" \
  --metrics-bind-address=$keda_operator:8080 --health-probe-bind-address=$keda_operator:8081 --metrics-service-bind-address=$keda_operator:9666
start keda-adapter env WATCH_NAMESPACE= keda-adapter --kubeconfig="$KUBECONFIG" --lister-kubeconfig="$KUBECONFIG" --authentication-kubeconfig="$KUBECONFIG" --authorization-kubeconfig="$KUBECONFIG" \
  --tls-cert-file="$work/keda/tls.crt" --tls-private-key-file="$work/keda/tls.key" --bind-address=$keda --secure-port=443 --cert-dir="$work/keda" \
  --metrics-service-address=keda-operator.keda.svc:9666 --port=0
cat <<EOT | kubectl apply -f - >/dev/null
apiVersion: v1
kind: Service
metadata: {name: keda-operator-metrics-apiserver, namespace: keda}
spec: {clusterIP: $keda, ports: [{port: 443}], selector: {app: keda-operator-metrics-apiserver}}
---
# An API wants a pod behind its Service.
apiVersion: v1
kind: Pod
metadata: {name: keda-operator-metrics-apiserver, namespace: keda, labels: {app: keda-operator-metrics-apiserver}}
spec: {containers: [{name: adapter, image: none}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.external.metrics.k8s.io}
spec:
  group: external.metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  caBundle: $(base64 -w0 "$work/keda/ca.crt")
  service: {name: keda-operator-metrics-apiserver, namespace: keda, port: 443}
EOT
available='{.status.conditions[?(@.type=="Available")].status}'
wait_for 60 "KEDA's external metrics API" is '' apiservice v1beta1.external.metrics.k8s.io "$available" True
if helm install cloudpulse helm/cloudpulse --namespace cloudpulse --values "$work/values.yaml" >"$work/taken.log" 2>&1; then die "KEDA's API was taken"; fi
says "$work/taken.log" "keda/keda-operator-metrics-apiserver has the cluster's external.metrics.k8s.io"

# As docs/helm.md says under "Beside KEDA".
kubectl -n keda get secret kedaorg-certs -o jsonpath='{.data.ca\.crt}' | base64 -d >"$work/ca.crt"
kubectl -n cloudpulse create secret generic keda-ca --from-file=ca.crt="$work/ca.crt" >/dev/null
helm install cloudpulse helm/cloudpulse --namespace cloudpulse --values "$work/values.yaml" --set scaler.externalMetrics.apiService=false \
  --set scaler.externalMetrics.delegate.url=https://keda-operator-metrics-apiserver.keda.svc \
  --set scaler.externalMetrics.delegate.caSecret=keda-ca --wait --timeout 2m >"$work/keda-install.log"
wait_for 60 "two predictors beside KEDA" is cloudpulse statefulset cloudpulse-predictor '{.status.readyReplicas}' 2
wait_for 60 "two scalers beside KEDA" is cloudpulse deployment cloudpulse-scaler '{.status.readyReplicas}' 2
service=$(object cloudpulse service cloudpulse-scaler '{.spec.clusterIP}')
start_predictors predictor-keda
start_scalers scaler-keda

# KEDA scales by a forecast as by any series, while the API is its own ...
deployment web none | kubectl apply -f - >/dev/null
cat <<EOT | kubectl apply -f - >/dev/null
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {name: web}
  pollingInterval: 5
  minReplicaCount: 1
  maxReplicaCount: 9
  triggers:
    - type: prometheus
      metadata:
        serverAddress: http://prometheus-operated.monitoring.svc:9090
        query: max(cloudpulse_forecast{forecast="steady",quantile="0.5"})
        threshold: "120"
EOT
wait_for 120 "five replicas by KEDA, for a forecast of 600 at 120 a replica" is shop deployment web '{.spec.replicas}' 5
say "KEDA scales by a forecast"

# ... and when the scaler has it and asks KEDA for what it has not.
kubectl patch apiservice v1beta1.external.metrics.k8s.io --type merge \
  -p '{"spec": {"service": {"namespace": "cloudpulse", "name": "cloudpulse-scaler"}}}' >/dev/null
{ deployment api none && hpa api; } | kubectl apply -f - >/dev/null
wait_for 90 "three replicas by an HPA, for a forecast of 600 at 200 a replica" is shop deployment api '{.spec.replicas}' 3
kubectl -n shop patch scaledobject web --type merge -p '{"spec": {"triggers": [{"type": "prometheus", "metadata": {"threshold": "75",
  "serverAddress": "http://prometheus-operated.monitoring.svc:9090", "query": "max(cloudpulse_forecast{forecast=\"steady\",quantile=\"0.5\"})"}}]}}' >/dev/null
wait_for 90 "eight replicas by KEDA through the scaler" is shop deployment web '{.spec.replicas}' 8
is '' apiservice v1beta1.external.metrics.k8s.io "$available" True || die "the API is not available"
say "both work when the scaler has the API and passes KEDA's metrics on"
