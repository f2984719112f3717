package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"holdfast/internal/pair"
)

// Unit is a member that is a unit of systemd. It must not be started by anybody else, at boot
// for example.
type Unit struct {
	Name      string // of the member
	Unit      string
	Restarts  int
	Systemctl string // path of the program
	Cgroups   string // where control groups of version 2 are, /sys/fs/cgroup

	mu   sync.Mutex
	last answer // zero: systemd is to be asked
}

// answer is what systemd said of a unit, for as long as its control group is as it was.
type answer struct {
	state  pair.State
	at     time.Time // on the monotonic clock
	group  string    // control group, below Cgroups
	events string    // what the kernel said of the group before systemd was asked
}

// askAgain is for how long systemd's answer stands while the unit's control group has processes, or has none, as
// before. A look at the group costs a system call or two, a question to systemd two processes' work, and there are
// three looks a second. What ends without leaving its group, as an order under way, is seen after this time.
const askAgain = 3 * time.Second

// Spec is what the core knows of it.
func (u *Unit) Spec() pair.Member { return pair.Member{Name: u.Name, Restarts: u.Restarts} }

// State asks systemd, or knows what it would say. A unit that is starting or ending has failed, for now: it does not
// run, and something of it may be there.
func (u *Unit) State(ctx context.Context) pair.State {
	u.mu.Lock()
	defer u.mu.Unlock()
	group := cmp.Or(u.last.group, "/system.slice/"+u.Unit)
	events, known := u.events(group)
	if known && u.last.state != pair.StateUnknown && events == u.last.events && time.Since(u.last.at) < askAgain {
		return u.last.state
	}
	u.last = answer{at: time.Now(), group: group}
	state, at := u.ask(ctx)
	if at != "" && at != group { // its first answer tells where the group is
		u.last.group = at
		return state
	}
	// Where the kernel tells nothing, or something is under way, systemd is asked each time.
	if known && (state == pair.Up && strings.Contains(events, "populated 1") || state == pair.Down &&
		!strings.Contains(events, "populated 1")) {
		u.last.state, u.last.events = state, events
	}
	return state
}

// events is what the kernel says of a control group, "" where there is no such group; not known: it does not tell.
func (u *Unit) events(group string) (text string, known bool) {
	b, err := os.ReadFile(filepath.Join(u.Cgroups, group, "cgroup.events"))
	if err == nil {
		return string(b), true
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	_, err = os.Stat(filepath.Join(u.Cgroups, "cgroup.controllers")) // of version 2
	return "", err == nil
}

// ask asks systemd for the state and the control group, "" where the unit has none now.
func (u *Unit) ask(ctx context.Context) (state pair.State, group string) {
	out, err := exec.CommandContext(ctx, u.Systemctl, "show", "--property=ActiveState,ControlGroup", "--", u.Unit).Output()
	if err != nil {
		return pair.StateUnknown, ""
	}
	for line := range strings.Lines(string(out)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); {
		case name == "ControlGroup":
			group = value
		case name != "ActiveState":
		case value == "active" || value == "reloading":
			state = pair.Up
		case value == "inactive" || value == "failed":
			state = pair.Down
		case value == "activating" || value == "deactivating" || value == "maintenance":
			state = pair.Failed
		}
	}
	return state, group
}

// order gives systemd an order about the unit.
func (u *Unit) order(ctx context.Context, args ...string) error {
	defer u.forget()
	return run(ctx, append([]string{u.Systemctl, "--no-ask-password"}, append(args, "--", u.Unit)...))
}

// forget has the next look ask systemd.
func (u *Unit) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last.state = pair.StateUnknown
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
