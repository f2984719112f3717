package action

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
)

// Step is one attempt of an action.
type Step struct {
	Attempt *program.Attempt // runs the commands; Look needs none
	Bundle  *Bundle          // unpacked
	Values  Values
	Timeout time.Duration // of all of it

	Credentials   string // path of a credentials file, see program.Credentials; "": none
	Terminal      bool   // programs get a terminal and their prompts are answered
	Sudo          bool   // commands are begun by sudo
	KillLeftovers bool   // what a program leaves running is ended
	NoWayBack     bool   // the module can not be rolled back: nothing that it replaces has to be kept
}

// Values are put in place of placeholders, and into the environment.
type Values struct {
	Mode    manifest.Mode
	Version string
	From    string
	Host    string
	Phase   manifest.Phase
	Backup  string // absolute path
	Array   string // address of the storage array; "": none is known
}

// failed is the end of an action that has run nothing.
func failed(why string) program.Result {
	return program.Result{State: program.Failed, Exit: -1, Why: why}
}

// Host carries actions out.
type Host struct {
	Helper program.Helper
	Tools  Tools
	// Packages is where packages of the appctl layout are copied to before their scripts are
	// called, absolute. All directories above it must let every account through.
	Packages string
}

// Tools says where the host's own programs are. The zero value is right for a
// host.
type Tools struct {
	Path      string        // search path; "": the usual directories
	Root      string        // root of the package database; "": /
	Booted    string        // a directory that is there when systemd runs; "": /run/systemd/system
	LockWait  time.Duration // for the package manager's lock; 0: 5 minutes, within the step's timeout
	Namespace string        // of ctr and nerdctl; "": theirs
}

// kind is one kind of action.
type kind interface {
	do(ctx context.Context) (program.Result, error)
	// done looks at the host itself, as program.Look: Done, NotDone, else Unknown.
	done(ctx context.Context, last program.Result) (program.Result, error)
}

func (h *Host) kind(a manifest.Action, s *Step) (kind, error) {
	var out []kind
	if a.Run != nil {
		out = append(out, &runStep{h, a.Run, a.AllHosts, s})
	}
	if a.FileTree != nil {
		out = append(out, &treeStep{a.FileTree, s})
	}
	if a.Systemd != nil {
		out = append(out, &unitStep{h, a.Systemd, s})
	}
	if a.Packages != nil {
		out = append(out, &packageStep{host: h, what: a.Packages, step: s})
	}
	if a.Image != nil {
		out = append(out, &imageStep{h, a.Image, s})
	}
	if a.Appctl != nil {
		out = append(out, &appctlStep{h, a.Appctl, s})
	}
	if a.None {
		out = append(out, nothing{})
	}
	switch {
	case len(out) != 1 || a.Run != nil && len(a.Run) == 0 || a.Appctl != nil && len(a.Appctl.Call) == 0:
		return nil, errors.New("want exactly one of run, fileTree, systemd, packages, image, appctl and none")
	case s.Bundle == nil:
		return nil, errors.New("want a bundle")
	case s.Timeout <= 0:
		return nil, fmt.Errorf("timeout %s: want a positive duration", s.Timeout)
	}
	return out[0], nil
}

// Do carries an action out, by commands of an attempt perhaps. When ctx ends while one runs, it returns
// program.ErrLeft and the command goes on. A result that is not Done is no error: after an error it may have been begun.
func (h *Host) Do(ctx context.Context, a manifest.Action, s Step) (program.Result, error) {
	k, err := h.kind(a, &s)
	if err != nil {
		return program.Result{}, fmt.Errorf("carry an action out: %w", err)
	}
	return k.do(ctx)
}

// Look says what became of an action that does not run, as program.Look.
func (h *Host) Look(ctx context.Context, a manifest.Action, s Step, last program.Result) (program.Result, error) {
	k, err := h.kind(a, &s)
	if err != nil {
		return program.Result{}, fmt.Errorf("look at an action: %w", err)
	}
	return k.done(ctx, last)
}

// nothing is done already.
type nothing struct{}

func (nothing) do(context.Context) (program.Result, error) {
	return program.Result{State: program.Done}, nil
}

func (nothing) done(context.Context, program.Result) (program.Result, error) {
	return program.Result{State: program.Done}, nil
}
