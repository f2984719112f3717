package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/ping"
	"holdfast/internal/pair/arbiter"
)

// Times of pings.
const (
	pingEvery = 500 * time.Millisecond
	// answeredWithin is how old an answer may be that counts: three may be lost.
	answeredWithin = 2 * time.Second
)

// answers are the addresses by which a node knows that it is not cut off.
type answers struct {
	p   *ping.Pinger
	all []*ping.Target
}

// byPings has addresses decide. guard tells whether a watchdog ends what the peer runs; known is
// false while the store does not answer: then what was told last counts.
func (x *arbitration) byPings(addrs []string, guard func() (works, known bool)) error {
	p, err := ping.Open()
	if err != nil {
		return fmt.Errorf("open a socket for pings: %w", err)
	}
	a := &answers{p: p}
	for _, text := range addrs {
		addr, err := netip.ParseAddr(text)
		if err == nil {
			var t *ping.Target
			t, err = p.Add(addr, pingEvery)
			a.all = append(a.all, t)
		}
		if err != nil {
			p.Close()
			return fmt.Errorf("address to ping: %w", err)
		}
	}
	x.by, x.pings = arbiter.Ping, a
	ends := false // what the peer runs ends without it
	x.check = func(context.Context, string) error {
		works, known := guard()
		x.mu.Lock()
		defer x.mu.Unlock()
		if known {
			ends = works
		}
		if !ends {
			return fmt.Errorf("%s has no watchdog that works: nothing ends what it runs", x.peer)
		}
		return x.pings.lately()
	}
	x.fence = x.check
	x.off = func(context.Context, string) error { return errors.New("an address that answers shows nobody off") }
	return nil
}

// guarded reports that a watchdog of the host works, as its record has it.
func guarded(st cluster.Status, host cluster.HostID) (works, known bool) {
	for _, h := range st.Hosts {
		if h.Name == host {
			return h.Guard != 0 && !h.HandsOff, st.Connected && h.Alive
		}
	}
	return false, false
}

// lately is nil when one of the addresses has answered.
func (a *answers) lately() error {
	for _, t := range a.all {
		if at := t.Counts().Answered; !at.IsZero() && time.Since(at) < answeredWithin {
			return nil
		}
	}
	return fmt.Errorf("none of the addresses has answered for %s", answeredWithin)
}
