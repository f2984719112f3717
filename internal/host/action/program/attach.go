package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/durable"
)

// startWait bounds the start of a helper.
const startWait = 30 * time.Second

// poll is how often a state directory is looked at.
const poll = 50 * time.Millisecond

// Helper says how the helper process is started: Exe, Args, then what Main gets.
type Helper struct {
	Exe  string   // absolute path of this program; /proc/self/exe is the very same version
	Args []string // such as the name of the hidden command

	Env []string // KEY=VALUE, of the helper itself, besides PATH; the program gets none of it

	hook func(stage string) // of tests
}

// Run starts the program and follows it. When ctx ends first, it returns ErrLeft
// and the program goes on; Stop ends it.
func (h Helper) Run(ctx context.Context, dir string, s Spec, out io.Writer) (Result, error) {
	if err := h.Start(ctx, dir, s); err != nil {
		return Result{}, err
	}
	return Attach(ctx, dir, out, 0)
}

// Start begins an attempt in a directory that has none, and makes it. Without an
// error the helper is at work, or has recorded why nothing was begun. After an
// error, Probe says what became of it.
func (h Helper) Start(ctx context.Context, dir string, s Spec) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("start a program: state directory %q: want an absolute path", dir)
	}
	if err := s.check(); err != nil {
		return fmt.Errorf("start a program: %w", err)
	}
	if err := durable.MakeDir(dir); err != nil {
		return fmt.Errorf("start %s: make the state directory: %w", s.Argv[0], err)
	}
	if used, err := exists(dir, fileSpec); err != nil || used {
		return fmt.Errorf("start %s in %s: %w", s.Argv[0], dir, errors.Join(err, ErrBegun))
	}
	if err := writeJSON(dir, fileSpec, s); err != nil {
		return fmt.Errorf("start %s: %w", s.Argv[0], err)
	}
	h.at("spec")
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", s.Argv[0], err)
	}
	defer r.Close()
	if err := h.launch(ctx, dir, w); err != nil {
		return fmt.Errorf("start %s: %w", s.Argv[0], err)
	}
	h.at("launched")
	deadline, _ := ctx.Deadline()
	if err := r.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("start %s: %w", s.Argv[0], err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) }) // fails only when r is closed, so when nobody reads
	defer stop()
	said, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("start %s: wait for its helper: %w", s.Argv[0], errors.Join(err, ctx.Err()))
	}
	if len(said) > 0 {
		return fmt.Errorf("start %s: its helper says: %s", s.Argv[0], said)
	}
	h.at("ready")
	return nil
}

func (h Helper) at(stage string) {
	if h.hook != nil {
		h.hook(stage)
	}
}

// launch starts the detached helper. It closes ready, so that the reader sees
// the end of whoever else has it.
func (h Helper) launch(ctx context.Context, dir string, ready *os.File) (err error) {
	defer func() { err = errors.Join(err, ready.Close()) }()
	// The helper and what it starts outlive this process; none of its files shall.
	if err := unix.CloseRange(3, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark open files close-on-exec: %w", err)
	}
	cmd := exec.CommandContext(ctx, h.Exe, append(append([]string{}, h.Args...), "start", dir)...)
	cmd.Env, cmd.Dir, cmd.ExtraFiles = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, h.Env...), "/", []*os.File{ready}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("start its helper: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Attach follows an attempt to its end. The output is copied to out from the
// byte at offset from on. When ctx ends first, it returns ErrLeft and the program
// goes on.
func Attach(ctx context.Context, dir string, out io.Writer, from int64) (Result, error) {
	t := time.NewTicker(poll)
	defer t.Stop()
	for {
		// First the state, then the output: what is over has written all of it.
		r, err := Probe(dir)
		if err != nil {
			return Result{}, fmt.Errorf("follow a program: %w", err)
		}
		if from, err = copyFrom(dir, out, from); err != nil {
			return Result{}, fmt.Errorf("follow a program: %w", err)
		}
		if r.State != Running {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("follow a program: %w: %w", ErrLeft, context.Cause(ctx))
		case <-t.C:
		}
	}
}

// copyFrom copies the output from a byte on, and returns where it ends now.
func copyFrom(dir string, out io.Writer, from int64) (int64, error) {
	f, err := os.Open(filepath.Join(dir, fileOutput))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return from, fmt.Errorf("read its output: %w", err)
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		from, err = f.Seek(min(from, end), io.SeekStart)
	}
	if err != nil {
		return from, fmt.Errorf("read its output: %w", err)
	}
	n, err := io.Copy(out, f)
	if err != nil {
		return from + n, fmt.Errorf("copy its output: %w", err)
	}
	return from + n, nil
}

// Probe says what became of the attempt in a state directory. It never answers
// NotDone for something that may still begin: it closes the directory first,
// and a helper that is late finds it closed.
func Probe(dir string) (Result, error) {
	there, err := exists(dir, "")
	if err != nil {
		return Result{}, err
	}
	if !there {
		return Result{State: NotDone}, nil // a helper needs its directory to be there
	}
	// The order counts: the helper writes exit.json before it gives the lock up.
	busy, err := locked(dir)
	if err != nil {
		return Result{}, err
	}
	if r, ok, err := readExit(dir); err != nil || ok {
		return r, err
	}
	var b attemptState
	started, err := readJSON(dir, fileBegun, &b)
	switch {
	case err != nil:
		return Result{}, err
	case busy:
		return Result{State: Running, Began: b.Began}, nil
	case !started:
		return closeOff(dir)
	}
	// The helper may have begun, and even ended, since the first look.
	if busy, err = locked(dir); err != nil || busy {
		return Result{State: Running, Began: b.Began}, err
	}
	if r, ok, err := readExit(dir); err != nil || ok {
		return r, err
	}
	return orphan(dir, b)
}

// closeOff makes sure that nothing begins here any more.
func closeOff(dir string) (r Result, err error) {
	f, err := openLock(dir)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }() // and the lock with it
	ok, err := takeLock(f)
	if err != nil {
		return Result{}, err
	}
	if !ok {
		return Result{State: Running}, nil // its helper has come meanwhile
	}
	for _, name := range []string{fileBegun, fileExit} {
		if used, err := exists(dir, name); err != nil || used {
			return Result{State: Running}, err // it came and went meanwhile; the next look tells
		}
	}
	if err := writeJSON(dir, fileClosed, struct{}{}); err != nil {
		return Result{}, err
	}
	return Result{State: NotDone}, nil
}
