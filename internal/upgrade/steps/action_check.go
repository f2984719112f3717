package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job/engine"
)

// check asks the module's own check what became of an action of which the host
// can not tell. Only its yes counts: what is not done may be half done, and is
// done anew only where that is harmless, or an operator says so.
func (s *actionStep) check(ctx context.Context, was program.Result) (engine.Probed, error) {
	ask := s.module.Actions.Get(manifest.Check)
	if ask == nil || ask.Run == nil {
		program.Say(s.t.Log, "nobody can tell whether it was done: %s; module %s has no check", was.Why, s.args.Module)
		return engine.CanNotTell, nil
	}
	program.Say(s.t.Log, "the host can not tell whether it was done: %s; the module's check is asked", was.Why)
	r, err := s.ask(ctx, ask)
	switch {
	case ctx.Err() != nil:
		return engine.CanNotTell, fmt.Errorf("%s: ask the module's check: %w", s.what(), errors.Join(err, context.Cause(ctx)))
	case err != nil:
		program.Say(s.t.Log, "the check could not be asked: %v", err)
	case r.State == program.Done:
		program.Say(s.t.Log, "the check says that it was done")
		return engine.ProbedDone, nil
	default:
		program.Say(s.t.Log, "the check does not say that it was done: %s", r.Why)
	}
	return engine.CanNotTell, nil
}

// ask runs the check to its end.
func (s *actionStep) ask(ctx context.Context, ask *manifest.Action) (program.Result, error) {
	return s.step.Ask(ctx, func(ctx context.Context, a *program.Attempt) (r program.Result, err error) {
		step := s.hostStep(a)
		step.Timeout, step.KillLeftovers = min(s.module.TimeoutOf(manifest.Check), actionCheckWithin), true
		if end, ok := ctx.Deadline(); ok {
			step.Timeout = min(step.Timeout, max(time.Until(end)-actionCheckMargin, time.Second))
		}
		if step.Credentials, err = s.a.credentials(); err != nil {
			return r, err
		}
		return s.a.Host.Do(ctx, *ask, step)
	})
}
