package arbitrate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/ping"
	"holdfast/internal/host/votedisk"
	"holdfast/internal/pair/arbiter"
)

// check returns nil when this node could go on alone. An arbiter that ends nothing at the peer needs a
// watchdog that does. What was known last of it counts while the store does not answer.
func (x *Arbitration) check(ctx context.Context, machine string) error {
	if x.Arbiter.Kind() != arbiter.Fence {
		works, known := guarded(x.core.Status(), x.Peer)
		x.mu.Lock()
		if known {
			x.ends = works
		}
		ends := x.ends
		x.mu.Unlock()
		if !ends {
			return fmt.Errorf("%s has no watchdog that works: nothing ends what it runs", x.Peer)
		}
	}
	return x.Arbiter.Check(ctx, machine)
}

// wins asks the arbiter for a generation.
func (x *Arbitration) wins(ctx context.Context, machine string, gen uint64) (bool, error) {
	if x.Arbiter.Kind() != arbiter.Fence {
		if err := x.check(ctx, machine); err != nil {
			return false, err
		}
	}
	return x.Arbiter.Tiebreak(ctx, machine, gen)
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

// Devices are the peer's fence devices, in their order.
type Devices interface {
	Off(ctx context.Context, machine string) error      // nil: one has switched it off, and shows it off
	ShownOff(ctx context.Context, machine string) error // nil: one shows it off
	Check(ctx context.Context, machine string) error    // nil: all could be used
}

// Fences decide by switching the peer off.
type Fences struct{ Devices Devices }

// Kind implements Arbiter.
func (Fences) Kind() arbiter.Kind { return arbiter.Fence }

// Tiebreak implements Arbiter.
func (f Fences) Tiebreak(ctx context.Context, machine string, _ uint64) (bool, error) {
	err := f.Devices.Off(ctx, machine)
	return err == nil, err
}

// Off implements Arbiter.
func (f Fences) Off(ctx context.Context, machine string) error {
	return f.Devices.ShownOff(ctx, machine)
}

// Check implements Arbiter.
func (f Fences) Check(ctx context.Context, machine string) error {
	return f.Devices.Check(ctx, machine)
}

// Run implements Arbiter.
func (Fences) Run(context.Context) {}

// errNoFence: an arbiter that ends nothing at the peer shows nothing off.
var errNoFence = errors.New("no fence device belongs to this arbiter")

// Times of pings.
const (
	pingEvery = 500 * time.Millisecond
	// answeredWithin is how old an answer may be that counts: three may be lost.
	answeredWithin = 2 * time.Second
)

// Pings are addresses by which a node knows that it is not cut off.
type Pings struct {
	p   *ping.Pinger
	all []*ping.Target
}

// NewPings opens the socket for them.
func NewPings(addrs []string) (*Pings, error) {
	p, err := ping.Open()
	if err != nil {
		return nil, fmt.Errorf("open a socket for pings: %w", err)
	}
	a := &Pings{p: p}
	for _, text := range addrs {
		addr, err := netip.ParseAddr(text)
		if err == nil {
			var t *ping.Target
			t, err = p.Add(addr, pingEvery)
			a.all = append(a.all, t)
		}
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("address to ping: %w", err)
		}
	}
	return a, nil
}

// Kind implements Arbiter.
func (*Pings) Kind() arbiter.Kind { return arbiter.Ping }

// Tiebreak implements Arbiter: it is won while an address answers.
func (a *Pings) Tiebreak(ctx context.Context, machine string, _ uint64) (bool, error) {
	err := a.Check(ctx, machine)
	return err == nil, err
}

// Off implements Arbiter.
func (*Pings) Off(context.Context, string) error { return errNoFence }

// Check implements Arbiter.
func (a *Pings) Check(context.Context, string) error {
	for _, t := range a.all {
		if at := t.Counts().Answered; !at.IsZero() && time.Since(at) < answeredWithin {
			return nil
		}
	}
	return fmt.Errorf("none of the addresses has answered for %s", answeredWithin)
}

// Run implements Arbiter.
func (a *Pings) Run(ctx context.Context) { a.p.Run(ctx) }

// Votes is a disk that both nodes can write.
type Votes struct{ Disk *votedisk.Disk }

// Kind implements Arbiter.
func (Votes) Kind() arbiter.Kind { return arbiter.Disk }

// Tiebreak implements Arbiter: it is won when the disk names this node.
func (d Votes) Tiebreak(ctx context.Context, _ string, gen uint64) (bool, error) {
	return d.Disk.Tiebreak(ctx, gen)
}

// Off implements Arbiter.
func (Votes) Off(context.Context, string) error { return errNoFence }

// Check implements Arbiter.
func (d Votes) Check(ctx context.Context, _ string) error { return d.Disk.Check(ctx) }

// Run implements Arbiter.
func (Votes) Run(context.Context) {}
