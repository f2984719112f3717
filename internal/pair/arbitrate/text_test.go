package arbitrate

import (
	"strings"
	"testing"

	"holdfast/internal/pair/arbiter"
)

// TestASplitBrainIsCalledSo in what the status shows of the arbiter, with what a person has to do.
func TestASplitBrainIsCalledSo(t *testing.T) {
	alone := func(gen uint64, held bool) arbiter.Store {
		return arbiter.Store{Role: arbiter.Single, Gen: gen, From: 7, WasActive: held}
	}
	for name, c := range map[string]struct {
		manual bool
		other  arbiter.Store
		want   string
	}{
		"a person decides": {true, alone(30, false), "split brain: both nodes have gone on alone: choose, on the " +
			"node whose data are kept, by: holdfast pair resolve"},
		"a rule decides": {false, alone(30, false), "split brain: both nodes have gone on alone"},
		"no split brain": {true, arbiter.Store{Role: arbiter.Two, Gen: 20, From: 7}, "this node goes on alone"},
	} {
		x := &Arbitration{Options: Options{Arbiter: Fences{}}, looked: true,
			m: &arbiter.Machine{Self: "a", Peer: "b", Manual: c.manual, Heard: true}}
		x.m.Seen.Store, x.m.PeerStatus.Store = alone(20, true), c.other
		if got := x.Text(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	for _, by := range []arbiter.Kind{arbiter.Fence, arbiter.Ping, arbiter.Disk} {
		for _, s := range []arbiter.State{arbiter.SplitBrain, arbiter.SplitOperator} {
			if got := stateText(by, s); !strings.HasPrefix(got, "split brain: ") {
				t.Errorf("arbiter %v, state %v: %q", by, s, got)
			}
		}
	}
}
