package group

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"holdfast/internal/pair"
)

// Unit is a member that is a unit of systemd. It must not be started by anybody else, at boot
// for example.
type Unit struct {
	Name      string // of the member
	Unit      string
	Restarts  int
	Systemctl string // path of the program
}

// Spec is what the core knows of it.
func (u *Unit) Spec() pair.Member { return pair.Member{Name: u.Name, Restarts: u.Restarts} }

// State asks systemd. A unit that is starting or ending has failed, for now: it does not run,
// and something of it may be there.
func (u *Unit) State(ctx context.Context) pair.State {
	out, err := exec.CommandContext(ctx, u.Systemctl, "show", "--property=ActiveState", "--value", "--", u.Unit).Output()
	if err != nil {
		return pair.StateUnknown
	}
	switch strings.TrimSpace(string(out)) {
	case "active", "reloading":
		return pair.Up
	case "inactive", "failed":
		return pair.Down
	case "activating", "deactivating", "maintenance":
		return pair.Failed
	}
	return pair.StateUnknown
}

// order gives systemd an order about the unit.
func (u *Unit) order(ctx context.Context, args ...string) error {
	return run(ctx, append([]string{u.Systemctl, "--no-ask-password"}, append(args, "--", u.Unit)...))
}

// Start starts it and waits until systemd calls it active.
func (u *Unit) Start(ctx context.Context) error {
	if err := u.order(ctx, "start"); err != nil {
		return fmt.Errorf("start %s: %w", u.Name, err)
	}
	return until(ctx, u, pair.Up, "it runs")
}

// Stop ends it. Hard: all its processes are killed first; the order to stop keeps systemd
// from starting it again.
func (u *Unit) Stop(ctx context.Context, hard bool) error {
	var kerr error
	if hard {
		kerr = u.order(ctx, "kill", "--signal=SIGKILL") // also an error when there is none
	}
	if err := u.order(ctx, "stop"); err != nil {
		return fmt.Errorf("stop %s: %w", u.Name, errors.Join(kerr, err))
	}
	return until(ctx, u, pair.Down, "it is gone")
}
