package copier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// Rows of the source in a chunk.
const (
	firstRows = 10_000
	fewRows   = 1_000
	manyRows  = 100_000
)

// chunkTime is how long a chunk is to take. It bounds what is done twice after a crash,
// how long a stop takes on a server that does not look up, and the undo log.
const chunkTime = time.Second

// chunkLimit is how long a chunk may take: beyond it the statement needs an index.
const chunkLimit = 30 * time.Minute

// table copies what is left of one table.
func (r *run) table(ctx context.Context, s *step) error {
	began := time.Now()
	for {
		r.meter.begin(s.Target, true)
		last, err := r.pass(ctx, s)
		r.meter.begin(s.Target, false)
		if err == nil {
			err = r.try(ctx, "table "+s.Target, func(ctx context.Context) error {
				_, err := r.journal.finish(ctx, s.Target, last, time.Since(began))
				return err
			})
		}
		if !errors.Is(err, errBehind) {
			return err
		}
		r.opt.Log.Warn("the journal is read anew", "table", s.Target, "error", errBehind)
		if _, err := r.tables(ctx); err != nil {
			return err
		}
		if !clock.Sleep(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// pass copies all chunks that the journal has not, and returns the last one's number.
func (r *run) pass(ctx context.Context, s *step) (last int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan chunk)
	size := &pace{fixed: r.opt.ChunkRows}
	size.rows.Store(firstRows)
	var wait sync.WaitGroup
	connections, workers := r.connections, r.opt.Parallel
	if r.serial(s) { // a second chunk would wait for the first, and keep its connection
		l, free, err := take(ctx, r.connections)
		if err != nil {
			return 0, err
		}
		defer free()
		connections, workers = make(chan *connection, 1), 1
		connections <- l
	}
	work := func() {
		w := &worker{run: r, step: s, on: connections}
		for x := range todo {
			if err := w.copy(ctx, x, size); err != nil {
				cancel(err)
				return
			}
		}
	}
	for range workers {
		wait.Go(work)
	}
	last, err = r.scan(ctx, s, size, todo)
	close(todo)
	if err != nil {
		cancel(err)
	}
	wait.Wait()
	return last, context.Cause(ctx)
}

// scan finds the chunks that are left and hands them out.
func (r *run) scan(ctx context.Context, s *step, size *pace, out chan<- chunk) (int64, error) {
	var todo []chunk
	var last chunk
	if err := r.try(ctx, "table "+s.Target, func(ctx context.Context) (err error) {
		todo, last, err = r.journal.open(ctx, s.Target)
		return err
	}); err != nil {
		return 0, err
	}
	give := func(x chunk) error {
		select {
		case out <- x:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, x := range todo {
		if err := give(x); err != nil {
			return 0, err
		}
	}
	for {
		next := chunk{number: last.number + 1, after: last.upto, size: size.next()}
		if err := r.try(ctx, "table "+s.Target, func(ctx context.Context) (err error) {
			next.upto, err = r.bound(ctx, s, next)
			return err
		}); err != nil {
			return 0, err
		}
		if next.upto == nil {
			return last.number, nil
		}
		if err := r.try(ctx, "table "+s.Target, func(ctx context.Context) error {
			err := r.journal.note(ctx, s.Target, next)
			if isDuplicate(err) { // it is there: an answer was lost, or another run has gone on
				err = errBehind
			}
			return err
		}); err != nil {
			return 0, err
		}
		if err := give(next); err != nil {
			return 0, err
		}
		last = next
	}
}

// bound asks for the last key of a chunk; nil: no rows are left.
func (r *run) bound(ctx context.Context, s *step, x chunk) (key, error) {
	var after []string
	if x.after != nil {
		after = x.after.literals(s.key)
	}
	upto := make(key, len(s.key))
	into := make([]any, len(upto))
	for i := range upto {
		into[i] = &upto[i]
	}
	switch err := r.source.DB.QueryRowContext(ctx, s.Bound(after, int(x.size))).Scan(into...); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("source: table %s: %w", s.Source, err)
	}
	return upto, nil
}

// pace finds the size of chunks.
type pace struct {
	fixed int
	rows  atomic.Int64
}

func (p *pace) next() int64 {
	if p.fixed > 0 {
		return int64(p.fixed)
	}
	return p.rows.Load()
}

// took learns from a chunk: the size goes towards chunkTime, twice or half at most.
func (p *pace) took(size int64, d time.Duration) {
	factor := min(2, max(0.5, chunkTime.Seconds()/max(d.Seconds(), 0.001)))
	p.rows.Store(min(manyRows, max(fewRows, int64(float64(size)*factor))))
}

// worker copies chunks of one table, one after another.
type worker struct {
	*run
	step *step
	on   chan *connection // those that its chunks may take

	replace bool // rows of this chunk meet others, which give way
}

// copy brings one chunk into the target, exactly once.
func (w *worker) copy(ctx context.Context, x chunk, size *pace) error {
	what := fmt.Sprintf("table %s, chunk %d (%s of the source %s)", w.step.Target, x.number, strings.Join(w.step.Key, ", "), x)
	return w.try(ctx, what, func(ctx context.Context) error {
		l, free, err := take(ctx, w.on)
		if err != nil {
			return err
		}
		defer free()
		// Asked at last, so that what was said is not old when the chunk begins.
		if err := w.opt.Throttle.Hold(ctx, w.source.DB, w.target.DB, w.meter.waits); err != nil {
			return err
		}
		began := time.Now()
		rows, err := w.attempt(ctx, l, x)
		if isDuplicate(err) && w.opt.Follows && !w.replace {
			// A unique value has gone from a row that was copied to one of this chunk, or two
			// rows have the same: what follows compares the table, and makes rows anew.
			w.opt.Log.Warn("rows gave way to others that have their unique values now", "table", w.step.Target, "chunk", x.number, "error", err)
			l.abandon(ctx)
			w.replace = true
			rows, err = w.attempt(ctx, l, x)
		}
		w.replace = false
		if err != nil {
			l.abandon(ctx)
			return err
		}
		size.took(x.size, time.Since(began))
		w.meter.add(w.step.Target, rows, x.size)
		return nil
	})
}

func (x chunk) String() string {
	if x.after == nil {
		return "up to " + x.upto.String()
	}
	return "after " + x.after.String() + " up to " + x.upto.String()
}

// attempt copies a chunk in one transaction with its row of the journal, which it takes
// first: of those who try the same chunk, also of a dead process whose transaction the
// server has not ended yet, one comes after the other, and sees that it is done.
func (w *worker) attempt(ctx context.Context, l *connection, x chunk) (rows int64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, chunkLimit, errSlow)
	defer cancel()
	defer func() {
		if err != nil && context.Cause(ctx) == errSlow {
			err = errSlow // not one that passes
		}
	}()
	if err := l.prepare(ctx, w.step.foreign); err != nil {
		return 0, err
	}
	began := time.Now()
	tx, err := l.conn.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // after Commit it does nothing
	done, rows, err := held(ctx, tx, w.step.Target, x.number)
	if err != nil || done {
		return rows, err
	}
	cond := w.step.condition(x)
	if rows, err = w.mover.Move(ctx, tx, w.step.Planned, cond, w.replace); err == nil {
		// After the rows, so that none that was read is not asked about.
		err = Known(ctx, w.source.DB, w.step.Planned, cond)
	}
	if err == nil {
		err = x.close(ctx, tx, w.step.Target, rows, time.Since(began))
	}
	if err == nil && w.replace {
		err = gaveWay(ctx, tx, sharing(w.plan, w.step.Table))
	}
	if err == nil {
		err = tx.Commit()
	}
	return rows, err
}

// ErrNoID is that a value is not among the IDs of its kind.
var ErrNoID = errors.New("has no ID")

// Known is an error (ErrNoID) when a row of a condition (as for mapping.Planned.Select) has
// a value without an ID: it would be written as NULL. The plan has found none, but rows
// may have come since then.
func Known(ctx context.Context, source *sql.DB, p *mapping.Planned, more string) error {
	ask := p.Unknown(more)
	if ask == "" {
		return nil
	}
	var one int
	switch err := source.QueryRowContext(ctx, ask).Scan(&one); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("source: IDs: %w", err)
	}
	for _, m := range p.MissingIn(more) {
		values := make([]string, 1+len(p.Key))
		into := make([]any, len(values))
		for i := range values {
			into[i] = &values[i]
		}
		switch err := source.QueryRowContext(ctx, m.First).Scan(into...); {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return fmt.Errorf("source: IDs of %s: %w", m.Kind, err)
		default:
			for i, v := range values[1:] {
				values[1+i] = server.ForPeople(v)
			}
			return fmt.Errorf("column %s: the %s %q of the row with key %s %w: want a line for it among the IDs of "+
				"%s, then the same run again", m.Column, m.Kind, values[0], strings.Join(values[1:], ", "), ErrNoID, m.Kind)
		}
	}
	return nil
}

var errSlow = fmt.Errorf("took longer than %s: does the source have the indexes that the mapping's joins need?", chunkLimit)

// condition is that rows are in a chunk.
func (s *step) condition(x chunk) string {
	var after []string
	if x.after != nil {
		after = x.after.literals(s.key)
	}
	return mapping.Between(mapping.Main, s.Planned.Key, after, x.upto.literals(s.key))
}
