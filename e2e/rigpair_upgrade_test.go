package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// upgraded replaces the agents of all hosts while clients write, and then a made-up component
// with a reboot of each host. Each time the standby node is done before the group is switched
// over to it, and the active one after that. No row is lost.
func (p *pairRig) upgraded(t *testing.T) {
	key := newKey(t)
	p.upgrade(t, "1.0.0", selfBundle(t, key, "2.0.0"), key)
	p.agents(t, "2.0.0")
	p.command(t, "h3", "upgrade", "commit", "--yes")
	p.awaitUpgrade(t, "the commit", ended)

	boots := p.bootIDs(t)
	p.upgrade(t, "1.0", rebootBundle(t, key), key)
	for h, boot := range p.bootIDs(t) {
		if boot == boots[h] {
			t.Errorf("%s was not rebooted", h)
		}
		if out := p.command(t, h, "upgrade", "status"); !strings.Contains(out, "2.0") {
			t.Errorf("%s does not tell of version 2.0: %s", h, out)
		}
		if out, err := p.lab.Exec(t.Context(), h, "cat", "/opt/component"); err != nil || out != "2.0" {
			t.Errorf("%s has version %q of the component: %v", h, out, err)
		}
	}
}

// upgrade upgrades the pair's hosts one after the other, while clients write.
func (p *pairRig) upgrade(t *testing.T, from, file string, key releaseKey) {
	t.Helper()
	before := p.healthy(t)
	bundle := p.bundleOn(t, "h3", file, key)
	stop := p.clients.write(t)
	p.clients.more(t, 20)
	at := time.Now()
	p.command(t, "h3", slices.Concat([]string{"upgrade", "run", "--version", from, "--mode", "rolling", "--yes", "-o", "json"}, bundle)...)
	u := p.awaitUpgrade(t, "the upgrade", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != upgrade.Prepared {
		t.Fatalf("upgraded: %+v, job %+v", u, u.Job)
	}
	after := p.healthy(t)
	p.clients.more(t, 20)
	stop()
	moves := 0
	for _, e := range p.events(t, at) {
		if e.Kind == cluster.EvMigrated { // one that is refused has stopped nothing
			moves++
		}
	}
	if moves != 1 || after.Owner.Host == before.Owner.Host {
		t.Errorf("the group was moved %d times, and is on %s, was on %s: want one switch", moves, after.Owner.Host, before.Owner.Host)
	}
	p.clients.check(t, string(after.Owner.Host))
	t.Logf("no write was acknowledged for %v", p.clients.gap(at).Round(10*time.Millisecond))
}

// rebootBundle installs a made-up component, with a reboot of each host.
func rebootBundle(t testing.TB, key releaseKey) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "component")
	writeFile(t, filepath.Join(dir, "manifest.yaml"), `name: component
version: "2.0"
minSpaceGB: 1
requiresReboot: true
upgradeFrom:
- {version: "1.0", modes: [rolling]}
modules:
- name: component
  timeout: 1m
  canRollback: true
  files: [component/]
  actions:
    install: {run: [component/do.sh, install], idempotent: true}
    rollback: {run: [component/do.sh, rollback], idempotent: true}
`)
	program := filepath.Join(dir, "component", "do.sh")
	writeFile(t, program, `#!/bin/sh
case $1 in
install) printf 2.0 >/opt/component ;;
rollback) rm -f /opt/component ;;
esac
`)
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	return build(t, dir, key)
}
