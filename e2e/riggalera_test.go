package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/need"
)

// galera is a laboratory whose hosts have a system of their own, with a node of a
// database cluster on each.
const galera kind = "galera"

// TestUpgradeGaleraRolling upgrades the nodes one after the other while rows are
// written, and rolls them back: the service goes on, and no row is lost.
func TestUpgradeGaleraRolling(t *testing.T) {
	need.Drill(t, "P4: a database cluster is upgraded node by node and goes back, and no row is lost")
	onLab(t, galera, upgradeGaleraRolling)
}

func upgradeGaleraRolling(t testing.TB, r *rig) {
	r.spent(t, false)
	c := newDBCluster(t, r)

	w := c.write(t)
	u := c.upgrade(t, manifest.Rolling, "--keep-guests")
	w.end(t)
	if u.ClusterState != upgrade.Prepared || u.Job.Result != "done" || u.To != galeraNew {
		t.Errorf("upgraded: %+v, job %+v", u, u.Job)
	}
	c.has(t, galeraNew)
	c.holds(t)
	c.serves(t, w)

	w = c.write(t)
	r.command(t, r.lab.Hosts()[1], "upgrade", "rollback", "--yes", "-o", "json")
	u = c.await(t, "the way back")
	w.end(t)
	if u.ClusterState != upgrade.Normal || u.Job.Result != "done" || u.Purpose != upgrade.ForRollback {
		t.Errorf("rolled back: %+v, job %+v", u, u.Job)
	}
	c.has(t, galeraOld)
	c.holds(t)
	c.serves(t, w)
}

// TestUpgradeGaleraOffline stops all nodes, upgrades the first and lets the others
// join, and commits: no row is lost.
func TestUpgradeGaleraOffline(t *testing.T) {
	need.Drill(t, "P4: a database cluster is upgraded while it stands, and no row is lost")
	onLab(t, galera, upgradeGaleraOffline)
}

func upgradeGaleraOffline(t testing.TB, r *rig) {
	r.spent(t, true)
	c := newDBCluster(t, r)
	w := c.write(t)
	u := c.upgrade(t, manifest.Offline)
	w.end(t)
	if u.ClusterState != upgrade.Prepared || u.Job.Result != "done" {
		t.Errorf("upgraded: %+v, job %+v", u, u.Job)
	}
	c.has(t, galeraNew)
	c.holds(t)
	r.command(t, r.lab.Hosts()[1], "upgrade", "commit", "--yes", "-o", "json")
	u = c.await(t, "the commit")
	if u.ClusterState != upgrade.Normal || u.Version != galeraNew || !u.Committed {
		t.Errorf("committed: %+v, job %+v", u, u.Job)
	}
	c.has(t, galeraNew)
}

// upgrade upgrades the cluster in a mode. The nodes are dealt with in the order of
// their hosts: offline, the first one begins the cluster anew.
func (c *dbCluster) upgrade(t testing.TB, mode manifest.Mode, more ...string) request.Standing {
	t.Helper()
	key, hosts := newKey(t), c.lab.Hosts()
	args := []string{"upgrade", "run", "--version", galeraOld, "--mode", string(mode), "--yes", "-o", "json"}
	for _, h := range hosts {
		args = append(args, "--order", h)
	}
	args = append(args, c.bundleOn(t, hosts[0], galeraBundle(t, key), key)...)
	c.command(t, hosts[0], append(args, more...)...)
	return c.await(t, "the upgrade")
}

// await waits until the upgrade's job has ended, or waits for a person.
func (c *dbCluster) await(t testing.TB, what string) (u request.Standing) {
	t.Helper()
	began := time.Now()
	c.until(t, what, func(ctx context.Context) (string, bool) {
		var err error
		if u, err = c.upgradeNow(ctx); err != nil {
			return err.Error(), false
		}
		return fmt.Sprintf("%+v, job %+v", u, u.Job), u.Job != nil && (u.Job.State == "ended" || u.Job.State == "paused")
	})
	t.Logf("%s after %s: %s, %d of %d steps", what, time.Since(began).Round(time.Second), u.ClusterState, u.Steps.Over, u.Steps.Total)
	return u
}

// serves fails when the writer had to wait for longer than the cluster needs to go
// on without a node.
func (c *dbCluster) serves(t testing.TB, w *dbWriter) {
	t.Helper()
	if most := 15 * time.Second; w.Gap > most {
		t.Errorf("no row was taken for %s, want at most %s", w.Gap, most)
	}
}
