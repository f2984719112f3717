// Package supervise keeps one child process running that outlives its keeper:
// the store member and the holder of the watchdog must not end because the
// agent is restarted, upgraded or killed.
//
// The child has a session of its own, no open files of the agent but its log,
// and only the environment that it is given. A later Keep finds it again by
// process id, start time and boot, or by a mark in its environment, and adopts
// it. A service manager that ends whole control groups must be told to end the
// main process only (systemd: KillMode=process).
//
// The directory holds NAME.json (the record), NAME.log and NAME.log.1 (the
// child's output) and NAME.lock (held while Keep runs).
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
)

// Pauses between the end of a child and its next start: doubled each time, and
// begun anew after a child that lived for steady.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	steady     = 10 * time.Second
)

// maxLog is the size in bytes above which the log is put aside at a start.
const maxLog = 8 << 20

// markVar is the variable in the child's environment that tells whose it is.
const markVar = "HOLDFAST_SUPERVISED"

// ErrKept means that another Keep holds this name in this directory.
var ErrKept = errors.New("kept by a running process")

// Spec says what to keep running.
type Spec struct {
	Name string   // of the files in Dir; no slash
	Exe  string   // absolute path
	Args []string // without the program's name
	Env  []string // KEY=VALUE, the whole environment of the child
	Dir  string   // absolute path; made when absent
	Log  *slog.Logger
}

func (s Spec) check() error {
	switch {
	case s.Name == "" || strings.ContainsAny(s.Name, "/\x00"):
		return fmt.Errorf("keep a child: name %q is empty or has a slash", s.Name)
	case !filepath.IsAbs(s.Exe):
		return fmt.Errorf("keep %s: program %q is not an absolute path", s.Name, s.Exe)
	case !filepath.IsAbs(s.Dir):
		return fmt.Errorf("keep %s: directory %q is not an absolute path", s.Name, s.Dir)
	case s.Log == nil:
		return fmt.Errorf("keep %s: no logger given", s.Name)
	}
	return nil
}

// Run adopts the living child or starts one, and starts it again whenever it
// ends, until ctx ends. Then it returns nil and leaves the child running; Stop
// ends that. After ctx has ended it starts none. It fails at once with ErrKept or
// when the spec or the directory is unusable. A child that can not be started is tried again, not an error.
func Run(ctx context.Context, spec Spec) (err error) {
	if err := spec.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return fmt.Errorf("keep %s: make directory: %w", spec.Name, err)
	}
	unlock, err := lock(spec.Dir, spec.Name)
	if err != nil {
		return fmt.Errorf("keep %s: %w", spec.Name, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()

	k := &keeper{spec: spec, log: spec.Log.With("child", spec.Name)}
	if k.rec, err = readRecord(spec.Dir, spec.Name); err != nil {
		// A torn record can not come from writeRecord. The mark still finds the child.
		k.log.Warn("record of the child is unreadable, ignored", "err", err)
		k.rec = record{}
	}
	return k.run(ctx)
}

// keeper is one running Keep.
type keeper struct {
	spec Spec
	log  *slog.Logger
	rec  record
}

func (k *keeper) run(ctx context.Context) error {
	p, err := k.adopt()
	if err != nil {
		return fmt.Errorf("keep %s: look for a living child: %w", k.spec.Name, err)
	}
	if p == nil && k.rec.PID != 0 {
		k.note("unknown, ended while nobody kept it")
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if p == nil && ctx.Err() != nil {
			return nil // nobody would look after it
		}
		if p == nil {
			p, err = k.start()
		}
		if err != nil {
			k.log.Error("child not started, trying again", "err", err, "after", pause)
		} else {
			began := time.Now()
			exit, ended, werr := p.wait(ctx)
			if !ended {
				// ctx is over or the kernel does not let us watch; the child lives on.
				return errors.Join(werr, p.release())
			}
			if time.Since(began) >= steady {
				pause = firstPause
			}
			k.log.Warn("child ended, starting it again", "pid", p.id.PID, "exit", exit, "after", pause)
			k.note(exit)
		}
		p, err = nil, nil
		if !clock.Sleep(ctx, pause) {
			return nil
		}
	}
}

// note records the end of a child.
func (k *keeper) note(exit string) {
	k.rec.LastExit, k.rec.LastExitAt = exit, time.Now()
	k.rec.ident = ident{}
	k.rec.Restarts++
	if err := writeRecord(k.spec.Dir, k.spec.Name, k.rec); err != nil {
		k.log.Warn("end of the child not recorded", "err", err)
	}
}

// adopt finds the child that an earlier keeper started. A child whose command
// line is not the one wanted now is adopted too: to end it could be worse than
// to leave it until its next start.
func (k *keeper) adopt() (*process, error) {
	id, ok, err := find(k.spec.Dir, k.spec.Name, k.rec)
	if err != nil || !ok {
		return nil, err
	}
	p, err := watch(id)
	if errors.Is(err, proc.ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	args, err := proc.Here.Args(id.PID)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read command line of process %d: %w", id.PID, err), p.release())
	}
	if want := k.argv(); !slices.Equal(args, want) {
		k.log.Warn("adopted child runs with other arguments than wanted now; they count from its next start", "pid",
			id.PID, "has", args, "want", want)
	}
	k.log.Info("child adopted", "pid", id.PID)
	if k.rec.ident != id {
		k.rec.ident, k.rec.Args, k.rec.Since = id, args, time.Now()
		if err := writeRecord(k.spec.Dir, k.spec.Name, k.rec); err != nil {
			return nil, errors.Join(fmt.Errorf("record adopted child: %w", err), p.release())
		}
	}
	return p, nil
}

func (k *keeper) argv() []string { return append([]string{k.spec.Exe}, k.spec.Args...) }

func (k *keeper) start() (*process, error) {
	out, err := openLog(k.spec.Dir, k.spec.Name)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	// Files that Go opened close on exec; this covers those that the agent itself
	// inherited or that a library opened.
	if err := unix.CloseRange(3, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("mark open files close-on-exec: %w", err)
	}
	marked, err := mark(k.spec.Dir, k.spec.Name)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path:        k.spec.Exe,
		Args:        k.argv(),
		Env:         append(slices.Clone(k.spec.Env), marked),
		Dir:         "/", // keeps no mount busy
		Stdout:      out,
		Stderr:      out,
		SysProcAttr: &unix.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", k.spec.Exe, err)
	}
	p, err := watchChild(cmd)
	if err != nil {
		return nil, fmt.Errorf("watch the started child: %w", err)
	}
	k.rec.ident, k.rec.Args, k.rec.Since = p.id, k.argv(), time.Now()
	if err := writeRecord(k.spec.Dir, k.spec.Name, k.rec); err != nil {
		// The mark in its environment finds the child without the record.
		k.log.Warn("start of the child not recorded", "err", err)
	}
	k.log.Info("child started", "pid", p.id.PID)
	return p, nil
}

// openLog opens the child's log for appending, and begins a new one when it has
// become too long.
func openLog(dir, name string) (*os.File, error) {
	file := filepath.Join(dir, name+".log")
	if info, err := os.Stat(file); err == nil && info.Size() > maxLog {
		if err := os.Rename(file, file+".1"); err != nil {
			return nil, fmt.Errorf("put log of the child aside: %w", err)
		}
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of the child: %w", err)
	}
	return f, nil
}
