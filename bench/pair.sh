#!/usr/bin/env bash
# Measures a pair beside Pacemaker/Corosync and keepalived (TestPairRace): about
# 30 minutes. It needs root and, beside what the laboratory and a pair need:
# pacemaker corosync pacemaker-cli-utils resource-agents ipmitool keepalived bc.
# The lines for RESULTS.md are printed at the end. After Ctrl-C or SIGTERM the
# test takes all laboratories away before it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o bin/ ./cmd/...
go test -c -tags bench -o "$work/pair.test" ./bench
cd bench
HOLDFAST_BENCH_RESULTS=$work/lines "$work/pair.test" -test.v -test.timeout 2h -test.run '^TestPairRace$' >&2 &
test=$!
trap 'kill -TERM "$test" 2>/dev/null || true' INT TERM HUP
rc=0
wait "$test" || rc=$?
while kill -0 "$test" 2>/dev/null; do # a trap has ended the wait
  rc=0
  wait "$test" || rc=$?
done
[ ! -e "$work/lines" ] || cat "$work/lines"
exit "$rc"
