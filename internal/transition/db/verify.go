package db

import (
	"context"
	"errors"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/replicate"
	"holdfast/internal/transition/db/verify"
)

// Verified is what a comparison found.
type Verified struct {
	verify.Result
	Following bool `json:"following,omitempty"` // before the cut-over: what is written to the source is still carried over
}

// Verify compares the target with the source, parallel chunks of rows at a time (0: 4). The
// source must stand still, or a run follow it. nova without Conf is not asked. The error may
// be *Faults.
func (x *Alignment) Verify(ctx context.Context, parallel int, nova Nova, tell Tell) (*Verified, error) {
	if err := nova.fits(x.mapping); err != nil {
		return nil, err
	}
	j, err := x.begun(ctx, false, tell.Note)
	if err != nil {
		return nil, err
	}
	if j == nil {
		tell.Note("the target has no journal of a copy: its rows are compared as they are")
	}
	plan, err := x.replan(ctx) // no rows are looked at
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, f := range plan.Errors {
		faults = append(faults, errors.New(f.Line()))
	}
	if len(faults) > 0 {
		return nil, &Faults{"plan", errors.Join(faults...)}
	}
	opt := verify.Options{Parallel: parallel, Progress: func(p verify.Progress) { tell.Progress(Progress{Compare: &p}) }}
	following, err := x.followed(ctx, j)
	switch {
	case err != nil:
		return nil, err
	case following: // that run has staged the IDs, and holds the locks
		opt.Await = func(ctx context.Context) error { return x.await(ctx, j, tell) }
		if err := opt.Await(ctx); err != nil {
			return nil, err
		}
	default:
		// The locks keep a run out, whose rows would come in between, and other copies' IDs.
		locked, unlock, err := x.lock(ctx)
		if err != nil {
			return nil, err
		}
		defer unlock()
		ctx = locked
		if err := x.copied(ctx); err != nil {
			return nil, err
		}
	}
	var ofAll []string
	if nova.Conf != "" {
		if ofAll, err = nova.leads(ctx, x, plan); err != nil {
			return nil, err
		}
	}
	r, err := verify.Run(ctx, x.mapping, plan, x.source, x.target, x.targetSide, opt)
	if err == nil && nova.Conf != "" {
		var c verify.CheckResult
		c, err = nova.read(ctx, x, plan, ofAll, tell)
		if err == nil && !c.Holds && following { // a guest may have been read while its rows came
			if err = opt.Await(ctx); err == nil {
				c, err = nova.read(ctx, x, plan, ofAll, tell)
			}
		}
		r.Checks, r.Equal = append(r.Checks, c), r.Equal && c.Holds
	}
	if err != nil {
		return nil, err
	}
	return &Verified{*r, following}, nil
}

// followed reports whether a run is under way that follows the source: all rows are copied, and
// what is written is carried over.
func (x *Alignment) followed(ctx context.Context, j *copier.Journal) (bool, error) {
	if j == nil || !j.Follows || j.State != copier.Copied && j.State != copier.Following {
		return false, nil
	}
	return copier.Locked(ctx, x.target)
}

// await waits until all that the source has now is in the target.
func (x *Alignment) await(ctx context.Context, of *copier.Journal, tell Tell) error {
	err := replicate.Await(ctx, x.source, x.target, func(why string) { tell.Progress(Progress{Step: why}) })
	switch {
	case errors.Is(err, replicate.ErrEnded):
		return fail.Errorf(fail.Refused, "%w", err).With(goOn)
	case errors.Is(err, replicate.ErrStill):
		return fail.Errorf(fail.Failed, "%w", err).With("look at that run: its last line says what it waits for")
	case err != nil:
		return err
	}
	j, err := x.begun(ctx, false, func(string) {}) // it was said
	if err == nil && (j == nil || !j.Begun.Equal(of.Begun)) {
		err = fail.Errorf(fail.Refused, "the copy that began at %s is not there any more: another one was "+
			"begun meanwhile", of.Begun.Format(time.RFC3339)).With("verify again when that one has its rows")
	}
	return err
}

// goOn is what to do with a copy that is followed and has not had its cut-over.
const goOn = "go on with it: holdfast transition db run --follow; verify can be run beside it, and after its end. " +
	"Where it says that it can not go on, begin anew: holdfast transition db clean --rows"

// copied looks whether there is a whole copy to be compared, and stages the IDs.
func (x *Alignment) copied(ctx context.Context) error {
	j, err := x.begun(ctx, false, func(string) {}) // it was said
	if err != nil {
		return err
	}
	switch {
	case j != nil && j.Follows && j.State != copier.Done:
		return fail.Errorf(fail.Refused, "the copy that began at %s has not had its cut-over: what was written since "+
			"is not in the target", j.Begun.Format(time.RFC3339)).With(goOn)
	case j != nil && j.State == copier.Copying:
		return fail.Errorf(fail.Refused, "the copy that began at %s has not ended",
			j.Begun.Format(time.RFC3339)).With("go on with it: holdfast transition db run")
	}
	return x.stage(ctx)
}
