#!/usr/bin/env bash
# Makes what is made of something else: in the chart the definition of ScalingRules, rules, dashboards and version; and
# manifests/, the chart as plain YAML for people without Helm. With --check it only says what is not as it would be made.
#
# Wants helm (scripts/setup.sh helm) and target/debug/cloudpulse-scaler, or another in CLOUDPULSE_SCALER.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/target/tools/bin:$PATH

program=${CLOUDPULSE_SCALER:-target/debug/cloudpulse-scaler}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# All of it is made in a copy.
mkdir -p "$folder/helm"
cp -R helm/cloudpulse "$folder/helm/cloudpulse"
chart=$folder/helm/cloudpulse
rm -rf "$chart/files" "$chart/crds"
mkdir -p "$chart/files/rules" "$chart/files/dashboards" "$chart/crds" "$folder/manifests"

cp rules/prometheus/*.rules.yml "$chart/files/rules/"
cp dashboards/*.json "$chart/files/dashboards/"
"$program" crd >"$chart/crds/scalingrules.yaml"
version=$(sed -n '/^\[workspace.package\]/,/^\[[^w]/s/^version = "\(.*\)"/\1/p' Cargo.toml)
sed -i "s/^\(version\|appVersion\): .*/\1: $version/" "$chart/Chart.yaml"

# render NAME FLAG...: a file of manifests, with what belongs to Helm taken out
render() {
  local file=$folder/manifests/$1
  shift
  {
    printf '# Made of helm/cloudpulse by scripts/manifests.sh: change it there. docs/helm.md says how to use it.\n'
    helm template cloudpulse "$chart" --namespace cloudpulse --skip-tests "$@" |
      sed '/^# Source: /d; /^ *helm\.sh\/chart: /d; /^ *app\.kubernetes\.io\/managed-by: Helm$/d; s/[[:space:]]*$//' |
      awk '/^$/ { empty++; next } $0 != "---" { while (empty-- > 0) print "" } { empty = 0; print }' # versions of Helm differ in these
  } >"$file"
}

cp "$chart/crds/scalingrules.yaml" "$folder/manifests/crds.yaml"
common=(--set monitoring.dashboards.enabled=false --set monitoring.operator=false)
render exporter.yaml "${common[@]}" --set predictor.enabled=false --set scaler.enabled=false
render predictor.yaml "${common[@]}" --set exporter.enabled=false --set scaler.enabled=false
scaler=("${common[@]}" --set exporter.enabled=false --set predictor.enabled=false)
render scaler.yaml "${scaler[@]}"
render scaler-rules-only.yaml "${scaler[@]}" --set scaler.externalMetrics.enabled=false
render prometheus-operator.yaml --set monitoring.dashboards.enabled=false --set monitoring.operator=true \
  --show-only templates/monitors.yaml

made=(helm/cloudpulse/files helm/cloudpulse/crds helm/cloudpulse/Chart.yaml manifests)
if [ "${1-}" = --check ]; then
  stale=0
  for path in "${made[@]}"; do
    if ! diff -r -q "$path" "$folder/$path"; then stale=1; fi
  done
  if [ "$stale" != 0 ]; then echo "manifests.sh: not as it would be made; run make manifests" >&2; fi
  exit "$stale"
fi
for path in "${made[@]}"; do
  rm -rf "$path"
  cp -R "$folder/$path" "$path"
done
