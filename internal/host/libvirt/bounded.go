package libvirt

import (
	"context"
	"fmt"
	"time"
)

// Gate lets one call at a time through.
type Gate chan struct{}

// NewGate returns one that is open.
func NewGate() Gate { return make(Gate, 1) }

// Bounded runs f, which may hang in the kernel (a dead file server, a stuck
// process), and returns when ctx ends at the latest. f then goes on alone until
// the kernel lets it go; the gate keeps others from piling up behind it.
func Bounded[T any](ctx context.Context, g Gate, what string, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	select {
	case g <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%s: an earlier attempt hangs: %w", what, ctx.Err())
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-g }()
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return none, fmt.Errorf("%s: %w", what, r.err)
		}
		return r.v, nil
	case <-ctx.Done():
		return none, fmt.Errorf("%s: no answer: %w", what, ctx.Err())
	}
}

// Share returns the part of ctx's remaining time that a call may use so that the
// caller can still act on its failure, at most limit.
func Share(ctx context.Context, limit time.Duration) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(limit, time.Until(end)*3/4)
	}
	return limit
}
