//go:build bench

package bench

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"holdfast/internal/transition/pin"
	"holdfast/internal/transition/pin/bridge"
	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

// TestPin measures how long it takes to pin a bridge of 2,000 flows and to end that, each with its
// looks before and its read-back.
func TestPin(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	const flows, runs, name = 2000, 9, "br-int"
	s := ovstest.New(t)
	s.Bridge(t, name, "OpenFlow10,OpenFlow13,OpenFlow14")
	s.Host(t, name, 1)
	s.Host(t, name, 2)
	var all []string
	for i := range flows {
		all = append(all, fmt.Sprintf("table=%d,priority=77,ct_state=+est-rel-rpl,tcp,reg5=0x%x,nw_src=10.%d.%d.0/24,tp_dst=0x%x/0xfff0 actions=ct(commit,zone=NXM_NX_REG6[0..15]),resubmit(,%d)", i%8*10, i, i>>8, i&0xff, 0x10*(i&0xff), i%8*10+10))
	}
	s.Add(t, name, 1, all...)
	ctx := try.Context(t)
	var pins, unpins []time.Duration
	for range runs {
		begun := time.Now()
		r, err := bridge.Pin(ctx, pin.Order{Bridge: name, For: time.Minute})
		try.Must(t, err)
		pinned := time.Now()
		end, err := bridge.Unpin(ctx, pin.Order{Bridge: name, Force: true})
		try.Must(t, err)
		if r.Flows != flows || end.Removed != flows+r.Ports {
			t.Fatalf("%d flows pinned, %d removed: want %d and %d", r.Flows, end.Removed, flows, flows+r.Ports)
		}
		pins, unpins = append(pins, pinned.Sub(begun)), append(unpins, time.Since(pinned))
	}
	show := func(d []time.Duration) string {
		slices.Sort(d)
		return fmt.Sprintf("%.2f (%.2f-%.2f)", d[len(d)/2].Seconds(), d[0].Seconds(), d[len(d)-1].Seconds())
	}
	result(t, "a bridge of %d flows, %d times, seconds, median (least-most): pin %s, unpin --force %s", flows, runs, show(pins), show(unpins))
}
