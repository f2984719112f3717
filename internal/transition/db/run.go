package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/replicate"
	"holdfast/internal/transition/db/survey"
)

// Survey is what a plan found. With Errors nothing can be copied.
type Survey struct {
	*survey.Result
	Advice []string `json:"-"` // of the mapping
	Begun  bool     `json:"-"` // a copy is under way, whose rows the target has
	Full   bool     `json:"-"` // the target has rows that are not of this copy
}

// shownPlaces is how many places a warning that is the same for many names.
const shownPlaces = 5

// Warned are the warnings as lines, in their order: those that say the same of several places in one, with how many.
func (s *Survey) Warned() (lines []string) {
	all := s.Warnings
	places := map[string][]string{}
	for _, f := range all {
		if where := strings.TrimSpace(f.Table + " " + f.Column); where != "" {
			places[f.Text] = append(places[f.Text], where)
		}
	}
	for _, f := range all {
		at := places[f.Text]
		switch {
		case len(at) < 2:
			lines = append(lines, f.Line())
		case strings.TrimSpace(f.Table+" "+f.Column) == at[0]: // the first of them
			more := ""
			if len(at) > shownPlaces {
				at, more = at[:shownPlaces], ", ..."
			}
			lines = append(lines, fmt.Sprintf("%d times: %s (%s%s)", len(places[f.Text]), f.Text, strings.Join(at, ", "), more))
		}
	}
	return lines
}

// Plan makes a plan, of a copy that has begun with the IDs that it began with, whose rows may
// be in the target until its end. Its errors are for PlanError.
func (x *Alignment) Plan(ctx context.Context) (*Survey, error) {
	j, err := copier.ReadJournal(ctx, x.target.DB)
	if err != nil && !denied(err) { // a right that is missing is told by the plan
		return nil, err
	}
	var notes []survey.Finding
	note := func(n string) { notes = append(notes, survey.Finding{Finding: mapping.Finding{Text: n}}) }
	var other []survey.Finding
	if j != nil {
		var refused *fail.Error
		if err := x.ours(j); errors.As(err, &refused) { // as Begin does
			other = append(other, survey.Finding{Finding: mapping.Finding{Text: refused.Message + ": " + refused.Remedy}})
			j = nil
		} else if err != nil {
			return nil, err
		}
	}
	var faults ids.Faults
	if err := x.complete(ctx, j, note); err != nil && (j != nil || !errors.As(err, &faults)) {
		return nil, err
	}
	r, err := x.survey(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		r.Errors = append(r.Errors, survey.Finding{Finding: mapping.Finding{Text: f.Error()}})
	}
	r.Begun = j != nil && (j.State == copier.Copying || j.Follows && j.State != copier.Done)
	if r.Begun { // its rows are this copy's
		r.Errors = slices.DeleteFunc(r.Errors, func(f survey.Finding) bool { return f.NotEmpty })
	}
	r.Errors, r.Warnings = slices.Insert(r.Errors, 0, other...), append(r.Warnings, notes...)
	return r, nil
}

func (x *Alignment) survey(ctx context.Context) (*Survey, error) {
	r, plan, err := survey.Plan(ctx, x.mapping, x.source, x.target, x.sourceDBs, x.targetDBs, x.sets)
	if err != nil {
		return nil, err
	}
	x.plan = plan
	return &Survey{Result: r, Advice: x.mapping.Advice}, nil
}

// Options of a run.
type Options struct {
	Tell
	Parallel          int           // chunks of rows at a time, 1 to 64; 0: 2 to 4
	MaxThreadsRunning int           // on a server; while there are more, it waits; 0: any number
	MaxLag            time.Duration // that the replica may be behind; servers tell whole seconds
	Quiet             time.Duration // following ends when nothing has come for so long; 0: never
	CatchUp           bool          // an end by stop is no cut-over: the same run goes on later
	CutOver           bool          // a copy that has had its cut-over is complete

	// Follow is called when the rows are copied, and calls follow: that carries over what is
	// written to the source, until all is there that was written when stop is closed; when
	// work ends it aborts. nil: the copy is not followed.
	Follow func(ctx context.Context, follow func(work context.Context, stop <-chan struct{}) error) error
}

// Ran is what a run did.
type Ran struct {
	copier.Result
	Complete bool              `json:"complete,omitempty"` // it was whole before: nothing was changed
	Follow   *replicate.Result `json:"follow,omitempty"`
	GoesOn   bool              `json:"goes_on,omitempty"` // the cut-over is still to come
	Advice   []string          `json:"advice"`            // of the mapping
}

// Complete looks whether a run that does not follow finds its copy whole, for which nothing
// is to be done; nil: it does not.
func (x *Alignment) Complete(ctx context.Context, o *Options) (*Ran, error) {
	if o.Follow != nil && !o.CutOver {
		return nil, nil
	}
	j, err := x.journal(ctx)
	switch {
	case err != nil || j == nil || j.State == copier.Copying && !j.Follows || o.Follow != nil && (!j.Follows || j.State != copier.Done):
		return nil, err
	case j.Follows && j.State != copier.Done:
		_, unlock, err := copier.Lock(ctx, x.target) // else it is under way, which is to be said first
		if err != nil {
			return nil, err
		}
		unlock()
		return nil, fail.Errorf(fail.Refused, "the copy that began at %s was begun to be followed, and has not had "+
			"its cut-over", j.Begun.Format(time.RFC3339)).With(goOn)
	}
	rows, err := copier.Rows(ctx, x.target.DB)
	if err != nil {
		return nil, err
	}
	out := &Ran{Complete: true, Result: copier.Result{Resumed: true, Tables: []copier.TableResult{}},
		Advice: append([]string{}, x.mapping.Advice...)}
	for i := range x.mapping.Tables {
		t := &x.mapping.Tables[i]
		out.Tables = append(out.Tables, copier.TableResult{Target: t.Name(), Rows: rows[t.Name()]})
		var any bool
		if err := x.target.DB.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+x.targetSide.Name(t.Target)+")").Scan(&any); err != nil {
			return nil, fmt.Errorf("target: rows of %s: %w", t.Target, err)
		}
		if !any && rows[t.Name()] > 0 {
			return nil, fail.Errorf(fail.Refused, "the copy that began at %s is whole by its journal, and table %s, "+
				"into which it has written %d rows, is empty", j.Begun.Format(time.RFC3339), t.Target,
				rows[t.Name()]).With("to begin anew: holdfast transition db clean --rows")
		}
	}
	return out, nil
}

// Begin looks what stands in the way of a run, which it may not begin while the survey has
// errors. Nothing is written. The rows are not asked again for a copy that has begun: that
// there is a journal of the same plan proves that nothing stood in the way.
func (x *Alignment) Begin(ctx context.Context, o *Options) (*Survey, error) {
	j, err := x.begun(ctx, o.Follow != nil, o.Note)
	if err != nil {
		return nil, err
	}
	if j != nil {
		o.Progress(Progress{Step: "reading both schemas"})
		if x.plan, err = x.replan(ctx); err != nil {
			return nil, err
		}
		r := &Survey{Result: &survey.Result{Tables: []survey.Table{}, Errors: []survey.Finding{}, Warnings: []survey.Finding{}}}
		for _, f := range x.plan.Errors {
			r.Errors = append(r.Errors, survey.Finding{Finding: f})
		}
		return r, nil
	}
	o.Progress(Progress{Step: "reading both schemas, asking the rows"})
	r, err := x.survey(ctx)
	if err != nil {
		return nil, PlanError(err)
	}
	r.Full = slices.ContainsFunc(r.Errors, func(f survey.Finding) bool { return f.NotEmpty })
	return r, nil
}

// replan makes the plan by both schemas alone.
func (x *Alignment) replan(ctx context.Context) (*mapping.Plan, error) {
	side, err := x.source.Side(ctx, x.sourceDBs)
	if err != nil {
		return nil, PlanError(err)
	}
	p := mapping.MakePlan(x.mapping, side, x.targetSide, ids.Known(x.sets))
	return &p, nil
}

// cutOver adds what to do to the error of a copy that has had its cut-over.
func cutOver(err error) error {
	if errors.Is(err, copier.ErrDone) {
		return fail.Errorf(fail.Refused, "%w", err).With("verify it; or to begin anew: holdfast transition db clean --rows")
	}
	return err
}

// Run does what Begin has planned: the IDs, the rows, what is changed meanwhile. When it is
// ended anywhere, the same goes on.
func (x *Alignment) Run(ctx context.Context, o *Options) (*Ran, error) {
	if o.Follow != nil {
		switch err := replicate.Ready(ctx, x.source, x.plan); {
		case commonKind(err) != "":
			return nil, PlanError(err)
		case err != nil:
			return nil, &Faults{"follow", err}
		}
	}
	// To the end: other copies of this source would look their IDs up in the same tables.
	ctx, free, err := copier.Lock(ctx, x.source)
	if err != nil {
		return nil, err
	}
	defer free()
	if err := x.prepare(ctx, o); err != nil {
		return nil, err
	}
	throttle := copier.Throttle{MaxThreadsRunning: o.MaxThreadsRunning, MaxLag: o.MaxLag}
	if x.replica != nil {
		throttle.Replica = x.replica.DB
	}
	res, err := copier.Run(ctx, x.plan, x.hash, x.source, x.target, copier.Options{
		Parallel: o.Parallel, Follows: o.Follow != nil, Throttle: throttle,
		Progress: func(p copier.Progress) { o.Progress(Progress{Copy: &p}) }, Log: o.Log,
	})
	if err != nil {
		return nil, cutOver(err)
	}
	out := &Ran{Result: *res, GoesOn: o.CatchUp, Advice: append([]string{}, x.mapping.Advice...)}
	if o.Follow == nil {
		return out, nil
	}
	err = o.Follow(ctx, func(work context.Context, stop <-chan struct{}) (err error) {
		out.Follow, err = replicate.Run(work, x.mapping, x.plan, x.source, x.target, x.sourceDBs, replicate.Options{
			Quiet: o.Quiet, Stop: stop, GoesOn: o.CatchUp, Throttle: throttle,
			Progress: func(p replicate.Progress) { o.Progress(Progress{Follow: &p}) }, Log: o.Log,
		})
		return err
	})
	return out, cutOver(err)
}

// prepare puts the IDs on the source while no other run can, and looks once more whether
// one has begun meanwhile.
func (x *Alignment) prepare(ctx context.Context, o *Options) error {
	ctx, unlock, err := copier.Lock(ctx, x.target)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := x.begun(ctx, o.Follow != nil, func(string) {}); err != nil { // it was said
		return err
	}
	return x.stage(ctx)
}
