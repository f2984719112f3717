// Package command is what steps of jobs have in common that run programs of this host: where a
// step keeps what it has begun, and what its outcome means to the engine.
package command

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/job/engine"
)

// Step is a step in its directory below dir, absolute, which is that of a tool.
func Step(dir string, t engine.Task, look program.Look) (*program.Step, error) {
	name := strings.ReplaceAll(t.Step.ID, "/", "_")
	for _, word := range []string{t.Job, name} {
		if !IsName(word, "._-") {
			return nil, fmt.Errorf("job %q, step %q: want letters, digits, '.', '_' and '-'", t.Job, t.Step.ID)
		}
	}
	return &program.Step{
		Dir: filepath.Join(dir, "runs", t.Job, name), Attempt: t.Attempt, Log: t.Log, Look: look, Leave: engine.ErrStopping,
	}, nil
}

// IsName reports whether s can be the name of a file of its own: letters,
// digits and bytes of more, no dot first.
func IsName(s, more string) bool {
	for i := range len(s) {
		b := s[i]
		if !('0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || strings.IndexByte(more, b) >= 0) {
			return false
		}
	}
	return s != "" && s[0] != '.' && len(s) <= 255
}

// Program is a program of the host.
type Program struct {
	Helper  program.Helper
	Argv    []string // its absolute path, then its arguments
	Env     []string // KEY=VALUE, beside the usual environment
	Timeout time.Duration
}

// Run does a step that is one program, as Do.
func (p Program) Run(ctx context.Context, s *program.Step) (program.Result, error) {
	return Do(ctx, s, func(ctx context.Context, a *program.Attempt) (program.Result, error) {
		return a.Run(ctx, p.Helper, program.Spec{Argv: p.Argv,
			Env: append(program.Environment(program.UsualPath), p.Env...), Dir: "/", Timeout: p.Timeout})
	})
}

// Do does a step by begin, as an attempt that nobody has begun, or follows what an earlier attempt has begun.
func Do(ctx context.Context, s *program.Step, begin func(context.Context, *program.Attempt) (program.Result,
	error)) (program.Result, error) {
	a, r, err := s.Begin(ctx)
	if err != nil {
		return r, err
	}
	if r.State == program.NotDone {
		r, err = begin(ctx, a)
	} else {
		r, err = s.Follow(ctx, a)
	}
	return s.End(ctx, a, r, err)
}

// Outcome is the error of a step after program.Step.End; what says what was done.
func Outcome(what string, r program.Result, err error) error {
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
