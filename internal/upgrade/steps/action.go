package steps

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"time"

	"holdfast/internal/host/action"
	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/durable"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/cache"
	"holdfast/internal/upgrade/check/faults"
	"holdfast/internal/upgrade/command"
)

// Bundles are the bundles of this host.
type Bundles interface {
	// Find returns one that is unpacked. The error wraps fs.ErrNotExist when it is
	// not.
	Find(sha string) (cache.Staged, error)
}

// Action carries out what modules of a bundle do: upgrade.KindAction.
type Action struct {
	Bundles Bundles
	Host    action.Host
	Dir     string // of upgrades, absolute
	// Credentials is the path of a file with answers and secrets, see
	// program.Credentials. "", or a path where nothing is: there is none.
	Credentials string
	AllHosts    AllHosts
	Faults      *faults.Catalogue // nil: those that are built in
	Settle      time.Duration     // after a program that changes all hosts, until it counts that some do not report the new version; 0: 5 s
}

var (
	_ engine.Executor = (*Action)(nil)
	_ engine.Stopper  = (*Action)(nil)
)

// actionStep is one step, and the work of its attempts.
type actionStep struct {
	a      *Action
	args   upgrade.ActionArgs
	module *manifest.Module
	staged cache.Staged
	do     *manifest.Action
	t      engine.Task
	step   *program.Step
	known  *faults.Catalogue
	heard  struct { // by said, which reads once
		file string
		hits []faults.Hit
	}
}

func (a *Action) step(t engine.Task) (*actionStep, error) {
	s := &actionStep{a: a, t: t}
	if err := runArgs(t, &s.args); err != nil {
		return nil, err
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("step %s: "+format, append([]any{t.Step.ID}, args...)...)
	}
	if !command.IsName(s.args.Run, "-") {
		return nil, fail("upgrade %q: want letters, digits and '-'", s.args.Run)
	}
	var err error
	if s.staged, err = a.Bundles.Find(s.args.SHA256); err != nil {
		return nil, fail("find its bundle: %w", err)
	}
	if s.module = s.staged.Manifest.Module(s.args.Module); s.module == nil {
		return nil, fail("bundle %s %s has no module %q", s.staged.Manifest.Name, s.staged.Manifest.Version, s.args.Module)
	}
	if s.do = s.module.Actions.Get(s.args.Phase); s.do == nil || s.args.Phase == manifest.Check {
		return nil, fail("module %s of bundle %s %s does nothing in the phase %q", s.args.Module,
			s.staged.Manifest.Name, s.staged.Manifest.Version, s.args.Phase)
	}
	if s.known = a.Faults; s.known == nil {
		if s.known, err = faults.Builtin(); err != nil {
			return nil, err
		}
	}
	s.step, err = command.Step(a.Dir, t, s.look)
	return s, err
}

// what names the action, for people.
func (s *actionStep) what() string {
	return fmt.Sprintf("%s of module %s", s.args.Phase, s.args.Module)
}

// backupDir is where the module backs itself up.
func (s *actionStep) backupDir() string {
	return filepath.Join(s.a.Dir, "backups", s.args.Run, s.args.Module)
}

// Do implements engine.Executor.
func (a *Action) Do(ctx context.Context, t engine.Task) error {
	s, err := a.step(t)
	if err != nil {
		return err
	}
	if err := durable.MakeDir(s.backupDir()); err != nil {
		return fmt.Errorf("%s: make the directory of its backup: %w", s.what(), err)
	}
	t.Note(s.what(), -1)
	r, err := command.Do(ctx, s.step, s.begin)
	if _, serr := s.said(r); serr != nil {
		program.Say(t.Log, "%v", serr)
	}
	return command.Outcome(s.what(), r, err)
}

// Probe implements engine.Executor. A failure that nobody was told about counts as
// not done: Do then tells it, and begins nothing.
func (a *Action) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	s, err := a.step(t)
	if err != nil {
		return engine.CanNotTell, err
	}
	r, err := s.step.Probe(ctx, false)
	if err != nil {
		return engine.CanNotTell, fmt.Errorf("%s: %w", s.what(), err)
	}
	switch r.State {
	case program.Running:
		return engine.StillRunning, nil
	case program.Done:
		if _, err := s.said(r); err != nil {
			return engine.CanNotTell, fmt.Errorf("%s: %w", s.what(), err)
		}
		return engine.ProbedDone, nil
	case program.NotDone, program.Failed:
		return engine.NotDone, nil
	}
	return s.check(ctx, r)
}

// Stop implements engine.Stopper.
func (a *Action) Stop(ctx context.Context, t engine.Task) error {
	s, err := a.step(t)
	if err != nil {
		return err
	}
	if err := s.step.Stop(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.what(), err)
	}
	return nil
}

// hostStep is an attempt for the host.
func (s *actionStep) hostStep(a *program.Attempt) action.Step {
	return action.Step{
		Attempt: a, Bundle: &s.staged.Bundle, Timeout: s.t.Step.Timeout, NoWayBack: !s.module.CanRollback,
		Values: action.Values{
			Mode: s.args.Mode, Version: s.args.To, From: s.args.From, Host: string(s.t.Host),
			Phase: s.args.Phase, Backup: s.backupDir(), Array: s.args.Engine.Array,
		},
	}
}

// begin does what the bundle says, as an attempt that nobody has begun.
func (s *actionStep) begin(ctx context.Context, a *program.Attempt) (program.Result, error) {
	if s.do.AllHosts {
		if r, over := s.before(ctx); over {
			return r, nil
		}
	}
	step := s.hostStep(a)
	if err := s.credentials(&step); err != nil {
		return program.Result{State: program.Failed, Exit: -1, Why: err.Error()}, nil
	}
	r, err := s.a.Host.Do(ctx, *s.do, step)
	if s.do.AllHosts && err == nil {
		r = s.judge(ctx, r, cmp.Or(s.a.Settle, actionSettle))
	}
	return r, err
}

// look says what became of it, as program.Look.
func (s *actionStep) look(ctx context.Context, last program.Result) (program.Result, error) {
	step := s.hostStep(nil)
	var err error
	if step.Credentials, err = s.a.credentials(); err != nil {
		return program.Result{}, err
	}
	r, err := s.a.Host.Look(ctx, *s.do, step, last)
	if s.do.AllHosts && err == nil {
		r = s.judge(ctx, r, 0)
	}
	return r, err
}

// said is what the attempt's programs have said of trouble, as command.Said.
func (s *actionStep) said(r program.Result) (hits []faults.Hit, err error) {
	if r.OutputFile == s.heard.file {
		return s.heard.hits, nil
	}
	hits, err = command.Said(s.t, s.known, faults.Source{Module: s.args.Module, Phase: string(s.args.Phase)}, r)
	if err == nil {
		s.heard.file, s.heard.hits = r.OutputFile, hits
	}
	return hits, err
}

// terminal reports whether the programs of the bundle ask a person. A bundle that
// was made for Holdfast does not say so and does not; those of other layouts were
// written for an operator at a terminal.
func (s *actionStep) terminal() bool {
	m := s.staged.Manifest
	return s.do.Appctl != nil || s.do.Run != nil && path.Base(s.do.Run[0]) == "upgrade.sh" && len(m.Modules) == 1 && m.Module("cas") != nil
}

// Times of a check, which a probe waits for.
const (
	actionCheckWithin = 45 * time.Second
	actionCheckMargin = 5 * time.Second // of the probe's own time
)
