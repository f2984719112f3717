#!/usr/bin/env bash
# Runs the measurements and writes out/bench.md; bench/RESULTS.md, which says more of some of
# them, is a person's. Takes about 100 minutes, of
# which the race against Pacemaker takes 40: it needs pacemaker corosync
# pacemaker-cli-utils resource-agents ipmitool.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p out
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
export HOLDFAST_TESTS=drills
HOLDFAST_BENCH_RESULTS=$lines go test -count=1 -timeout 90m -v ./bench >&2
HOLDFAST_BENCH_RESULTS=$lines go test -tags bench -count=1 -timeout 60m -v -run "TestElections|TestUpgrade|TestEngine|TestReports|TestEvacuation|TestMemory|TestAlign|TestProbe|TestPin|TestNet|TestPairFirstCopy" ./bench >&2
HOLDFAST_BENCH_RESULTS=$lines go test -tags bench -count=1 -timeout 30m -v -run "^TestInstallFigures$" ./e2e >&2
HOLDFAST_DRILL_RUNS=5 HOLDFAST_DRILL_RESULTS=$lines go test -count=1 -timeout 3h -run '^Test(Faults|FencedDrills|UnlockedDiskDrills|CephDrills)$' -v ./e2e >&2
{
  echo "# Measured"
  echo
  echo "Made by \`make bench\` on $(date -u +%F), version $(git describe --tags --always --dirty):"
  echo "$(nproc) cores of $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(free -g | awk '/Mem:/ {print $2}') GiB, Linux $(uname -r), $(go version | cut -d' ' -f3),"
  echo "libvirt $(libvirtd --version | awk '{print $NF}'), $(qemu-system-x86_64 --version | head -1 | cut -d' ' -f2-4), no KVM (plain emulation), guest of 128 MiB."
  echo "Absolute times on a shared machine are noise; ratios and counts in one run are the result."
  echo
  sed 's/^/- /' "$lines"
} >out/bench.md
