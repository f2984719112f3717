package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// reapFlag turns the hidden command demo-guest into the janitor:
// demo-guest --reap RUN [DIR].
const reapFlag = "--reap"

// runFile in the demo's directory holds the id of its run. The janitor removes
// no directory without it.
const runFile = "demo.run"

// killLimit bounds how long ending all processes may take.
const killLimit = 10 * time.Second

// runJanitor waits until the demo is gone, seen by the end of in, the pipe that
// only the demo holds open, then ends every process of the run and removes its
// directory. So nothing stays even after a kill -9 of the demo. It does nothing
// when the demo has cleaned up itself.
func runJanitor(args []string, in io.Reader) error {
	if len(args) == 0 || args[0] == "" || len(args) > 2 {
		return fmt.Errorf("demo janitor: arguments %q: want RUN [DIR]", args)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("demo janitor: wait for the end of the demo: %w", err)
	}
	// The deadline starts here: the demo may have run for long.
	ctx, cancel := context.WithTimeout(context.Background(), killLimit)
	defer cancel()
	if err := newMarks(args[0]).Kill(ctx, anyHost); err != nil {
		return fmt.Errorf("demo janitor: %w", err)
	}
	if len(args) == 2 {
		if err := removeRun(args[1], args[0]); err != nil {
			return fmt.Errorf("demo janitor: %w", err)
		}
	}
	return nil
}

// removeRun removes the directory of a run, and only that.
func removeRun(dir, run string) error {
	id, err := os.ReadFile(filepath.Join(dir, runFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil // removed already
	}
	if err != nil {
		return fmt.Errorf("remove the demo's directory: %w", err)
	}
	if string(id) != run {
		return fmt.Errorf("remove the demo's directory: %s belongs to run %q, not to %q", dir, id, run)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the demo's directory: %w", err)
	}
	return nil
}

// janitor is the demo's side of it.
type janitor struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

// startJanitor starts the janitor as a session of its own, so that a signal to
// the terminal's processes does not reach it. remove is the directory to remove
// at the end, "" for none.
func startJanitor(exe, run, remove string) (*janitor, error) {
	args := []string{guestCommand, reapFlag, run}
	if remove != "" {
		args = append(args, remove)
	}
	cmd := exec.Command(exe, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the janitor: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the janitor: %w", err)
	}
	return &janitor{cmd: cmd, pipe: pipe}, nil
}

// Close ends the janitor, which ends what is left of the run.
func (j *janitor) Close() error {
	err := j.pipe.Close()
	if waitErr := j.cmd.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("janitor: %w", waitErr))
	}
	return err
}

// randomID returns a short random name.
func randomID() string { return rand.Text()[:12] }
