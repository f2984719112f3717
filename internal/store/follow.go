package store

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// followAgain is the pause between two attempts to follow keys.
const followAgain = time.Second

// Again calls follow until ctx ends, with a pause of 1 s between two calls. Its errors are
// logged, at level debug, with what they mean.
func Again(ctx context.Context, log *slog.Logger, means string, follow func(context.Context) error) {
	for ctx.Err() == nil {
		if err := follow(ctx); err != nil && ctx.Err() == nil {
			log.Debug(means, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
	}
}

// Follow lists the keys with a prefix, which may take within, and then gives their changes in
// their order. It returns when ctx ends or the watch breaks; what was listed is then to be
// listed anew.
func Follow(ctx context.Context, st Store, prefix string, within time.Duration, listed func([]KV), changed func(Batch)) error {
	lctx, cancel := context.WithTimeout(ctx, within)
	kvs, rev, err := st.List(lctx, prefix)
	cancel()
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	listed(kvs)
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := st.Watch(wctx, prefix, rev+1)
	for b := range w.C() {
		changed(b)
	}
	return w.Err()
}
