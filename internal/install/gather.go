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
	ask := func(h Host, q *Query) error {
		a, err := r.ask(ctx, h, Request{Do: DoGather, Query: q})
		if err == nil && a.Facts == nil {
			err = errors.New("it says nothing")
		}
		if err != nil {
			return fmt.Errorf("ask what it is like: %w", err)
		}
		r.sights[slices.Index(hosts, h)] = sight{host: h, facts: *a.Facts}
		return nil
	}
	if err := r.each(hosts, func(h Host) error { return ask(h, r.query(h)) }); err != nil {
		return err
	}
	// A node that was installed anew is asked once more, as one of the cluster: the disk that both nodes see is theirs.
	known := slices.IndexFunc(r.sights, func(s sight) bool { return s.facts.Installed != nil })
	if known < 0 || r.Config.Pair == nil || r.Config.Pair.Shared == nil {
		return nil
	}
	bare := slices.DeleteFunc(slices.Clone(hosts), func(h Host) bool {
		return r.Config.Pair.Peer(h.Name) == "" || r.sights[slices.Index(hosts, h)].facts.Installed != nil
	})
	return r.each(bare, func(h Host) error {
		q := r.query(h)
		q.Pair.Cluster = r.sights[known].facts.Installed.Cluster
		return ask(h, q)
	})
}
