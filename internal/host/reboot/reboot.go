// Package reboot restarts this host, once, and tells boots apart.
//
// A reboot can not be reported by the process that asks for it. So it is asked
// for by boot id: a request that is repeated after the host has come back finds
// another boot id and does nothing.
package reboot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options of a Host.
type Options struct {
	Command []string      // program and arguments that order the reboot and return; default systemctl reboot
	BootID  string        // file with the boot id; default /proc/sys/kernel/random/boot_id
	Timeout time.Duration // for the command; default 1 min
}

// Host is this host.
type Host struct{ opt Options }

// Errors that callers branch on.
var (
	// ErrGuests: guests have a process on the host.
	ErrGuests = errors.New("guests run on this host")
	// ErrDone: the host was rebooted since.
	ErrDone = errors.New("the host has been rebooted already")
	// ErrNotOrdered: the command was not started, so the host does not go down
	// because of it.
	ErrNotOrdered = errors.New("no reboot was ordered")
)

// New returns the host. It does not run the command.
func New(opt Options) (*Host, error) {
	if len(opt.Command) == 0 {
		opt.Command = []string{"systemctl", "reboot"}
	}
	if opt.Command[0] == "" || strings.Contains(opt.Command[0], "/") && !filepath.IsAbs(opt.Command[0]) {
		return nil, fmt.Errorf("reboot command %q: want a program by its name or absolute path", opt.Command)
	}
	opt.BootID = cmp.Or(opt.BootID, "/proc/sys/kernel/random/boot_id")
	opt.Timeout = cmp.Or(opt.Timeout, time.Minute)
	if opt.Timeout < 0 {
		return nil, fmt.Errorf("timeout of the reboot command %v: want more than 0", opt.Timeout)
	}
	return &Host{opt: opt}, nil
}

// Boot returns the boot id: another one after each reboot.
func (h *Host) Boot() (string, error) {
	b, err := os.ReadFile(h.opt.BootID)
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if id == "" {
		return "", fmt.Errorf("read the boot id: %s is empty", h.opt.BootID)
	}
	return id, nil
}

// Request asks for a reboot.
type Request struct {
	Boot   string   // boot id that shall end; needed
	Guests []string // names of guests that have a process on the host: with any it is refused
}

// Reboot orders the reboot. nil: it was ordered, and this process will be ended;
// that the host has come back is told by its boot id only. ErrNotOrdered: nothing
// was done; with ErrDone because it has been rebooted since the request, with
// ErrGuests because it was refused. After any other error the host may still go
// down: the command may have been heard.
func (h *Host) Reboot(ctx context.Context, r Request) error {
	ctx, cancel := context.WithTimeout(ctx, h.opt.Timeout)
	defer cancel()
	if err := h.may(ctx, r); err != nil {
		return fmt.Errorf("reboot: %w: %w", ErrNotOrdered, err)
	}
	what := strings.Join(h.opt.Command, " ")
	cmd := exec.CommandContext(ctx, h.opt.Command[0], h.opt.Command[1:]...)
	cmd.WaitDelay = time.Second // what it leaves in the background may keep its output open
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("reboot: %w: %s: %w", ErrNotOrdered, what, err)
	}
	err := cmd.Wait()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return fmt.Errorf("reboot: %s: %w: %s", what, err, strings.TrimSpace(said.String()))
}

// may tells why the order must not be given.
func (h *Host) may(ctx context.Context, r Request) error {
	if r.Boot == "" {
		return errors.New("the boot id that shall end is not given")
	}
	now, err := h.Boot()
	switch {
	case err != nil:
		return err
	case now != r.Boot:
		return fmt.Errorf("%w: its boot id is %s, not %s", ErrDone, now, r.Boot)
	case len(r.Guests) > 0:
		return fmt.Errorf("%w: %s", ErrGuests, strings.Join(r.Guests, ", "))
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}
