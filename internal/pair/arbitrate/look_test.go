package arbitrate

import (
	"errors"
	"testing"

	"holdfast/internal/cluster"
)

func TestWhatALookSaysOfTheGroup(t *testing.T) {
	license := cluster.Epoch{Gen: 7, Seq: 3}
	for name, c := range map[string]struct {
		g     cluster.Guest
		err   error
		holds bool
		by    uint64
	}{
		"it runs":              {cluster.Guest{State: cluster.GuestRunning, Epoch: license}, nil, true, 7},
		"it was handed to us":  {cluster.Guest{State: cluster.GuestArrived, Epoch: license}, nil, true, 7},
		"it is not here":       {cluster.Guest{State: cluster.GuestAbsent}, nil, false, 0},
		"it is handed over":    {cluster.Guest{State: cluster.GuestRunning, Epoch: license, Migrating: true}, nil, true, 0},
		"the look fails":       {cluster.Guest{State: cluster.GuestRunning, Epoch: license}, errors.New("it hangs"), true, 0},
		"the look is no state": {cluster.Guest{State: cluster.GuestUnknown, Epoch: license}, nil, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if holds, by := holding(c.g, c.err); holds != c.holds || by != c.by {
				t.Errorf("%v by %d, want %v by %d", holds, by, c.holds, c.by)
			}
		})
	}
}
