package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"holdfast/internal/host/action/program"
)

// Action is what is to be done: exactly one of Run, FileTree, Systemd, Packages,
// Image and None.
type Action struct {
	Run      []string // a program of the bundle, then arguments with placeholders
	FileTree *FileTree
	Systemd  *Systemd
	Packages *Packages
	Image    *Image
	None     bool
}

// FileTree swaps Target for the directory Source of the bundle. In the phase
// rollback the old directory comes back, in the phase commit it is given up.
type FileTree struct{ Source, Target string }

// Systemd asks for one thing about units.
type Systemd struct{ Stop, Start, Restart []string }

// Packages installs those files of the bundle that fit the package manager of the
// host. In the phase preCheck they are only looked at: whether what they replace
// could be brought back. In the phase backup the versions are recorded and the
// packages that are installed now are kept, as far as the manager's cache has them;
// in the phase rollback they come back.
type Packages struct{ Deb, RPM []string }

// Image loads a container image from a file of the bundle.
type Image struct{ File, Tag string }

// Phases that a built-in tells apart; in all others it does its work.
const (
	PhasePreCheck = "preCheck"
	PhaseBackup   = "backup"
	PhaseRollback = "rollback"
	PhaseCommit   = "commit"
)

// Step is one attempt of an action.
type Step struct {
	Dir     string  // state directory of this attempt, absolute; made when absent
	Bundle  *Bundle // unpacked
	Values  Values
	Timeout time.Duration // of all of it
	Log     io.Writer     // gets what commands say, as they say it, binary and all

	Credentials   string // path of a credentials file, see program.Credentials; "": none
	Terminal      bool   // programs get a terminal and their prompts are answered
	Sudo          bool   // commands are begun by sudo
	KillLeftovers bool   // what a program leaves running is ended
}

// Values are put in place of placeholders, and into the environment.
type Values struct {
	Mode    string // offline or rolling
	Version string
	From    string
	Host    string
	Phase   string
	Backup  string // absolute path
}

// failed is the end of an action that has run nothing.
func failed(why string) program.Result {
	return program.Result{State: program.Failed, Exit: -1, Why: why}
}

// Host carries actions out.
type Host struct {
	Helper program.Helper
	Tools  Tools
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

// builtin is an action that can look whether it was done.
type builtin interface {
	do(ctx context.Context) (program.Result, error)
	// done looks at the host itself. It answers Done or NotDone, else Unknown.
	done(ctx context.Context) (program.Result, error)
}

// builtin returns nil for Run.
func (h *Host) builtin(a Action, s *Step) (builtin, error) {
	var out []builtin
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
	if a.None {
		out = append(out, nothing{})
	}
	switch {
	case len(out) == 0 && len(a.Run) > 0:
		return nil, nil
	case len(out) == 1 && a.Run == nil:
		return out[0], nil
	}
	return nil, errors.New("want exactly one of run, fileTree, systemd, packages, image and none")
}

func (s *Step) check() error {
	switch {
	case !filepath.IsAbs(s.Dir):
		return fmt.Errorf("state directory %q: want an absolute path", s.Dir)
	case s.Bundle == nil || s.Log == nil:
		return errors.New("want a bundle and a log")
	case s.Timeout <= 0:
		return fmt.Errorf("timeout %s: want a positive duration", s.Timeout)
	}
	return nil
}

// Do carries an action out. When ctx ends while a command runs, it returns
// program.ErrLeft and the command goes on; Stop ends it. A result that is not
// Done is no error: after an error the action may have been begun, and Probe says
// what became of it.
func (h *Host) Do(ctx context.Context, a Action, s Step) (program.Result, error) {
	b, err := h.builtin(a, &s)
	if err = errors.Join(err, s.check()); err != nil {
		return program.Result{}, fmt.Errorf("carry an action out: %w", err)
	}
	if b == nil {
		return h.run(ctx, a.Run, &s)
	}
	return b.do(ctx)
}

// Probe says what became of an action that was begun with this step, by another
// process of the agent perhaps.
func (h *Host) Probe(ctx context.Context, a Action, s Step) (program.Result, error) {
	b, err := h.builtin(a, &s)
	if err = errors.Join(err, s.check()); err != nil {
		return program.Result{}, fmt.Errorf("look at an action: %w", err)
	}
	r, err := last(s.Dir)
	if err != nil || b == nil || r.State == program.Running {
		return r, err
	}
	return b.done(ctx)
}

// Attach follows a running action to its end. The log gets what the command has
// said from the byte at offset from on.
func (h *Host) Attach(ctx context.Context, a Action, s Step, from int64) (program.Result, error) {
	b, err := h.builtin(a, &s)
	if err = errors.Join(err, s.check()); err != nil {
		return program.Result{}, fmt.Errorf("follow an action: %w", err)
	}
	n, err := count(s.Dir)
	if err != nil {
		return program.Result{}, err
	}
	if n > 0 {
		r, err := program.Attach(ctx, numbered(s.Dir, n), s.Log, from)
		if err != nil || b == nil || r.State != program.Done {
			return r, err
		}
	}
	return h.Probe(ctx, a, s)
}

// Stop ends a running action and returns when it is over.
func (h *Host) Stop(ctx context.Context, s Step) (program.Result, error) {
	n, err := count(s.Dir)
	if err != nil || n == 0 {
		return program.Result{State: program.NotDone}, err
	}
	r, err := program.Stop(ctx, numbered(s.Dir, n))
	return r, err
}

// An action may need several commands, one after the other. Each has a numbered
// directory below that of the step.

func numbered(dir string, n int) string { return filepath.Join(dir, strconv.Itoa(n)) }

// count returns the number of the last command.
func count(dir string) (int, error) {
	for n := 0; ; n++ {
		_, err := os.Lstat(numbered(dir, n+1))
		if errors.Is(err, os.ErrNotExist) {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("look at the commands of a step: %w", err)
		}
	}
}

// last probes the last command; without one, nothing was begun.
func last(dir string) (program.Result, error) {
	n, err := count(dir)
	if err != nil {
		return program.Result{}, err
	}
	r, err := program.Probe(numbered(dir, max(n, 1)))
	return r, err
}

// nothing is done already.
type nothing struct{}

func (nothing) do(context.Context) (program.Result, error) {
	return program.Result{State: program.Done}, nil
}
func (nothing) done(context.Context) (program.Result, error) {
	return program.Result{State: program.Done}, nil
}
