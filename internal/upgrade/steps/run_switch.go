package steps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/action/program"
	"holdfast/internal/host/backup"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/command"
)

// Switch brings something about by a program of the platform: it switches its HA off or
// on, or switches the services of a hot-standby pair over to this host, starts them or
// stops them here. With a status program the step is done when that says so, else when the
// program has ended with 0.
type Switch struct {
	Helper program.Helper
	Dir    string         // of upgrades, absolute
	Host   cluster.HostID // this one
	Every  time.Duration  // between two looks at a status; 0: 1 s
	Within time.Duration  // for a status program to answer; 0: 30 s
}

var (
	_ engine.Executor = (*Switch)(nil)
	_ engine.Stopper  = (*Switch)(nil)
)

// runKind is what a kind of step brings about.
type runKind struct {
	what   string              // for people
	want   string              // for people
	wanted func(code int) bool // of the status program
	proven bool                // wanted alone does not tell: the program must have ended well
}

var runKinds = map[string]runKind{
	upgrade.KindHAOff:      {"switch HA off", "1 (off)", func(code int) bool { return code == 1 }, false},
	upgrade.KindHAOn:       {"switch HA on", "0 (on)", func(code int) bool { return code == 0 }, false},
	upgrade.KindAppsOff:    {"stop the applications", "1 (off)", func(code int) bool { return code == 1 }, false},
	upgrade.KindAppsOn:     {"start the applications", "0 (on)", func(code int) bool { return code == 0 }, false},
	upgrade.KindPairSwitch: {"switch the pair over to this host", "0 (active)", func(code int) bool { return code == 0 }, false},
	upgrade.KindPairStart:  {"start the pair's services", "0 or 3 (healthy)", runHealthy, false},
	// One that is not healthy may run.
	upgrade.KindPairStop: {"stop the pair's services", "neither 0 nor 3 (stopped)", func(code int) bool { return !runHealthy(code) }, true},
}

func runHealthy(code int) bool { return code == 0 || code == 3 }

// runSwitch is one step.
type runSwitch struct {
	*Switch
	runKind
	program command.Program
	status  []string
	step    *program.Step
}

func (d *Switch) read(t engine.Task) (*runSwitch, error) {
	var args upgrade.SwitchArgs // upgrade.PairArgs is the same
	if err := runArgs(t, &args); err != nil {
		return nil, err
	}
	kind, ok := runKinds[t.Step.Kind]
	if !ok {
		return nil, fmt.Errorf("step %s: nothing is switched by steps of kind %q", t.Step.ID, t.Step.Kind)
	}
	for _, argv := range [][]string{args.Run, args.Status} {
		if len(argv) > 0 && !filepath.IsAbs(argv[0]) {
			return nil, fmt.Errorf("step %s: program %q: want an absolute path", t.Step.ID, argv[0])
		}
	}
	if len(args.Run) == 0 {
		return nil, fmt.Errorf("step %s: it names no program", t.Step.ID)
	}
	step, err := command.Step(d.Dir, t, nil)
	return &runSwitch{d, kind, command.Program{Helper: d.Helper, Argv: args.Run, Timeout: t.Step.Timeout}, args.Status, step}, err
}

// Do implements engine.Executor.
func (d *Switch) Do(ctx context.Context, t engine.Task) error {
	s, err := d.read(t)
	if err != nil {
		return err
	}
	return s.do(ctx, t)
}

// Probe implements engine.Executor.
func (d *Switch) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	s, err := d.read(t)
	if err != nil {
		return engine.CanNotTell, err
	}
	return s.look(ctx, t)
}

// Stop implements engine.Stopper.
func (d *Switch) Stop(ctx context.Context, t engine.Task) error {
	s, err := d.read(t)
	if err != nil {
		return err
	}
	return s.step.Stop(ctx)
}

func (s *runSwitch) do(ctx context.Context, t engine.Task) error {
	p, err := s.step.Past(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", s.what, err)
	}
	if s.status != nil && !s.proven && p.State != program.Running {
		code, err := s.ask(ctx)
		switch {
		case err != nil:
			program.Say(t.Log, "%v", err) // the program itself may be what mends that
		case s.wanted(code):
			program.Say(t.Log, "nothing is to be done: the status is %s", s.want)
			return nil
		}
	}
	t.Note(s.what, -1)
	r, err := s.program.Run(ctx, s.step)
	command.SaidBy(t, r)
	if err := command.Outcome(s.what, r, err); err != nil || s.status == nil {
		return err
	}
	return s.await(ctx, t)
}

// await waits until the status is as wanted, or ctx ends.
func (s *runSwitch) await(ctx context.Context, t engine.Task) error {
	t.Note(s.what+": waits until the status is "+s.want, -1)
	tick := time.NewTicker(cmp.Or(s.Every, time.Second))
	defer tick.Stop()
	for last := ""; ; {
		code, err := s.ask(ctx)
		if err == nil && s.wanted(code) {
			return nil
		}
		now := fmt.Sprintf("%s ended with exit code %d: want %s", s.status[0], code, s.want)
		if err != nil {
			now = err.Error()
		}
		if now != last && ctx.Err() == nil {
			program.Say(t.Log, "%s", now)
			last = now
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: its program has ended with exit code 0, but %s: %w", s.what, cmp.Or(last, now), context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// What shells end with when a program can not be run: it says nothing about the
// status.
const (
	runNoAccess  = 126
	runNoProgram = 127
)

// ask runs the status program and returns its exit code.
func (s *runSwitch) ask(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.Within, 30*time.Second))
	defer cancel()
	_, err := backup.Run(ctx, backup.Command{Path: s.status[0], Args: s.status[1:]})
	var exit *backup.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Code > 0 && exit.Code != runNoAccess && exit.Code != runNoProgram && ctx.Err() == nil:
		return exit.Code, nil
	}
	return -1, fmt.Errorf("ask %s: %w", strings.Join(s.status, " "), err)
}

// look is the probe. Where the program was begun on another host, by an earlier
// coordinator, only the status can tell, if it can.
func (s *runSwitch) look(ctx context.Context, t engine.Task) (engine.Probed, error) {
	here := t.Host == s.Host
	r := program.Result{State: program.Unknown}
	if here {
		var err error
		if r, err = s.step.Probe(ctx, s.status != nil); err != nil {
			return engine.CanNotTell, fmt.Errorf("%s: %w", s.what, err)
		}
	}
	if r.State == program.Running {
		return engine.StillRunning, nil
	}
	command.SaidBy(t, r)
	if s.status != nil {
		code, err := s.ask(ctx)
		if err != nil {
			return engine.CanNotTell, fmt.Errorf("%s: %w", s.what, err)
		}
		if !s.wanted(code) {
			return engine.NotDone, nil // Do tells what failed, or goes on to wait
		}
		if !s.proven {
			return engine.ProbedDone, nil
		}
	}
	switch {
	case r.State == program.Done:
		return engine.ProbedDone, nil
	case slices.Contains([]program.State{program.NotDone, program.Failed}, r.State):
		return engine.NotDone, nil // Do tells what failed
	}
	return engine.CanNotTell, nil
}
