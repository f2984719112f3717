#!/usr/bin/env bash
# Runs every fuzz target of the tree for the time given (default 30s).
set -euo pipefail
cd "$(dirname "$0")/.."
# A fuzzing process may be killed when its time is over, and leaves its server's files.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
for pkg in $(go list ./...); do
  for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
    echo "== $pkg $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-30s}" -fuzzminimizetime 10x "$pkg" # else it minimizes its first find most of the time
  done
done
