package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// The disk of this rig is locked by nobody: the proof alone keeps a second guest
// away from it.

func TestUnlockedDiskDrills(t *testing.T) {
	need.Drill(t, "P1: faults with a disk that nobody locks: the proof alone keeps a second guest away")
	runAll(t, fencedNBD, unlockedDrills, defaultRuns)
}

var unlockedDrills = map[string]drill{
	"power loss of the active host": {
		fault: crash, repair: back,
		most: fencedMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin,
	},
	"isolation of the active host": {
		fault: isolate, repair: back,
		most: fencedMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin, check: switchedOff,
	},
	"isolation without a fence device": {
		// The guest writes on until its host kills it by itself.
		fault: func(ctx context.Context, r *rig, h string) error {
			return errors.Join(r.lab.BMCMode(ctx, h, lab.BMCDead), r.lab.Isolate(ctx, h))
		},
		repair: back,
		most:   deadlineMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin,
	},
	"active host frozen": {
		fault: freeze, repair: back,
		most: fencedMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin, check: switchedOff,
	},
	"active host frozen without a fence device": {
		// The watchdog ends what stands still, before the takeover.
		fault: func(ctx context.Context, r *rig, h string) error {
			return errors.Join(r.lab.BMCMode(ctx, h, lab.BMCDead), r.lab.Freeze(ctx, h))
		},
		repair: back,
		most:   deadlineMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin,
		check: func(t testing.TB, r *rig, c course) {
			if n := c.did(c.holder, "watchdog", "fired"); n != 1 {
				t.Errorf("the watchdog of %s fired %d times, want once", c.holder, n)
			}
		},
	},
	"disk hangs on the active host": {
		// The guest stands still in its next write, until the agent moves it.
		fault:  func(ctx context.Context, r *rig, h string) error { return r.lab.HangDisk(ctx, h) },
		repair: func(ctx context.Context, r *rig, h string) error { return r.lab.UnhangDisk(ctx, h) },
		most:   hangWithin + guestBoot, away: true, check: movedOnce,
	},
}

// movedOnce: the guest was killed and started elsewhere, once, because its host
// knew that its disk hung, and nobody was switched off.
func movedOnce(t testing.TB, r *rig, c course) {
	t.Helper()
	gone, started := c.told(cluster.EvReleased), c.told(cluster.EvStarted)
	if len(gone) != 1 || string(gone[0].Host) != c.holder || !strings.Contains(gone[0].Detail, "has not answered since") {
		t.Errorf("released %+v: want once, by %s, because its disk does not answer", gone, c.holder)
	} else if took := gone[0].Time.Sub(c.at); took < 10*time.Second || took > hangWithin {
		t.Errorf("released after %s, want 10s to %s", took, hangWithin)
	}
	if len(started) != 1 || string(started[0].Host) == c.holder {
		t.Errorf("started %+v: want once, not on %s", started, c.holder)
	}
	nobodySwitched(t, r, c)
}

// TestADiskThatHangsOnAllHostsCostsNothing: there is no better host, and the
// guest goes on where it is when its disk does.
func TestADiskThatHangsOnAllHostsCostsNothing(t *testing.T) {
	need.Drill(t, "P2: a disk that hangs on all hosts moves nothing, and the guest goes on")
	for range runs(t, defaultRuns) {
		onLab(t, fencedNBD, func(t testing.TB, r *rig) {
			st := r.healthy(t)
			s, boots := r.begin(t), r.boots(t)
			if err := every(r, func(h string) error { return r.lab.HangDisk(t.Context(), h) }); err != nil {
				t.Fatal(err)
			}
			r.until(t, "every host to say that the disk hangs", func(ctx context.Context) (string, bool) {
				st, err := r.status(ctx)
				for _, h := range st.Hosts {
					if h.Fit {
						return fmt.Sprintf("%s is fit: %s, %v", h.Name, h.Why, err), false
					}
				}
				return fmt.Sprint(err), err == nil
			})
			time.Sleep(hangWithin) // in which nothing may happen
			c := course{holder: string(st.Owner.Host), boots: boots, lab: r.history(t, s.at)}
			nobodySwitched(t, r, c)
			if err := every(r, func(h string) error { return r.lab.UnhangDisk(t.Context(), h) }); err != nil {
				t.Fatal(err)
			}
			// The first write after the pause follows a retransmission of TCP.
			s.upAgain(t, func(a lab.Answer) bool { return a.Boot == s.before.Boot && a.N > s.before.N+10 })
			s.judge(t, "the disk hung on all hosts")
			if now := r.healthy(t); now.Owner.Epoch != st.Owner.Epoch {
				t.Errorf("epoch %s, was %s", now.Owner.Epoch, st.Owner.Epoch)
			}
			nobodySwitched(t, r, c)
		})
	}
}

func TestUnlockedDiskInAMigration(t *testing.T) {
	need.Drill(t, "P1: the source loses its power at moments of a migration with a disk that nobody locks")
	faultsInAMigration(t, fencedNBD, map[string]sideFault{"source loses power": {0, crash}}, 2*runs(t, defaultRuns))
}
