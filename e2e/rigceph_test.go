package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/cephnode"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// fencedCeph is as fenced, with the disk in a pool of a real Ceph cluster.
const fencedCeph kind = "fencedCeph"

// ceph is the need of a Ceph.
func ceph() error {
	if missing := cephnode.Missing(); len(missing) > 0 {
		return errors.New(strings.Join(missing, "; "))
	}
	return nil
}

// lockOutMost is what it may take to lock the old guest out, and to see that.
const lockOutMost = 10 * time.Second

func TestCephDrills(t *testing.T) {
	need.Drill(t, "P1: takeovers with a disk in a real Ceph: the old host's client is locked out first", ceph)
	runAll(t, fencedCeph, cephDrills, defaultRuns)
}

var cephDrills = map[string]drill{
	"power loss of the active host": {
		fault: crash, repair: back,
		most: fencedMost + lockOutMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin, check: lockedOut,
	},
	"isolation without a fence device": {
		fault: func(ctx context.Context, r *rig, h string) error {
			return errors.Join(r.lab.BMCMode(ctx, h, lab.BMCDead), r.lab.Isolate(ctx, h))
		},
		repair: back,
		most:   deadlineMost + lockOutMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin, check: lockedOut,
	},
	"active host frozen without a fence device": {
		// The watchdog ends what stands still; the cluster takes nothing from it before.
		fault: func(ctx context.Context, r *rig, h string) error {
			return errors.Join(r.lab.BMCMode(ctx, h, lab.BMCDead), r.lab.Freeze(ctx, h))
		},
		repair: back,
		most:   deadlineMost + lockOutMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin, check: lockedOut,
	},
}

// lockedOut: the old host's client is on the cluster's blocklist, and the image is open
// on the new host only.
func lockedOut(t testing.TB, r *rig, c course) {
	t.Helper()
	out, err := r.lab.Ceph(t.Context(), "ceph", "osd", "blocklist", "ls")
	if old := r.lab.Addr(c.holder).String() + ":0/"; err != nil || !strings.Contains(out, old) {
		t.Errorf("the blocklist has no %s: %q, %v", old, out, err)
	}
	openOn(t, r, c.st)
}

// openOn: the image is open on the host that has the guest, and nowhere else.
func openOn(t testing.TB, r *rig, st cluster.Status) {
	t.Helper()
	want := r.lab.Addr(string(st.Owner.Host)).String() + ":0/"
	r.until(t, "the image to be open on "+string(st.Owner.Host)+" only", func(ctx context.Context) (string, bool) {
		out, err := r.lab.Ceph(ctx, "rbd", "status", cephnode.Pool+"/"+cephnode.Image)
		return fmt.Sprintf("%q, %v", out, err), err == nil && strings.Count(out, "watcher=") == 1 && strings.Contains(out, "watcher="+want)
	})
}

// TestCephMigration: the guest moves with its disk, and nobody is locked out.
func TestCephMigration(t *testing.T) {
	need.Drill(t, "P1: a guest moves with its disk in a real Ceph, and nobody is locked out", ceph)
	onLab(t, fencedCeph, func(t testing.TB, r *rig) {
		st := r.healthy(t)
		list := func() string {
			out, err := r.lab.Ceph(t.Context(), "ceph", "osd", "blocklist", "ls")
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		boots, listed := r.boots(t), list()
		before := r.answer(t)
		end := r.watching(t)
		to := another(r, st.Owner.Host)
		r.command(t, string(st.Owner.Host), "migrate", to)
		st = r.healthy(t)
		if string(st.Owner.Host) != to {
			t.Errorf("it runs on %s, want %s", st.Owner.Host, to)
		}
		openOn(t, r, st)
		if now := list(); strings.Count(now, ":0/") > strings.Count(listed, ":0/") {
			t.Errorf("locked out: %q, before: %q", now, listed)
		}
		after := r.answer(t)
		end().oneHolder(t)
		if after.Boot != before.Boot || after.N < before.N {
			t.Errorf("before %+v, after %+v", before, after)
		}
		nobodySwitched(t, r, course{holder: to, boots: boots})
	})
}
