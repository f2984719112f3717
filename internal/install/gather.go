package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// gather asks hosts what they are like.
func (r *run) gather(ctx context.Context, hosts []Host) error {
	r.sights = make([]sight, len(hosts))
	return r.each(hosts, func(h Host) error {
		a, err := r.ask(ctx, h, Request{Do: DoGather, Query: r.query(h)})
		if err == nil && a.Facts == nil {
			err = errors.New("it says nothing")
		}
		if err != nil {
			return fmt.Errorf("ask what it is like: %w", err)
		}
		r.sights[slices.Index(hosts, h)] = sight{host: h, facts: *a.Facts}
		return nil
	})
}
