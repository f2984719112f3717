package libvirt

import (
	"context"
	"fmt"
)

// gate lets one call at a time through.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// bounded runs f, which may hang in the kernel (a dead file server, a stuck
// process), and returns when ctx ends at the latest. f then goes on alone until
// the kernel lets it go; the gate keeps others from piling up behind it.
func bounded[T any](ctx context.Context, g gate, what string, f func() (T, error)) (T, error) {
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
