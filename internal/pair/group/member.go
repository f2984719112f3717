package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"time"

	"holdfast/internal/host/vip"
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

// Address is a member that is a virtual address. While this node holds it by right, it is
// announced, and others that claim it are told of.
type Address struct {
	Name     string
	Restarts int
	VIP      *vip.VIP
	Log      *slog.Logger

	mu  sync.Mutex
	end func() // ends to hold it, and returns when that is so; nil: it is not held
	wg  sync.WaitGroup
}

// Spec is what the core knows of it.
func (a *Address) Spec() pair.Member { return pair.Member{Name: a.Name, Restarts: a.Restarts} }

// State asks the kernel.
func (a *Address) State(context.Context) pair.State {
	held, err := a.VIP.Held()
	switch {
	case err != nil:
		return pair.StateUnknown
	case held:
		return pair.Up
	}
	return pair.Down
}

// Start adds the address. Package ha has proved that the peer does not have it. Nobody waits
// for the answer whether some other machine has it: that one is told of when it answers.
func (a *Address) Start(ctx context.Context) error {
	if err := a.VIP.Add(ctx); err != nil {
		return err
	}
	a.StartUpkeep()
	return nil
}

// StartUpkeep announces the address from now on. It is called while the group runs here.
func (a *Address) StartUpkeep() {
	a.mu.Lock() // so that no Stop is under way
	defer a.mu.Unlock()
	if held, err := a.VIP.Held(); err != nil || !held || a.end != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.end = func() { cancel(); a.wg.Wait() }
	events := make(chan vip.Event, 8)
	a.wg.Go(func() { a.VIP.Hold(ctx, events) })
	a.wg.Go(func() { a.ask(ctx) })
	a.wg.Go(func() {
		for {
			select {
			case e := <-events:
				a.hear(e)
			case <-ctx.Done():
				return
			}
		}
	})
}

// ask asks once whether another machine has the address.
func (a *Address) ask(ctx context.Context) {
	mac, err := a.VIP.Probe(ctx)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, vip.ErrNoLink): // Hold tells that
	case err != nil:
		a.Log.Warn("nobody could be asked who has the virtual address", "member", a.Name, "err", err)
	case mac != nil:
		a.hear(vip.Event{Kind: vip.Conflict, MAC: mac})
	}
}

func (a *Address) hear(e vip.Event) {
	switch e.Kind {
	case vip.Conflict:
		a.Log.Error("another machine claims the virtual address: clients may reach that one", "member", a.Name, "mac", e.MAC.String())
	case vip.Unannounced:
		a.Log.Warn("the virtual address can not be announced", "member", a.Name, "err", e.Err)
	default:
		a.Log.Info("virtual address", "member", a.Name, "event", string(e.Kind))
	}
}

// Stop takes the address off, with its connections.
func (a *Address) Stop(ctx context.Context, _ bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rest()
	return a.VIP.Remove(ctx)
}

// StopUpkeep ends Keep; the address stays.
func (a *Address) StopUpkeep() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rest()
}

func (a *Address) rest() {
	if a.end != nil {
		a.end()
		a.end = nil
	}
}
