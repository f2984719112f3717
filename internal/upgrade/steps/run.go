package steps

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/job/engine"
)

// runStep is a step in its directory below that of the upgrades.
func runStep(dir string, t engine.Task, w program.Work) (*program.Step, error) {
	name := strings.ReplaceAll(t.Step.ID, "/", "_")
	for _, word := range []string{t.Job, name} {
		if !runIsName(word, "._-") {
			return nil, fmt.Errorf("job %q, step %q: want letters, digits, '.', '_' and '-'", t.Job, t.Step.ID)
		}
	}
	return &program.Step{
		Dir: filepath.Join(dir, "runs", t.Job, name), Attempt: t.Attempt, Log: t.Log, Work: w, Leave: engine.ErrStopping,
	}, nil
}

// runIsName reports whether s can be the name of a file of its own: letters,
// digits and bytes of more, no dot first.
func runIsName(s, more string) bool {
	for i := range len(s) {
		b := s[i]
		if !('0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || strings.IndexByte(more, b) >= 0) {
			return false
		}
	}
	return s != "" && s[0] != '.' && len(s) <= 255
}

// runArgs reads the arguments of a step.
func runArgs(t engine.Task, args any) error {
	if err := json.Unmarshal(t.Step.Args, args); err != nil {
		return fmt.Errorf("step %s: read its arguments: %w", t.Step.ID, err)
	}
	return nil
}

// runProgram is a program of the host.
type runProgram struct {
	helper  program.Helper
	argv    []string
	timeout time.Duration
}

// Do implements program.Work.
func (p *runProgram) Do(ctx context.Context, a *program.Attempt) (program.Result, error) {
	return a.Run(ctx, p.helper, program.Spec{Argv: p.argv, Env: program.Environment(program.UsualPath), Dir: "/", Timeout: p.timeout})
}

// Look implements program.Work.
func (p *runProgram) Look(_ context.Context, last program.Result) (program.Result, error) {
	return last, nil
}

// runOutcome is the error of a step after program.Step.Do.
func runOutcome(what string, r program.Result, err error) error {
	switch {
	case err != nil && r.State == program.Unknown:
		return fmt.Errorf("%s: %w: %w", what, engine.ErrUnclear, err)
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	switch r.State {
	case program.Done:
		return nil
	case program.Failed:
		if r.Why == "" {
			r.Why = "it failed"
		}
		err := fmt.Errorf("%s: %s", what, r.Why)
		if r.Exit > 0 {
			return &engine.Exit{Code: r.Exit, Err: err}
		}
		return err
	case program.NotDone:
		return fmt.Errorf("%s: it was not begun", what)
	}
	return fmt.Errorf("%s: %w: %s", what, engine.ErrUnclear, r.Why)
}
