# shellcheck shell=bash
# What the tests of the chart share: their folder, processes, waiting, and the control plane. To be sourced from the repository's root by a
# script whose name stands before what it says. Leaves $work (a folder that goes at the end, or stays with KEEP=1) and takes $binaries.
# CHART_TEST_FOLDER is that folder where another removes it.

work=${CHART_TEST_FOLDER:-$(mktemp -d /tmp/cpc-XXXXXX)}
pids=()
cluster=
finish() {
  set +e # the result is known by now; whatever the programs say at their end, the rest must still go
  kill "${pids[@]}" 2>/dev/null
  wait "${pids[@]}" 2>/dev/null
  if [ -n "$cluster" ]; then testkit/kubernetes/control-plane.sh stop "$cluster"; fi
  if [ -n "${KEEP-}" ]; then
    echo "kept: $work" >&2
  elif [ -z "${CHART_TEST_FOLDER-}" ]; then
    rm -rf "$work"
  fi
}
trap finish EXIT

say() { printf '%s: %s (after %d s)\n' "${0##*/}" "$*" "$SECONDS"; }
die() {
  printf '%s: FAILED: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# start NAME COMMAND...: in the background; its output is $work/NAME.log
start() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  pids+=($!)
}

# wait_for SECONDS WHAT COMMAND...: until it succeeds
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >"$work/wait.log" 2>&1; do
    if ((SECONDS >= end)); then
      tail -n 3 "$work"/*.log >&2
      die "not in time: $what"
    fi
    sleep 0.5
  done
}

# says FILE TEXT: the file has it
says() { grep -qF -- "$2" "$1" || die "there is no \"$2\" in: $(tail -n 5 "$1")"; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# start_cluster NODES
start_cluster() {
  KUBE_NODES=$1 testkit/kubernetes/control-plane.sh start "$work/cluster"
  cluster=$work/cluster
  # shellcheck disable=SC1091 # the control plane wrote it
  . "$cluster/env"
  export KUBECACHEDIR=$work/kubectl-cache HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm
}

object() { # NAMESPACE KIND NAME JSONPATH
  kubectl -n "$1" get "$2" "$3" -o jsonpath="$4"
}
is() { [ "$(object "$1" "$2" "$3" "$4" 2>/dev/null)" = "$5" ]; } # NAMESPACE KIND NAME JSONPATH VALUE

# run_pod NAMESPACE POD FOLDER [--container NAME] [--replace FROM=TO]...
run_pod() {
  local namespace=$1 pod=$2 folder=$3
  shift 3
  # shellcheck disable=SC2154 # $binaries is the caller's
  exec helm/tests/kubelet.py "$namespace" "$pod" --folder "$work/pods/$folder" --binaries "$binaries" --api "$KUBE_API" \
    --ca "$cluster/pki/ca.crt" "$@"
}

# deployment NAME IMAGE: a Deployment of one replica in the namespace shop
deployment() {
  cat <<EOT
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}, annotations: {cloudpulse.io/ready-after: 1s}} # kwok's
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: "$2"}]}
---
EOT
}

# rule NAME: a ScalingRule of that Deployment, which wants two replicas
rule() {
  cat <<EOT
apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: $1, namespace: shop}
spec:
  target: {kubernetes: {name: $1}}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{name: one, query: vector(1), replicaCapacity: "1"}]
---
EOT
}

# hpa NAME: an HPA of that Deployment, with 200 a replica of the median of the forecast `steady`, which is 600
hpa() {
  cat <<EOT
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: $1, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: $1}
  minReplicas: 1
  maxReplicas: 9
  metrics:
    - type: External
      external:
        metric: {name: cloudpulse-forecast-steady, selector: {matchLabels: {kind: point, horizon: 5m, quantile: "0.5"}}}
        target: {type: AverageValue, averageValue: 200}
---
EOT
}

# web_config NAMESPACE...: Secrets named web, with TLS for the name cloudpulse and the user scrape, whose password is secret
web_config() {
  local namespace
  testkit/kubernetes/control-plane.sh cert "$cluster" ca web /CN=cloudpulse DNS:cloudpulse
  cat >"$work/web.yml" <<'EOT'
tls_server_config: {cert_file: tls.crt, key_file: tls.key}
basic_auth_users: {scrape: $2b$05$CCCCCCCCCCCCCCCCCCCCC.pIKrLVkBX9/OvQMSygY1pWEVn72t6na}
EOT
  for namespace; do
    kubectl -n "$namespace" create secret generic web --from-file="$work/web.yml" --from-file=tls.crt="$cluster/pki/web.crt" \
      --from-file=tls.key="$cluster/pki/web.key" --from-file=ca.crt="$cluster/pki/ca.crt" >/dev/null
  done
}
as_user() { printf 'Basic %s' "$(printf scrape:secret | base64)"; }
