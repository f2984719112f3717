package db

import (
	"context"
	"errors"
	"time"

	"holdfast/internal/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/verify"
)

// Verified is what a comparison found.
type Verified struct{ verify.Result }

// Verify compares the target with the source, parallel chunks of rows at a time (0: 4). The
// source must stand still. nova without Conf is not asked. The error may be *Faults.
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
	// The locks keep a run out, whose rows would come in between, and other copies' IDs.
	ctx, unlock, err := x.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := x.copied(ctx); err != nil {
		return nil, err
	}
	var ofAll []string
	if nova.Conf != "" {
		if ofAll, err = nova.leads(ctx, x, plan); err != nil {
			return nil, err
		}
	}
	r, err := verify.Run(ctx, x.mapping, plan, x.source, x.target, x.targetSide, verify.Options{
		Parallel: parallel, Progress: func(p verify.Progress) { tell.Progress(Progress{Compare: &p}) },
	})
	if err == nil && nova.Conf != "" {
		var c verify.CheckResult
		c, err = nova.read(ctx, x, plan, ofAll, tell)
		r.Checks, r.Equal = append(r.Checks, c), r.Equal && c.Holds
	}
	if err != nil {
		return nil, err
	}
	return &Verified{*r}, nil
}

// goOn is what to do with a copy that is followed and has not had its cut-over.
const goOn = "go on with it: holdfast transition db run --follow; where that says that it can not, begin anew: holdfast transition db clean --rows"

// copied looks whether there is a whole copy to be compared, and stages the IDs.
func (x *Alignment) copied(ctx context.Context) error {
	j, err := x.begun(ctx, false, func(string) {}) // it was said
	if err != nil {
		return err
	}
	switch {
	case j != nil && j.Follows && j.State != copier.Done:
		return fail.Errorf(fail.Refused, "the copy that began at %s has not had its cut-over: what was written since is not in the target", j.Begun.Format(time.RFC3339)).With(goOn)
	case j != nil && j.State == copier.Copying:
		return fail.Errorf(fail.Refused, "the copy that began at %s has not ended", j.Begun.Format(time.RFC3339)).With("go on with it: holdfast transition db run")
	}
	return x.stage(ctx)
}
