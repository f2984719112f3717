package e2e

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/testbed/lab"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// owned is a laboratory whose hosts have a system of their own, to install the
// made-up platform in, and business guests.
const owned kind = "owned"

// TestUpgradeOfAnAppctlPackage runs a package of the appctl layout unchanged: its
// verbs are called on every host, its prompt is answered from the credentials file,
// and it is rolled back.
func TestUpgradeOfAnAppctlPackage(t *testing.T) { onLab(t, owned, upgradeOfAnAppctlPackage) }

func upgradeOfAnAppctlPackage(t testing.TB, r *rig) {
	r.installAppctl(t)
	hosts := r.lab.Hosts()
	for _, h := range hosts {
		r.giveCredentials(t, h)
	}
	key := newKey(t)
	file, signature := appctlBundle(t, key)
	bundle := r.bundleOn(t, hosts[0], file, key, signature)
	r.command(t, hosts[0], slices.Concat([]string{
		"upgrade", "run", "--version", "3.0.0.B038", "--keep-guests", "--yes", "-o", "json",
		"--signature", lab.HostDir + "/incoming/" + filepath.Base(signature),
	}, bundle)...)
	u := r.awaitUpgrade(t, "the upgrade", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != upgrade.Prepared || u.Bundle.Unsigned {
		t.Fatalf("upgraded: %+v, job %+v", u, u.Job)
	}
	r.engines(t, "3.0.0.B039")
	for _, h := range hosts {
		calls := r.appctlCalls(t, h)
		for _, want := range []string{"cms pre_upgrade\n", "engine upgrade rollup ", "engine post_upgrade"} {
			if !strings.Contains(calls, want) {
				t.Errorf("%s: the log has no %q: %s", h, want, calls)
			}
		}
	}
	r.command(t, hosts[1], "upgrade", "rollback", "--yes", "-o", "json")
	u = r.awaitUpgrade(t, "the way back", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != upgrade.Normal {
		t.Fatalf("rolled back: %+v, job %+v", u, u.Job)
	}
	r.engines(t, "3.0.0.B038")
}

// engines wants all hosts to have one version of the appctl package's engine.
func (r *rig) engines(t testing.TB, version string) {
	t.Helper()
	r.everywhere(t, "look at the engine", func(ctx context.Context, h string) error {
		got, err := r.script(ctx, h, "cat /srv/host/appctl/engine/version; ls /srv/host/appctl/*/running")
		if !strings.HasPrefix(got, version) || strings.Count(got, "running") != 3 {
			t.Errorf("%s has %s, want %s and three that run", h, got, version)
		}
		return err
	})
}
