#!/usr/bin/env bash
# Checks licences, sources, crates in two versions, and known vulnerabilities of everything in Cargo.lock, by deny.toml. Says
# loudly that it did not look for vulnerabilities where their database cannot be fetched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh deny
PATH=$PWD/target/tools/bin:$PATH

# Whatever could be built, with all features, tests and benchmarks.
cargo deny --locked --all-features check --deny unmatched-skip licenses sources
# What is in the programs.
cargo deny --locked --exclude-dev --exclude cloudpulse-bench --exclude cloudpulse-demo --exclude cloudpulse-dist \
  check --deny unmatched-skip bans

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if cargo deny --locked fetch db >"$log" 2>&1; then
  cargo deny --locked --all-features check --disable-fetch advisories
else
  cat "$log" >&2
  echo "!!! SKIPPED: the database of vulnerabilities (RustSec) cannot be fetched; nobody looked for them" >&2
fi
