#!/usr/bin/env bash
# Checks that the crates which forecast and decide stay pure: no runtime, server or client among their dependencies, and no
# clock, file or socket in their code. `now` and all data are arguments there, so that every decision can be replayed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

declare -A folders=([cloudpulse-forecast]=predictor/forecast [cloudpulse-synthetic]=predictor/synthetic [cloudpulse-lstm]=predictor/lstm [cloudpulse-policy]=scaler/policy [cloudpulse-replay]=scaler/replay)
banned_crates='tokio|axum|reqwest|kube|bollard'
# Also as `use std::{fs, ...}`. Comments may speak of them.
banned_code='SystemTime::now|Instant::now|std::(fs|net)\b|std::\{([^}]*[ ,{])?(fs|net)\b'

failed=0
for crate in "${!folders[@]}"; do
  tree=$(cargo tree --quiet --package "$crate" --edges normal --prefix none --format '{p}')
  if found=$(grep -E "^($banned_crates) v" <<<"$tree" | sort -u); then
    printf '%s must not depend on:\n%s\n' "$crate" "$found" >&2
    failed=1
  fi
  if found=$(grep -rnE --include='*.rs' "$banned_code" "${folders[$crate]}/src" | grep -vE '^[^:]*:[0-9]+:[[:space:]]*//'); then
    printf '%s must not use a clock, files or sockets:\n%s\n' "$crate" "$found" >&2
    failed=1
  fi
done
exit "$failed"
