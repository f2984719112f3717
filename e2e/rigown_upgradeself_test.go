package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/need"
)

// TestUpgradeOfHoldfastItself replaces the agents of all hosts, one after the other,
// while they keep the management VM up, empty the hosts of guests and bring them back.
func TestUpgradeOfHoldfastItself(t *testing.T) {
	need.Drill(t, "P4: the agents of all hosts are replaced and go back, while they keep the guests up")
	onLab(t, owned, upgradeOfHoldfastItself)
}

func upgradeOfHoldfastItself(t testing.TB, r *rig) {
	before := r.guests(t)
	mgmt := r.answer(t)
	hosts := r.lab.Hosts()
	key := newKey(t)
	bundle := r.bundleOn(t, hosts[0], selfBundle(t, key, "2.0.0"), key)
	placed := r.placed(t)
	r.command(t, hosts[0], slices.Concat([]string{"upgrade", "run", "--version", "1.0.0", "--move-back", "--yes", "-o", "json"}, bundle)...)
	u := r.awaitUpgrade(t, "the upgrade", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != upgrade.Prepared {
		t.Fatalf("upgraded: %+v, job %+v", u, u.Job)
	}
	r.agents(t, "2.0.0")
	// That a guest does not return fails nothing: it may be on its way when it is asked for.
	now, home := r.placed(t), 0
	for i := range now {
		if now[i] == placed[i] {
			home++
		}
	}
	t.Logf("%d of %d guests are where they were, %d steps failed", home, len(now), u.Steps.Failed)
	if home < len(now)/2 {
		t.Errorf("guests are on %s, were on %s", now, placed)
	}
	r.command(t, hosts[1], "upgrade", "rollback", "--yes", "-o", "json")
	u = r.awaitUpgrade(t, "the way back", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != upgrade.Normal {
		t.Fatalf("rolled back: %+v, job %+v", u, u.Job)
	}
	r.unbroken(t, before)
	after := r.answer(t)
	if after.Boot != mgmt.Boot {
		t.Errorf("the management VM was restarted: before %+v, after %+v", mgmt, after)
	}
}

// selfBundle builds what `make bundle` does, of this tree as a version.
func selfBundle(t testing.TB, key releaseKey, version string) string {
	t.Helper()
	dir := t.TempDir()
	next, file := filepath.Join(dir, "holdfast"), filepath.Join(dir, "holdfast-"+version+".hfb")
	t.Setenv("CGO_ENABLED", "0")
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=" + version, "-o", next, "../cmd/holdfast"},
		{"../packaging/bundle.sh", next, version, file, key.secret},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("build the bundle: %v: %s", err, out)
		}
	}
	return file
}

// placed says on which host each business guest is.
func (r *rig) placed(t testing.TB) []string {
	t.Helper()
	guests, err := r.lab.Guests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, g := range guests {
		out = append(out, g.Name+" "+g.Host)
	}
	return out
}

// agents wants the agents of all hosts to be of a version.
func (r *rig) agents(t testing.TB, version string) {
	t.Helper()
	r.everywhere(t, "ask the agent", func(ctx context.Context, h string) error {
		out, err := r.lab.Exec(ctx, h, r.exe, "version", "-o", "json")
		if !strings.Contains(out, version) {
			t.Errorf("the agent of %s is not %s: %s", h, version, out)
		}
		return err
	})
}
