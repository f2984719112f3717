// Package copier copies the rows of a plan from the source into the target, chunk by
// chunk of the source's primary keys, each in one transaction with its line in a
// journal. What is there and what is not is never in doubt, whatever dies, and a run
// that was interrupted goes on where it was.
// See docs/adr/0023.
package copier

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/commitwait"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// Options of a run. The zero value is good.
type Options struct {
	Parallel  int            // chunks at a time; 0: as many as there are processors, 2 to 4
	Follows   bool           // replicate.Run comes after it: what is written to the source meanwhile may be in the way of rows
	ChunkRows int            // rows of the source in a chunk, 1 to 1,000,000; 0: as many as take about a second
	Throttle  Throttle       // when to wait
	Progress  func(Progress) // is told how far it is, twice a second at most, and at the end; may be nil
	Log       *slog.Logger   // nil: nothing is logged

	patience time.Duration // how long servers may be away; 0: 5 minutes
}

// Bounds of Options.
const (
	maxParallel  = 64
	maxChunkRows = 1_000_000
	patience     = 5 * time.Minute
)

// Result is what a run did.
type Result struct {
	Tables        []TableResult `json:"tables"`     // all of the plan
	RowsPerSecond float64       `json:"rows_per_s"` // of this run; 0 when there was nothing left to do
	Resumed       bool          `json:"resumed"`    // there was a journal of an earlier run
}

// TableResult is one table of the target.
type TableResult struct {
	Target  string  `json:"target"`
	Rows    int64   `json:"rows"`    // written, by all runs
	Seconds float64 `json:"seconds"` // of the run that ended it
}

// run is one run.
type run struct {
	opt            Options
	source, target *server.Server
	plan           *mapping.Plan
	order          []step
	weights        map[string]int64 // by target: which table is to be begun first
	mover          *Mover
	journal        journal
	meter          *meter
	connections    chan *connection // those that no chunk has now

	mu   sync.Mutex
	last time.Time // something worked
}

// step is one table of a plan.
type step struct {
	*mapping.Planned
	key     []column.Column
	foreign bool     // foreign keys are looked at
	after   []string // targets that are copied before it
}

// Run copies the rows of a plan, whose mapping has the hash. The staged IDs must be there.
// On a target without a journal the plan's tables must be empty; with the journal of the
// same run it goes on; all else is refused before anything is written. The rows are
// those of the source as each chunk is read, which is why a copy from a source that is
// written to needs what follows its binary log, from the position that the journal has.
//
// An error says what stopped it. When ctx ends, what is open is rolled back, and the
// same call goes on later. Servers that are away and come back are waited for.
func Run(ctx context.Context, p *mapping.Plan, mappingHash string, source, target *server.Server, opt Options) (*Result, error) {
	r, err := newRun(p, source, target, opt)
	if err != nil {
		return nil, err
	}
	ctx, unlock, err := Lock(ctx, target)
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer r.hangUp()
	res, err := r.all(ctx, mappingHash)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("stopped: %w; all that is in the target is in its journal, and the same run goes on there", context.Cause(ctx))
	}
	return res, err
}

func newRun(p *mapping.Plan, source, target *server.Server, opt Options) (*run, error) {
	if err := opt.complete(); err != nil {
		return nil, err
	}
	if len(p.Errors) > 0 {
		return nil, fmt.Errorf("the plan has %d errors: it can not be carried out", len(p.Errors))
	}
	r := &run{
		opt: opt, source: source, target: target, plan: p, order: order(p, opt.Follows),
		journal: journal{target.DB}, meter: newMeter(opt.Progress), connections: make(chan *connection, opt.Parallel),
	}
	for range opt.Parallel {
		r.connections <- &connection{db: target.DB, log: opt.Log}
	}
	return r, nil
}

func (o *Options) complete() error {
	o.Parallel = cmp.Or(o.Parallel, min(4, max(2, runtime.NumCPU())))
	if o.Parallel < 1 || o.Parallel > maxParallel {
		return fmt.Errorf("%d chunks at a time: want 1 to %d", o.Parallel, maxParallel)
	}
	if o.ChunkRows < 0 || o.ChunkRows > maxChunkRows {
		return fmt.Errorf("chunks of %d rows: want 1 to %d, or 0", o.ChunkRows, maxChunkRows)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	o.patience = cmp.Or(o.patience, patience)
	return nil
}

// all does the run, under the lock.
func (r *run) all(ctx context.Context, mappingHash string) (*Result, error) {
	resumed := false
	if err := r.try(ctx, "begin", func(ctx context.Context) (err error) {
		resumed, err = r.begin(ctx, mappingHash)
		return err
	}); err != nil {
		return nil, err
	}
	stop := r.meter.start()
	defer stop()
	began := time.Now()
	have, err := r.tables(ctx)
	if err != nil {
		return nil, err
	}
	had := have
	if have, err = r.rest(ctx, have); err != nil {
		return nil, err
	}
	if err := r.try(ctx, "end", r.journal.copied); err != nil {
		return nil, err
	}
	res := &Result{Resumed: resumed, Tables: []TableResult{}}
	var written int64
	for i := range r.plan.Tables {
		t := r.plan.Tables[i].Target
		res.Tables = append(res.Tables, TableResult{t, have[t].rows, have[t].seconds})
		written += have[t].rows - had[t].rows
	}
	if written > 0 {
		res.RowsPerSecond = float64(written) / time.Since(began).Seconds()
	}
	return res, nil
}

// tables reads how far the tables are, and tells the meter.
func (r *run) tables(ctx context.Context) (have map[string]standing, err error) {
	err = r.try(ctx, "journal", func(ctx context.Context) (err error) {
		have, err = r.journal.tables(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, s := range r.order {
		if _, ok := have[s.Target]; !ok { // a target that lost what it had promised to keep, or a hand
			return nil, fmt.Errorf("target: the journal has lost table %s: begin anew: holdfast transition db clean --rows", s.Target)
		}
	}
	r.meter.have(have)
	return have, nil
}

// begin finds out what there is, and makes the journal where there is none.
func (r *run) begin(ctx context.Context, mappingHash string) (resumed bool, err error) {
	if r.mover, err = NewMover(ctx, r.plan, r.source, r.target); err != nil {
		return false, err
	}
	now := r.now(mappingHash)
	then, err := ReadJournal(ctx, r.target.DB)
	if err != nil {
		return false, err
	}
	if r.weights, err = r.sizes(ctx); err != nil {
		return false, err
	}
	if then != nil {
		if err := then.same(now); err != nil {
			return true, err
		}
		return true, r.follows(ctx, then)
	}
	if err := r.apart(ctx); err != nil {
		return false, err
	}
	if err := r.fit(ctx); err != nil {
		return false, err
	}
	// Before the first row is read, so that nothing that changes from here on is missed.
	file, pos, ok, err := r.source.Position(ctx)
	if err != nil {
		return false, err
	}
	if ok {
		now.File, now.Pos = file, pos
		if err := commitwait.Wait(ctx, r.source, file, pos); err != nil && r.opt.Follows {
			return false, err
		}
	}
	now.Follows = r.opt.Follows
	var targets []string
	for _, s := range r.order {
		targets = append(targets, s.Target)
	}
	r.opt.Log.Info("copy begins", "how", string(r.mover.How), "tables", len(targets), "binlog_file", now.File, "binlog_pos", now.Pos)
	return false, r.journal.create(ctx, now, targets, func(note func(target, parent, key string) error) error { return r.leftOut(ctx, note) })
}

// leftOut asks the source for the rows that are left out.
func (r *run) leftOut(ctx context.Context, note func(target, parent, key string) error) error {
	for i := range r.plan.Tables {
		t := &r.plan.Tables[i]
		for _, l := range t.Left {
			err := server.Walk(ctx, r.source.DB, l.Rows, func(row []sql.RawBytes) error {
				key := make([]string, 0, len(row))
				for _, v := range row {
					key = append(key, server.ForPeople(string(v)))
				}
				return note(t.Target, l.Parent, strings.Join(key, ", "))
			})
			if err != nil {
				return fmt.Errorf("rows of %s that are left out: %w", t.Target, err)
			}
		}
	}
	return nil
}

// follows looks whether the journal's run is gone on with as it began. Rows that were in the
// way of others are made anew by what follows.
func (r *run) follows(ctx context.Context, then *Journal) error {
	switch {
	case then.State == Done && r.opt.Follows:
		return then.CutOver()
	case then.State == Done: // all is there, followed or not
		return nil
	case then.Follows == r.opt.Follows:
		return nil
	case then.Follows:
		return fmt.Errorf("%w: it began at %s, was begun to be followed by what the source's binary log has, and has "+
			"not had its cut-over: the same command with --follow goes on", ErrOther, then.Begun.Format(time.RFC3339))
	}
	return r.journal.follow(ctx)
}

// now is the journal that this run would begin.
func (r *run) now(mappingHash string) *Journal {
	j := &Journal{Mapping: mappingHash, Source: r.source.Name(), State: Copying}
	h := sha256.New()
	for i := range r.plan.Tables {
		fmt.Fprintln(h, r.plan.Tables[i].Statement(""))
	}
	j.Plan = hex.EncodeToString(h.Sum(nil))
	return j
}

// same is an error unless a journal is that of a run that now goes on.
func (j *Journal) same(now *Journal) error {
	var what []string
	if j.Mapping != now.Mapping {
		what = append(what, "mapping")
	}
	if j.Source != now.Source {
		what = append(what, fmt.Sprintf("source %s (now %s)", j.Source, now.Source))
	}
	if j.Plan != now.Plan && len(what) == 0 {
		what = append(what, "set of databases, columns, kinds of IDs or skipped tables, although the mapping is the same")
	}
	if len(what) == 0 {
		return nil
	}
	return fmt.Errorf("%w: it began at %s with another %s: go on with what it began with; or begin anew: holdfast transition db clean --rows",
		ErrOther, j.Begun.Format(time.RFC3339), strings.Join(what, ", and another "))
}

// CutOver is the error (ErrDone) of one who would go on with following after the cut-over:
// the new platform may work by then, and what the old one writes would take its rows away.
func (j *Journal) CutOver() error {
	return fmt.Errorf("%w: it was at %s:%d of the source's binary log, and what was written there after it is not "+
		"carried over", ErrDone, j.File, j.Pos)
}

// ErrDone is that a copy that is to be followed has had its cut-over.
var ErrDone = errors.New("this copy has had its cut-over")

// ErrOther is that the target's journal is not of the run that is asked for.
var ErrOther = errors.New("the target has the journal of another copy")

// fit looks whether the target can take the rows: its tables are empty, and have
// transactions.
func (r *run) fit(ctx context.Context) error {
	var full, engines []string
	for _, s := range r.order {
		var n int64
		if err := r.target.DB.QueryRowContext(ctx, s.TargetCount()).Scan(&n); err != nil {
			return fmt.Errorf("target: table %s: %w", s.Target, err)
		}
		if n > 0 {
			full = append(full, fmt.Sprintf("%s has %d", s.Target, n))
		}
		var engine string
		db, name := s.OnTarget()
		if err := r.target.DB.QueryRowContext(ctx, "SELECT COALESCE(ENGINE, '') FROM information_schema.TABLES WHERE "+
			"TABLE_SCHEMA = "+literal(db)+" AND TABLE_NAME = "+literal(name)).Scan(&engine); err != nil {
			return fmt.Errorf("target: engine of table %s: %w", s.Target, err)
		}
		if !strings.EqualFold(engine, "InnoDB") {
			engines = append(engines, fmt.Sprintf("%s is %s", s.Target, engine))
		}
	}
	if len(full) > 0 {
		slices.Sort(full)
		return fmt.Errorf("the target's tables must be empty, and have rows: %s", strings.Join(full, ", "))
	}
	if len(engines) > 0 {
		return fmt.Errorf("the target's tables must be InnoDB, for its transactions: %s", strings.Join(engines, ", "))
	}
	settings, err := server.Named(ctx, r.target.DB, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format')")
	if err != nil {
		return fmt.Errorf("target: ask for its settings: %w", err)
	}
	has := map[string]string{}
	for _, s := range settings {
		has[s["variable_name"]] = s["value"]
	}
	if has["log_bin"] == "ON" && has["binlog_format"] == "STATEMENT" {
		return errors.New("the target writes a binary log with binlog_format STATEMENT, which takes no rows that are " +
			"read without locks: want ROW or MIXED")
	}
	return nil
}

// try does something until it works, as long as errors are those of servers that are
// away or of transactions that met others, and something works in between.
func (r *run) try(ctx context.Context, what string, do func(context.Context) error) error {
	var since time.Time
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := do(ctx)
		r.mu.Lock()
		if err == nil {
			r.last = time.Now()
		} else if since.IsZero() {
			since = time.Now()
		}
		quiet := min(time.Since(since), time.Since(r.last))
		r.mu.Unlock()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !server.Passing(err):
			return fmt.Errorf("%s: %w", what, err)
		case quiet > r.opt.patience:
			return fmt.Errorf("%s: given up after %s without success; the same run goes on where this one was: %w",
				what, quiet.Round(time.Second), err)
		}
		short, _, _ := strings.Cut(what, " (") // without keys, which may be long
		r.opt.Log.Warn("tries again", "at", short, "error", err)
		r.meter.waits(err.Error())
		if !clock.Sleep(ctx, pause) {
			return context.Cause(ctx)
		}
		r.meter.waits("")
	}
}
