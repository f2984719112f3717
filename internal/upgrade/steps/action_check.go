package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"holdfast/internal/host/action"
	"holdfast/internal/host/action/program"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade/manifest"
)

// check asks the module's own check what became of an action of which the host
// can not tell. Only its yes counts: what is not done may be half done, and is
// done anew only where that is harmless, or an operator says so.
func (s *actionStep) check(ctx context.Context, was program.Result) (engine.Probed, error) {
	ask := s.module.Actions.Get(manifest.Check)
	if ask == nil || ask.Run == nil {
		runSay(s.t.Log, "nobody can tell whether it was done: %s; module %s has no check", was.Why, s.args.Module)
		return engine.CanNotTell, nil
	}
	runSay(s.t.Log, "the host can not tell whether it was done: %s; the module's check is asked", was.Why)
	r, err := s.ask(ctx, ask)
	switch {
	case ctx.Err() != nil:
		return engine.CanNotTell, fmt.Errorf("%s: ask the module's check: %w", s.what(), errors.Join(err, context.Cause(ctx)))
	case err != nil:
		runSay(s.t.Log, "the check could not be asked: %v", err)
	case r.State == program.Done:
		runSay(s.t.Log, "the check says that it was done")
		return engine.ProbedDone, nil
	default:
		runSay(s.t.Log, "the check does not say that it was done: %s", r.Why)
	}
	return engine.CanNotTell, nil
}

// ask runs the check to its end.
func (s *actionStep) ask(ctx context.Context, ask *manifest.Action) (program.Result, error) {
	n, err := s.all.latest(s.t.Attempt)
	if err != nil {
		return program.Result{}, err
	}
	checks := filepath.Join(s.all.path(n), "check")
	dir := ""
	for i := 1; ; i++ {
		dir = filepath.Join(checks, strconv.Itoa(i))
		if there, err := runExists(dir); err != nil {
			return program.Result{}, fmt.Errorf("look for earlier checks: %w", err)
		} else if !there {
			break
		}
	}
	step := s.hostStep(dir, s.t.Log)
	step.Timeout, step.KillLeftovers = min(s.module.TimeoutOf(manifest.Check), actionCheckWithin), true
	if end, ok := ctx.Deadline(); ok {
		step.Timeout = min(step.Timeout, max(time.Until(end)-actionCheckMargin, time.Second))
	}
	if s.a.Credentials != "" {
		if there, err := runExists(s.a.Credentials); err != nil {
			return program.Result{}, fmt.Errorf("look for the credentials file: %w", err)
		} else if there {
			step.Credentials = s.a.Credentials
		}
	}
	r, err := s.a.Host.Do(ctx, action.Action{Run: ask.Run}, step)
	if err != nil {
		// It changes nothing, so it need not be told apart whether it was begun.
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), runStopWithin)
		defer cancel()
		_, serr := s.a.Host.Stop(late, step)
		if errors.Is(serr, os.ErrNotExist) {
			serr = nil
		}
		err = errors.Join(err, serr)
	}
	return r, err
}
