package group

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
	"holdfast/internal/pair"
)

// Program is a member that programs start, stop and look at, as a unit of systemd is by
// systemctl.
type Program struct {
	Name     string
	Restarts int
	StartCmd []string
	StopCmd  []string // asks it to end
	KillCmd  []string // ends it at once; StopCmd without one
	Status   []string // exit code 0: it runs; 3: nothing of it is there; else it has failed
}

// exitGone is the exit code of a status program for a service that does not run, of the
// Linux Standard Base and of systemctl.
const exitGone = 3

// lookAgain is between two looks at a program that starts or stops.
const lookAgain = 50 * time.Millisecond

// Spec is what the core knows of it.
func (p *Program) Spec() pair.Member { return pair.Member{Name: p.Name, Restarts: p.Restarts} }

// State asks the status program.
func (p *Program) State(ctx context.Context) pair.State {
	err := run(ctx, p.Status)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return pair.Up
	case errors.As(err, &exit) && exit.ExitCode() == exitGone:
		return pair.Down
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return pair.Failed
	}
	return pair.StateUnknown
}

// Start starts it and waits until its status is good.
func (p *Program) Start(ctx context.Context) error {
	if err := run(ctx, p.StartCmd); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	return until(ctx, p, pair.Up, "it runs")
}

// Stop ends it and waits until it is gone.
func (p *Program) Stop(ctx context.Context, hard bool) error {
	cmd := p.StopCmd
	if hard && len(p.KillCmd) > 0 {
		cmd = p.KillCmd
	}
	if err := run(ctx, cmd); err != nil {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	return until(ctx, p, pair.Down, "it is gone")
}

// until waits until a member is in a state.
func until(ctx context.Context, m Member, want pair.State, what string) error {
	for m.State(ctx) != want {
		if !clock.Sleep(ctx, lookAgain) {
			return fmt.Errorf("%s: its status does not say that %s: %w", m.Spec().Name, what, ctx.Err())
		}
	}
	return nil
}

// run runs a program; its errors have what it said last.
func run(ctx context.Context, args []string) error {
	cmd := proc.Foreign(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		said := strings.TrimSpace(string(out))
		return fmt.Errorf("%s: %w: %s", args[0], err, said[max(0, len(said)-300):])
	}
	return nil
}
