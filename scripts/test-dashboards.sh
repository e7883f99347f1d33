#!/usr/bin/env bash
# Starts the demonstration, waits until there is something to see of everything, checks the dashboards over its Prometheus,
# draws them in Chromium, and ends the demonstration. Pictures are in target/dashboards.
#
# Takes a quarter of an hour, most of it for waiting: a forecast is scored when its time has come, and shown after 30.
#
#   DASHBOARDS_PROMETHEUS=http://127.0.0.1:9090   a Prometheus of a demonstration that runs already
#   DASHBOARDS_TIMEOUT=1800                       how long to wait, in seconds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

timeout=${DASHBOARDS_TIMEOUT:-1800}
prometheus=${DASHBOARDS_PROMETHEUS-}

say() {
  printf 'test-dashboards.sh: %s\n' "$*" >&2
}

# Vite and playwright want it.
if ! node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' ||
  ! command -v npm >/dev/null; then
  echo "!!! SKIPPED: no npm, or no Node 20.19 or newer; the dashboards were not drawn" >&2
  exit 0
fi

# --- The viewer ----------------------------------------------------------------------------------------------------------

viewer=testkit/viewer
if ! cmp -s "$viewer/package-lock.json" "$viewer/node_modules/installed.json"; then
  say "installing the viewer's packages ..."
  (cd "$viewer" && npm ci --no-audit --no-fund --loglevel=error)
  cp "$viewer/package-lock.json" "$viewer/node_modules/installed.json" # last: a half-made folder is made anew
fi
(cd "$viewer" && node node_modules/vite/bin/vite.js build --logLevel warn)

# --- The demonstration ---------------------------------------------------------------------------------------------------

demo=
# shellcheck disable=SC2317 # the trap calls it
end_demo() {
  if [ -n "$demo" ] && kill -0 "$demo" 2>/dev/null; then
    kill -TERM "$demo" # it ends what it has started
    wait "$demo" || say "the demonstration ended with $?; see target/dashboards/demo.log"
  fi
}
trap end_demo EXIT

if [ -z "$prometheus" ]; then
  mkdir -p target/dashboards
  log=target/dashboards/demo.log
  say "starting the demonstration; its log is $log"
  target/release/cloudpulse-demo --seconds $((timeout + 600)) --folder target/dashboards/demo >"$log" 2>&1 &
  demo=$!
  while [ -z "$prometheus" ]; do
    if ! kill -0 "$demo" 2>/dev/null; then
      say "the demonstration ended:"
      tail -n 20 "$log" >&2
      exit 1
    fi
    prometheus=$(sed -n 's#^Prometheus  *\(http://[^/]*\)/.*#\1#p' "$log")
    sleep 1
  done
fi

# Whether a query has an answer.
has() {
  curl --silent --fail "$prometheus/api/v1/query" --data-urlencode "query=$1" | grep -q '"value":'
}

# What comes last: the first scores, and the forecasts of this machine, which has no history in the demonstration.
say "waiting until the first forecasts are scored, some 13 minutes after the start ..."
for query in 'cloudpulse_forecast_skill_ratio' 'cloudpulse_forecast_coverage_ratio' 'cloudpulse_forecast{forecast="node-disk",horizon="15m"}'; do
  until has "$query"; do
    if [ "$SECONDS" -gt "$timeout" ]; then
      say "no $query after $timeout seconds"
      exit 1
    fi
    if [ -n "$demo" ] && ! kill -0 "$demo" 2>/dev/null; then
      say "the demonstration ended too early; see target/dashboards/demo.log"
      exit 1
    fi
    sleep 5
  done
done
sleep 20 # more than one point of a line

# --- The dashboards ------------------------------------------------------------------------------------------------------

failed=0
node "$viewer/check.mjs" "$prometheus" || failed=1
node "$viewer/shots.mjs" "$prometheus" target/dashboards || failed=1
exit "$failed"
