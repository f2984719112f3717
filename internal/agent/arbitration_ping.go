package agent

import (
	"context"
	"fmt"
	"net/netip"
	"time"

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

// byPings has addresses decide. guard is that of unforced.
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
	x.pings = a
	x.unforced(arbiter.Ping, func(context.Context) error { return a.lately() }, guard)
	x.win = func(ctx context.Context, machine string, _ uint64) (bool, error) {
		err := x.check(ctx, machine)
		return err == nil, err
	}
	return nil
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
