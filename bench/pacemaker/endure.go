package pacemaker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/lib/clock"
)

// Endured is what a time without any fault showed.
type Endured struct {
	For    time.Duration
	Fenced int           // orders to switch a host off: every one is a false alarm
	Outage time.Duration // the longest time in which the client got no answer
	Lost   int           // pings of 20 ms without an answer
	Load   float64       // of the machine, the mean of a minute, at the end
}

// Endure watches the cluster for d, during which nothing is done to it, and
// counts what it does to itself. A host that was switched off is powered on
// again, as an operator would. What load runs meanwhile is the caller's choice.
func (c *Cluster) Endure(ctx context.Context, d time.Duration) (Endured, error) {
	before, err := c.Fenced()
	if err != nil {
		return Endured{}, err
	}
	end := c.watch(ctx)
	started := time.Now()
	var broken error // what the last repair said
	for ctx.Err() == nil && time.Since(started) < d {
		if clock.Sleep(ctx, min(time.Second, d-time.Since(started))) {
			// A host may be switched off again while it is powered on: the next round tries again.
			broken = c.mend(ctx)
		}
	}
	w := end()
	if err := errors.Join(ctx.Err(), broken, w.err); err != nil {
		return Endured{}, fmt.Errorf("watch the cluster under load: %w", err)
	}
	after, err := c.Fenced()
	if err != nil {
		return Endured{}, err
	}
	e := Endured{For: time.Since(started), Fenced: after - before, Outage: w.pings.Longest, Lost: w.pings.Lost}
	e.Load, err = load()
	return e, err
}
