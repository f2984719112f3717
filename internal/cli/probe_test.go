package cli

import (
	"context"
	"strings"
	"time"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/fleet/losses"
	"holdfast/internal/lib/fail"
)

// fakeProbe measures a network in which a target does what it is called.
func fakeProbe(_ context.Context, o losses.Order, tell func(losses.Progress)) (*losses.Result, error) {
	at := func(d time.Duration) losses.Moment { return losses.Moment{Time: clitest.Time().Add(d)} }
	r := &losses.Result{Name: o.Name, Rate: o.Rate, ARPRate: o.ARPRate, Began: at(0), Ended: at(o.For), Targets: []losses.Target{}}
	tell(losses.Progress{Asking: losses.ICMP, Targets: len(o.Targets)})
	for _, a := range o.Targets {
		t := losses.Target{Address: a, By: losses.ICMP, Sent: int64(o.Rate * o.For.Seconds()), Gaps: []losses.Gap{}, Reordered: new(int64)}
		switch {
		case a.Name == "forbidden":
			return nil, fail.Errorf(fail.Refused, "nothing can be measured: operation not permitted")
		case a.Name == "silent":
			silent := losses.Silent{Address: a, AskedBy: []losses.Means{losses.ICMP}}
			if o.ARPRate > 0 {
				silent.AskedBy = append(silent.AskedBy, losses.ARP)
			}
			r.Silent = append(r.Silent, silent)
			continue
		case a.Name == "filtered" && o.ARPRate == 0:
			r.Silent = append(r.Silent, losses.Silent{Address: a, AskedBy: []losses.Means{losses.ICMP}})
			continue
		case a.Name == "filtered":
			t.By, t.Sent, t.Reordered = losses.ARP, int64(o.ARPRate*o.For.Seconds()), nil
		case strings.HasPrefix(a.Name, "lossy"):
			t.Lost, t.LongestMS = 13, 1234.5
			t.Gaps = []losses.Gap{{At: at(time.Second), MS: 100}, {At: at(2 * time.Second), MS: t.LongestMS}}
		case a.Name == "slow":
			t.UnwatchedMS = losses.MS(o.For / 2)
		}
		r.Targets = append(r.Targets, t)
	}
	r.Sum()
	if len(r.Targets) == 0 {
		return r, fail.Errorf(fail.Refused, "nothing was measured: none of the targets answered")
	}
	return r, nil
}
