package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

// pairedDisk is a laboratory of a pair without a third voter and without fence devices: a file
// on the shared storage names the node that goes on alone.
const pairedDisk kind = "pairedDisk"

// diskDrills are the faults of a pair whose arbiter is a disk.
var diskDrills = append(twoDrills[:3:3], pairDrill{name: "power loss of the active while the disk hangs", down: time.Minute,
	fault: func(p *pairRig, ctx context.Context, active, standby string) error {
		return errors.Join(p.lab.HangStorage(ctx, standby), p.lab.Crash(ctx, active))
	},
	repair: func(p *pairRig, ctx context.Context, active, standby string) error {
		return errors.Join(p.lab.UnhangStorage(ctx, standby), p.on(ctx, active))
	}})

// TestPairByDisk: of a pair whose arbiter is a disk either node is lost, then the cable between
// them, when the disk names one of the two, and then a node while the disk does not answer the
// other one: nobody serves.
func TestPairByDisk(t *testing.T) {
	need.Drill(t, "P1: faults of a pair whose arbiter is a disk: no acknowledged row is lost, no two databases take writes")
	p := newPair(t, pairedDisk)
	if st := p.healthy(t); st.Guarantee != cluster.Safe {
		t.Errorf("the guarantee is %q", st.Guarantee)
	}
	p.drills(t, diskDrills)
}
