package e2e

import (
	"context"
	"errors"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/lab"
)

// The disk of this rig is locked by nobody: the proof alone keeps a second guest
// away from it.

func TestUnlockedDiskDrills(t *testing.T) { runAll(t, fencedNBD, unlockedDrills, hardRuns) }

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
		check: func(t *testing.T, r *rig, c course) {
			if n := c.did(c.holder, "watchdog", "fired"); n != 1 {
				t.Errorf("the watchdog of %s fired %d times, want once", c.holder, n)
			}
		},
	},
}

func TestUnlockedDiskInAMigration(t *testing.T) {
	faultsInAMigration(t, fencedNBD, map[string]sideFault{"source loses power": {0, crash}}, 2*runs(t, hardRuns))
}
