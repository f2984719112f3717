package probe

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/store"
)

// clock is the time since the run began as this host knows it: it counts on from a
// reading in the store by its monotonic clock, so that a wall clock that is wrong or
// jumps does no harm. Every host keeps the reading in the store fresh, for those that
// begin anew: these look often until it changes, and are exact from then on. A host may
// be behind the truth, and is never before it. A time in which no agent runs at all
// does not count.
type clock struct {
	at     time.Time     // with a monotonic reading
	passed time.Duration // then
}

// of gives a moment of this process in the time of the run.
func (c *clock) of(t time.Time) time.Duration { return c.passed + t.Sub(c.at) }

// reach sets the clock to a reading that is ahead of it, and returns by how much it
// was behind.
func (c *clock) reach(reading time.Duration) time.Duration {
	behind := max(0, reading-c.of(time.Now()))
	c.passed += behind
	return behind
}

// reading is how long the run takes, as a host has told it last.
type reading struct {
	Passed int64 `json:"passed"` // ms since the run began
}

// readClock also gives the revision of the reading.
func (w *watcher) readClock(ctx context.Context) (passed time.Duration, rev int64, err error) {
	r, kv, _, _, err := ask[reading](ctx, w.Service, clockKey(w.run), "") // one that can not be read is renewed at once
	if err != nil {
		return 0, 0, fmt.Errorf("read how long the run takes: %w", err)
	}
	return millis(r.Passed), kv.ModRev, nil
}

// setClock sets the clock when this host begins.
func (w *watcher) setClock(ctx context.Context, old record) (err error) {
	passed, rev, err := w.readClock(ctx)
	if err == nil {
		w.clock.reach(max(passed, old.passed()))
		w.heard, w.exact = rev, false
	}
	return err
}

// tick compares this host's clock with the reading in the store, and renews that when
// it is old. Time of which this host knows nothing, it has not watched.
func (w *watcher) tick(ctx context.Context) error {
	passed, rev, err := w.readClock(ctx)
	if err != nil {
		return err
	}
	w.exact = w.exact || rev != w.heard
	behind := w.clock.reach(passed)
	for _, g := range w.guests {
		g.own.unwatched += behind
	}
	now := w.clock.of(time.Now())
	if now-passed < w.saves {
		return nil
	}
	op, err := encode(clockKey(w.run), reading{now.Milliseconds()})
	if err != nil {
		return err
	}
	wctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	conds := []store.Cmp{{Key: clockKey(w.run), Rev: rev}, {Key: planKey(w.run), Rev: w.made, Create: true}}
	if _, _, err := w.Store.Txn(wctx, conds, []store.Op{op}); err != nil {
		return fmt.Errorf("write how long the run takes: %w", err)
	}
	return nil // not written: another host was faster, or another run has begun
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
