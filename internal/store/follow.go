package store

import (
	"context"
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
