package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// Times of the reporter.
const (
	reportEvery = 10 * time.Second // a record is written anew, also when nothing has changed
	lookEvery   = 5 * time.Second  // between two looks at the host
	lookWithin  = 20 * time.Second
	writeWithin = 3 * time.Second
	claimAgain  = 2 * time.Second
	claimWithin = reportEvery + lookEvery // one that reports does so within; a slow one is noticed by its next write
)

// ErrConflict: another agent runs under this host's name.
var ErrConflict = errors.New("another agent uses this host's name")

// Reporter tells the store what this host has.
type Reporter struct {
	Store  store.Store
	Look   func(ctx context.Context) (Record, error) // at this host; an error with what could be found out is told in the record
	Claims *Claim                                    // nil: it need not be found out whether the name is used twice
	Log    *slog.Logger

	once    sync.Once
	asked   chan chan<- struct{} // for a report at once; what is sent is closed after it
	last    Record
	mod     int64 // revision of the record in the store, where names are claimed; 0: there is none
	written time.Time
}

// asks is the channel of those who want a report at once.
func (r *Reporter) asks() chan chan<- struct{} {
	r.once.Do(func() { r.asked = make(chan chan<- struct{}, 1) })
	return r.asked
}

// Soon has a report made at once: something has changed here.
func (r *Reporter) Soon() {
	select {
	case r.asks() <- make(chan struct{}):
	default: // somebody else has asked
	}
}

// Renew has a report made, and waits until it was tried, or ctx ends.
func (r *Reporter) Renew(ctx context.Context) {
	made := make(chan struct{})
	select {
	case r.asks() <- made:
	case <-ctx.Done():
		return
	}
	select {
	case <-made:
	case <-ctx.Done():
	}
}

// Claim is how this host's records are told from those of another one that has
// the same name: a copied disk or settings file.
type Claim struct {
	Host    cluster.HostID
	Install string // random id of the installation
	Boot    string // boot id
}

func (c *Claim) is(r Record) bool { return r.Host.Install == c.Install && r.Host.Boot == c.Boot }

// Claim returns when the record of this host's name is of this boot of this
// installation, or nobody writes it: not a host that has the same name, nor the one
// from which this one's disk was copied. It returns ErrConflict when somebody does,
// and nil when ctx has ended. A reboot costs the
// wait for one report.
func (r *Reporter) Claim(ctx context.Context) error {
	if r.Claims == nil {
		return nil
	}
	var since time.Time // the record has been as it is
	var mod int64
	for ctx.Err() == nil {
		rec, now, err := r.read(ctx)
		switch {
		case err != nil:
			r.Log.Warn("wait for the store", "err", err)
		case now == 0 || r.Claims.is(rec):
			r.mod, r.last.Seq = now, rec.Seq
			return nil
		case mod != 0 && now != mod:
			return r.conflict(rec)
		case mod == 0:
			mod, since = now, time.Now()
			r.Log.Info("wait whether another host reports under this one's name", "host", r.Claims.Host, "boot",
				rec.Host.Boot, "install", rec.Host.Install)
		case time.Since(since) >= claimWithin:
			r.mod, r.last.Seq = now, rec.Seq
			return nil
		}
		clock.Sleep(ctx, claimAgain)
	}
	return nil
}

func (r *Reporter) conflict(rec Record) error {
	return fmt.Errorf("%w: host %q reports from %s (boot %s, installation %s). This agent has installation %s; give "+
		"one of the two another name and an empty data_dir",
		ErrConflict, r.Claims.Host, rec.Addr, rec.Host.Boot, rec.Host.Install, r.Claims.Install)
}

// read gives the record of this host's name, and its revision; 0: there is none.
func (r *Reporter) read(ctx context.Context) (Record, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	key := RecordKey(r.Claims.Host)
	kv, ok, err := r.Store.Get(ctx, key)
	if err != nil || !ok {
		return Record{}, 0, err
	}
	rec, err := DecodeRecord(key, kv.Value)
	if err != nil {
		r.Log.Warn("the report of this host can not be read, and is written anew", "err", err)
		return Record{}, kv.ModRev, nil
	}
	return rec, kv.ModRev, nil
}

// Run reports until ctx ends. It returns ErrConflict when somebody else does so
// under this host's name.
func (r *Reporter) Run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	made := make(chan<- struct{})
	for {
		err := r.report(ctx)
		close(made)
		if errors.Is(err, ErrConflict) {
			return err
		} else if err != nil && ctx.Err() == nil {
			r.Log.Debug("report of this host not written", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case made = <-r.asks():
		case <-t.C:
			made = make(chan<- struct{})
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
	err = r.write(ctx, rec)
	if errors.Is(err, errMeanwhile) { // the record is its own: the answer was lost
		err = r.write(ctx, rec)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	r.last, r.written = rec, time.Now()
	return nil
}

// write writes the record, after its own one before where names are claimed.
func (r *Reporter) write(ctx context.Context, rec Record) error {
	value, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	key := RecordKey(rec.Host.Name)
	var conds []store.Cmp
	if r.Claims != nil {
		conds = []store.Cmp{{Key: key, Rev: r.mod}}
	}
	wctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	rev, ok, err := r.Store.Txn(wctx, conds, []store.Op{{Key: key, Value: value}})
	if ok {
		r.mod = rev
	}
	if ok || err != nil {
		return err
	}
	// Its own write before, whose answer was lost, or somebody else's, or an
	// operator has removed it.
	now, mod, err := r.read(ctx)
	if err == nil && mod != 0 && !r.Claims.is(now) {
		return r.conflict(now)
	}
	if err != nil {
		return err
	}
	r.mod = mod
	return errMeanwhile
}

// errMeanwhile: the record was not as this host had written it.
var errMeanwhile = errors.New("the record was changed meanwhile")
