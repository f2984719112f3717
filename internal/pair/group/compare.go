package group

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
)

// The rows of both nodes are compared by the standby: once it has been whole for a while, and then once a day.
const (
	compareFirst = time.Minute
	compareEvery = 24 * time.Hour
	compareAgain = 10 * time.Minute // after a try that failed
)

// comparedName is the file in Database.Dir that has the last comparison of this copy; anewName the one that says that a person wants this
// copy made anew although it follows.
const (
	comparedName = "pair-compared.json"
	anewName     = "pair-anew"
)

// comparison is what a Database knows of it. Its lock is that of the Database.
type comparison struct {
	first  time.Duration         // for which it must have been whole; 0: compareFirst
	last   *cluster.PairCompared // nil: none of this copy
	read   bool                  // last is what the file says
	whole  time.Time             // since when the copy is a whole standby; 0: it is none
	tried  time.Time             // when the last try failed
	failed string                // why
	cancel context.CancelFunc    // of the one that is under way; nil: none is
}

// compared reads the last comparison of a copy; nil when there was none.
func compared(dir string) (*cluster.PairCompared, error) {
	b, err := os.ReadFile(filepath.Join(dir, comparedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &cluster.PairCompared{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fail.Errorf(fail.Failed, "%s: %w", filepath.Join(dir, comparedName), err)
	}
	return c, nil
}

// forgetCompared forgets the comparison of a copy that is replaced by another one.
func (d *Database) forgetCompared() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.comparison.last, d.comparison.read = nil, false
	return removed(filepath.Join(d.Dir, comparedName), filepath.Join(d.Dir, anewName))
}

// anew reports that a person wants this copy made anew although it follows.
func (d *Database) anew() (bool, error) { return there(filepath.Join(d.Dir, anewName)) }

// replaced reports that this copy is to be replaced by one of the peer's: it is none of the pair, or a person wants it so, whose word may
// have been cut short between its two files.
func (d *Database) replaced() (bool, error) {
	known, err := d.known()
	if err != nil || !known {
		return err == nil, err
	}
	return d.anew()
}

// compare begins a comparison when it is time for one, and ends one of a copy that is no whole standby any more. Nothing waits for it.
func (d *Database) compare(whole bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, now := &d.comparison, time.Now()
	if !whole || d.Peer.Host == "" || d.PeerRows == nil {
		c.whole = time.Time{}
		if c.cancel != nil {
			c.cancel()
		}
		return
	}
	if c.whole.IsZero() {
		c.whole = now
	}
	if !c.read {
		last, err := compared(d.Dir)
		if c.last, c.read = last, true; err != nil {
			c.failed = err.Error() // another one is made
		}
	}
	if c.cancel != nil || !c.due(now) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	d.looks.Go(func() {
		defer cancel()
		r, err := d.compareNow(ctx)
		d.mu.Lock()
		defer d.mu.Unlock()
		c.cancel = nil
		switch {
		case err == nil:
			c.last, c.failed, c.tried = &r, "", time.Time{}
		case ctx.Err() == nil:
			c.tried, c.failed = time.Now(), err.Error()
		}
	})
}

// due says whether it is time. A comparison of the future was made before the clock was set back.
func (c *comparison) due(now time.Time) bool {
	switch {
	case now.Sub(c.whole) < cmp.Or(c.first, compareFirst), !c.tried.IsZero() && now.Sub(c.tried) < compareAgain:
		return false
	case c.last == nil:
		return true
	}
	since := now.Sub(c.last.Ended)
	return since < 0 || since >= compareEvery
}

// compareNow compares, and writes down how that ended.
func (d *Database) compareNow(ctx context.Context) (r cluster.PairCompared, err error) {
	peer, end, err := d.PeerRows()
	if err != nil {
		return r, err
	}
	defer end()
	if r, err = d.DB.Compare(ctx, mariadb.Peer{Here: d.Self, There: d.Other, Ask: peer}); err != nil {
		return r, err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	if err := ctx.Err(); err != nil {
		return r, err // the copy may be another one
	}
	return r, durable.WriteFile(filepath.Join(d.Dir, comparedName), b, 0o600)
}

// tidyCompared leaves the tables out of what was not compared that were dropped since, and says what it could not do.
func (d *Database) tidyCompared(ctx context.Context) string {
	d.mu.Lock()
	last := d.comparison.last
	d.mu.Unlock()
	if last == nil || len(last.Left) == 0 {
		return ""
	}
	left, err := d.DB.Left(ctx, last.Left)
	if err != nil {
		return "whether tables that were not compared are still there is not known: " + err.Error()
	}
	now := *last
	now.Left = left
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.comparison.last == last {
		d.comparison.last = &now
	}
	return ""
}

// tellCompared tells people; the lock is held.
func (d *Database) tellCompared(r *cluster.PairReport) {
	c := &d.comparison
	if c.last == nil && c.failed == "" {
		return
	}
	r.Compared = &cluster.PairCompared{Failed: c.failed}
	if c.last != nil {
		*r.Compared = *c.last
		r.Compared.Failed = c.failed
	}
}
