package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"holdfast/internal/store"
)

// Times of the reporter.
const (
	reportEvery = 10 * time.Second // a record is written anew, also when nothing has changed
	lookEvery   = 5 * time.Second  // between two looks at the host
	lookWithin  = 20 * time.Second
	writeWithin = 3 * time.Second
)

// Reporter tells the store what this host has.
type Reporter struct {
	Store store.Store
	Look  func(ctx context.Context) (Record, error) // at this host; an error with what could be found out is told in the record
	Log   *slog.Logger

	last    Record
	written time.Time
}

// Run reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		if err := r.report(ctx); err != nil && ctx.Err() == nil {
			r.Log.Debug("report of this host not written", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (r *Reporter) report(ctx context.Context) error {
	lctx, cancel := context.WithTimeout(ctx, lookWithin)
	rec, err := r.Look(lctx)
	cancel()
	if err != nil {
		rec.Problem = err.Error()
	}
	rec.Seq, rec.At = r.last.Seq, r.last.At
	if time.Since(r.written) < reportEvery && reflect.DeepEqual(rec, r.last) {
		return nil
	}
	rec.Seq, rec.At = r.last.Seq+1, time.Now().UTC()
	value, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	wctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if _, _, err := r.Store.Txn(wctx, nil, []store.Op{{Key: recordKey(rec.Host.Name), Value: value}}); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	r.last, r.written = rec, time.Now()
	return nil
}
