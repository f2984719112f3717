package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

// pairedSecond is a laboratory as pairedPing, with a second network between the nodes.
const pairedSecond kind = "pairedSecond"

// secondDrills cut one of two networks: both nodes keep their store, so nothing is
// arbitrated, and nobody takes over.
var secondDrills = []pairDrill{
	{name: "cut of the first path", stays: true,
		fault: pairDrillOf("cut between the nodes").fault,
		repair: func(p *pairRig, ctx context.Context, active, standby string) error {
			return errors.Join(p.apart(ctx, "the first path is down"), p.on(ctx, active, standby))
		}},
	{name: "cut of the second path", stays: true,
		fault: func(p *pairRig, ctx context.Context, active, _ string) error {
			return p.lab.SecondCable(ctx, active, false)
		},
		repair: func(p *pairRig, ctx context.Context, active, _ string) error {
			return errors.Join(p.apart(ctx, "the second path is down"), p.lab.SecondCable(ctx, active, true))
		}},
}

// TestPairWithASecondPath: of a pair that would split when it is parted, one network is
// cut, and then the other one: nothing but the copy is interrupted. Both cut: it splits.
func TestPairWithASecondPath(t *testing.T) {
	need.Drill(t, "P1: of two networks between the nodes of a pair one may be cut; with both cut it splits, and mends")
	p := newPair(t, pairedSecond)
	if p.drills(t, secondDrills) {
		t.Run("cut of both paths", p.split)
	}
}

// apart waits until the status names the path that is cut, and for as long as a
// takeover by pings would take. Neither node may go on alone.
func (p *pairRig) apart(ctx context.Context, want string) error {
	const takeover = 25 * time.Second
	said := errors.New("nothing was told")
	for began := time.Now(); time.Since(began) < takeover || said != nil; time.Sleep(500 * time.Millisecond) {
		st, err := p.pairStatus(ctx)
		switch {
		case strings.Contains(st.Arbiter, "goes on alone") || len(st.Nodes) == 2 && !(st.Nodes[0].Alive && st.Nodes[1].Alive):
			return fmt.Errorf("a node goes on alone: %s, %v", st.Arbiter, st.Why)
		case err == nil && st.Health == cluster.Degraded && slices.ContainsFunc(st.Why, func(w string) bool { return strings.Contains(w, want) }):
			said = nil
		case said != nil && time.Since(began) > patience:
			return fmt.Errorf("the status does not say that %s: %s, %v, %w", want, st.Health, st.Why, err)
		}
	}
	return nil
}
