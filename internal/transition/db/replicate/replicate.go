// Package replicate carries over what is written in the source's databases after their
// rows were copied, until the cut-over. It reads the source's binary log for which rows
// changed, and makes the target's rows anew of what the source has then, by the same
// statements as the copy. So it does not matter how often a change is read: the last
// time counts, and a run that was ended anywhere goes on.
package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// Options of a run.
type Options struct {
	Progress func(Progress)  // at most twice a second; nil: not told
	Quiet    time.Duration   // ends when the end of the log is reached and nothing came for so long; 0: never
	Stop     <-chan struct{} // closed: the run ends when it has carried over what the log has at that moment
	GoesOn   bool            // an end by Stop is no cut-over: the same run goes on later
	Patience time.Duration   // how long servers may be away; 0: 5 minutes
	Throttle copier.Throttle // held before rows are written
	Log      *slog.Logger    // for people: what is out of the ordinary; nil: none
}

// Progress is how far a run is.
type Progress struct {
	Position    string  // in the source's binary log, FILE:POSITION
	LagSeconds  float64 // -1: not known yet
	Events      int64   // read
	RowsChanged int64   // of mapped tables of the source, by table in Tables
	Waits       string  // for what, "" for nothing
	Tables      []Changed
}

// Changed is a mapped table of the source of which rows have changed since the run began.
type Changed struct {
	Table string // as in the mapping
	Rows  int64  // read from the log: one that is read anew after an interruption counts again
}

// Result is what a run did.
type Result struct {
	Transactions int64   `json:"transactions"` // of the source that changed mapped tables
	Rows         int64   `json:"rows"`         // written in the target
	Position     string  `json:"position"`     // in the source's binary log, FILE:POSITION, up to which all is in the target
	Seconds      float64 `json:"seconds"`
}

// Times of a run.
const (
	patience  = 5 * time.Minute
	tick      = 50 * time.Millisecond
	tellEvery = 500 * time.Millisecond
	askEvery  = 200 * time.Millisecond
	noteEvery = time.Second // the position is written to the journal where nothing else is
)

// attempts is how often the target may refuse a batch, each time after the log was read
// up to its end: unique values that go round among rows meanwhile need more than one.
const attempts = 20

// Run follows from where the journal says: a copy must have ended there, begun with a
// position of the binary log. sourceDBs are the names of the plan's databases on the
// source, as when it was made. The error of a context that ended, and any other, leaves
// the journal so that the same run goes on.
func Run(ctx context.Context, m *mapping.Mapping, p *mapping.Plan, source, target *server.Server,
	sourceDBs map[string]string, opt Options) (*Result, error) {
	begun := time.Now()
	if err := same(m, p, sourceDBs); err != nil {
		return nil, err
	}
	locked, unlock, err := copier.Lock(ctx, target)
	if err != nil {
		return nil, stopped(ctx, err)
	}
	defer unlock()
	f, err := begin(locked, p, source, target, opt)
	if err == nil {
		defer f.disconnect()
		err = f.run(locked)
	}
	if err != nil {
		return nil, stopped(locked, err)
	}
	return &Result{Transactions: f.transactions, Rows: f.written, Position: f.at.String(), Seconds: time.Since(begun).Seconds()}, nil
}

// stopped is what err means when the context has ended: nothing failed.
func stopped(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil {
		return fmt.Errorf("following was stopped, the same run goes on: %w", why)
	}
	return err
}

// same reports a plan that was made of other names.
func same(m *mapping.Mapping, p *mapping.Plan, sourceDBs map[string]string) error {
	if len(m.Tables) != len(p.Tables) {
		return fmt.Errorf("mapping %s has %d tables, its plan %d: want a plan without errors", m.Name, len(m.Tables), len(p.Tables))
	}
	for i := range p.Tables {
		for _, t := range p.Tables[i].Reads() {
			logical, _, _ := strings.Cut(t, ".")
			want := sourceDBs[logical]
			if want == "" {
				want = logical
			}
			if got, _ := p.Tables[i].SourceName(t); got != want {
				return fmt.Errorf("table %s: the plan reads database %s of the source, %s is given: want the same", t, got, want)
			}
		}
	}
	return nil
}

// follower is a run.
type follower struct {
	plan           *mapping.Plan
	source, target *server.Server
	opt            Options
	mover          *copier.Mover
	tables         map[[2]string]*table
	fold           bool // the source does not tell large from small letters in names of tables

	at    place // before it all is in the batch, or carried over
	from  place // the last of those from which the log can be read
	here  place // of the next event, by what events told, and their sizes
	last  place // the last event that told its position, also within a transaction
	blind bool  // an event after last told none
	saved place // in the journal
	tried place // in the journal, or not: the reply was lost
	noted time.Time

	conn      *sql.Conn // to the target, with settings of its own
	batch     *batch
	within    bool // a transaction
	xa        bool // it is committed later
	concerned bool // it changed mapped tables

	came     time.Time // the last change of a mapped table
	stamp    uint32    // of the last event, by the source's clock
	idle     bool      // nothing came
	good     time.Time // the last success
	warned   time.Time // of an interruption
	asked    time.Time // for the end of the log
	told     time.Time // progress
	again    place     // up to which the log must be read before the batch is tried again
	failures int       // of the batch, by rows that the target did not take
	left     int       // keys that the target did not take, as last tried one by one
	room     int       // for keys in the batch beside them
	gave     []gaveWay // what is left to be compared
	holes    bool      // the journal has tables whose rows gave way to others
	stop     *place    // the cut-over

	events, changed, transactions, written int64
}

func begin(ctx context.Context, p *mapping.Plan, source, target *server.Server, opt Options) (*follower, error) {
	j, err := copier.ReadJournal(ctx, target.DB)
	switch {
	case err != nil:
		return nil, err
	case j == nil:
		return nil, fmt.Errorf("target: there is no journal in database %s: want the rows copied first", copier.Database)
	case j.State == copier.Copying:
		return nil, errors.New("target: the copy has not ended: want it to go on first")
	case j.File == "":
		return nil, errors.New("target: the journal has no position of the source's binary log: it was off, or not " +
			"to be read, as the copy began: want it on, and " + anew)
	}
	if err := Ready(ctx, source, p); err != nil {
		return nil, err
	}
	at := place{j.File, j.Pos}
	if err := try(ctx, source, at); err != nil {
		return nil, err
	}
	have, err := variables(ctx, source.DB)
	if err != nil {
		return nil, fmt.Errorf("source: its settings: %w", err)
	}
	mover, err := copier.NewMover(ctx, p, source, target)
	if err != nil {
		return nil, err
	}
	if opt.Patience == 0 {
		opt.Patience = patience
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	f := &follower{plan: p, source: source, target: target, opt: opt, mover: mover, at: at, from: at, here: at, last: at, saved: at, tried: at,
		batch: newBatch(p), came: time.Now(), good: time.Now(), fold: have["lower_case_table_names"] != "0", room: hurryAt}
	f.tables = tablesOf(p, f.fold)
	return f, f.gaveWay(ctx)
}

// run reads the log, on one connection after the other as long as they are lost.
func (f *follower) run(ctx context.Context) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		began := time.Now()
		err := f.session(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !passing(err):
			return err
		case f.good.After(began):
			pause = 100 * time.Millisecond
		case time.Since(f.good) > f.opt.Patience:
			return fmt.Errorf("for %s nothing could be carried over; the same run goes on: %w", f.opt.Patience, err)
		}
		if f.good.After(f.warned) { // once, however often it is tried
			f.opt.Log.Warn("following was interrupted, and is tried again", "error", err)
			f.warned = time.Now()
		}
		f.tell(err.Error())
		if !clock.Sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

// session reads the log on one connection; nil: the run has ended as it should.
func (f *follower) session(ctx context.Context) error {
	f.within, f.xa = false, false
	if err := f.compare(ctx); err != nil {
		return err
	}
	s, err := open(ctx, f.source, f.from, f.mapped)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		e, err := s.next(ctx, tick)
		switch {
		case err != nil:
			return told(err, f.at)
		case e != nil:
			if err := f.event(ctx, e); err != nil {
				return err
			}
			if f.batch.size == 0 {
				f.good = time.Now()
			}
		}
		f.idle = e == nil
		if err := f.work(ctx); err != nil {
			return err
		}
		if done, err := f.ended(ctx); done || err != nil {
			return err
		}
		f.tell("")
	}
}

// work carries over what is to be carried over now.
func (f *follower) work(ctx context.Context) error {
	switch {
	case f.failures > 0 && f.batch.size >= f.left+f.room: // with changed rows of joined tables: there may be many, too
		return f.relieve(ctx)
	case f.due():
		return f.carry(ctx)
	}
	return nil
}

// due reports whether the batch is to be carried over now. Within a transaction that is
// larger than memory should hold, it is before its end: the log has it because it was
// committed.
func (f *follower) due() bool {
	switch {
	case f.batch.size == 0: // the position alone: the log may be purged up to there, and Await asks for it
		return !f.within && (f.from.file != f.saved.file || f.saved.before(f.from) && time.Since(f.noted) >= noteEvery)
	case f.failures > 0:
		return !f.within && !f.at.before(f.again) && time.Since(f.batch.since) > batchPeriod
	case f.within:
		return f.batch.size >= f.room
	}
	return f.batch.size >= batchOf || time.Since(f.batch.since) >= batchPeriod
}

// carry carries the batch over. When the target does not take a row it stays, until the
// log is read further.
func (f *follower) carry(ctx context.Context) error {
	err := f.flush(ctx)
	if err == nil {
		f.failures, f.good = 0, time.Now()
		return nil
	}
	if !errors.Is(err, errAgain) {
		return err
	}
	if f.failures++; f.failures > attempts {
		return fatal(fmt.Errorf("in %d attempts up to the end of the log: %w", attempts, err))
	}
	end, ask := now(ctx, f.source)
	if ask != nil {
		return ask
	}
	f.again, f.batch.since = end, time.Now()
	return nil
}

// ended reports whether the run has come to its end, and writes that down.
func (f *follower) ended(ctx context.Context) (bool, error) {
	if f.stop == nil && f.opt.Stop != nil {
		select {
		case <-f.opt.Stop:
			end, err := now(ctx, f.source)
			if err != nil {
				return false, err
			}
			f.stop = &end
		default:
		}
	}
	switch {
	case f.within:
		return false, nil
	case f.stop != nil:
		if f.at.before(*f.stop) {
			return false, nil
		}
	case f.opt.Quiet == 0 || !f.idle || time.Since(f.came) < f.opt.Quiet || time.Since(f.asked) < askEvery:
		return false, nil
	default:
		f.asked = time.Now()
		if end, err := now(ctx, f.source); err != nil || f.at.before(end) {
			return false, err
		}
	}
	if f.batch.size > 0 {
		if f.failures > 0 && !f.due() {
			return false, nil
		}
		if err := f.carry(ctx); err != nil || f.failures > 0 {
			return false, err
		}
	}
	if f.stop != nil && f.opt.GoesOn {
		return true, nil
	}
	if err := f.unbroken(ctx); err != nil {
		return false, err
	}
	return true, f.write(ctx, copier.Done)
}

// toldKeys is how many keys an error has at most.
const toldKeys = 5

// unbroken looks for rows that following has brought, or left, without what they refer to: there
// is no cut-over with them. Where such rows are left out, those are asked for that no rule holds.
func (f *follower) unbroken(ctx context.Context) error {
	var broken []error
	for _, l := range f.plan.Loose() {
		f.tell("looks for rows of " + l.On + " that refer to nothing")
		b, err := server.Question{Rows: l.Rows}.Ask(ctx, f.source, f.target, toldKeys)
		if err != nil {
			return fmt.Errorf("target: rows of %s that refer to nothing: %w", l.On, err)
		}
		if b.Rows == 0 {
			continue
		}
		by, columns, keys := strings.Join(l.Columns, ", "), strings.Join(b.Columns, ", "), strings.Join(b.Keys, "; ")
		e := fail.Errorf(fail.Refused, "%d rows of %s refer by %s to rows of %s that are not there (%s of the first: "+
			"%s): there is no cut-over", b.Rows, l.On, by, l.Table, columns, keys)
		if f.plan.LeavesOrphans() {
			e = fail.Errorf(fail.Refused, "%d rows of %s refer by %s to rows of %s that are gone from the source, "+
				"and this foreign key is none by which rows are left out (%s of the first: %s): there is no cut-over",
				b.Rows, l.On, by, l.Table, columns, keys)
		}
		broken = append(broken, e.With("delete or mend them on the source: the same run goes on"))
	}
	return errors.Join(broken...)
}

// tell tells progress.
func (f *follower) tell(waits string) {
	if f.opt.Progress == nil || time.Since(f.told) < tellEvery {
		return
	}
	f.told = time.Now()
	p := Progress{Position: f.at.String(), Events: f.events, RowsChanged: f.changed, Waits: waits, Tables: changedOf(f.tables)}
	switch {
	case len(f.gave) > 0: // the log is read after that
		p.LagSeconds = -1
	case !f.idle && f.stamp > 0:
		p.LagSeconds = max(0, time.Since(time.Unix(int64(f.stamp), 0)).Seconds())
	}
	if f.failures > 0 && waits == "" {
		p.Waits = "the target does not take a row until the log is read further"
	}
	f.opt.Progress(p)
}
