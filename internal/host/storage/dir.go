package storage

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// pipeWait bounds the wait for what a process that has ended has said: a child
// of it may hold its standard error open.
const pipeWait = time.Second

// Touch writes a file of its own into dir, puts it on disk, and reads it back. It
// may block for ever; it is what the process of a Child does, through Serve.
func Touch(dir, host string) error {
	file := filepath.Join(dir, ".holdfast-probe-"+host)
	want := []byte(rand.Text())
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("probe the shared storage: %w", err)
	}
	_, err = f.Write(want)
	if err = errors.Join(err, f.Sync()); err == nil {
		var got []byte
		if got, err = io.ReadAll(io.NewSectionReader(f, 0, int64(len(want)))); err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%s: what was written reads back as something else", file)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("probe the shared storage: %w", err)
	}
	return nil
}

// Serve is what the process of a Child does: it runs Touch, writes a line about it, empty when all is well, and
// does so again for each line that it reads. At the end of what it reads it returns the error of the last one.
func Serve(in io.Reader, out io.Writer, dir, host string) error {
	for asked := bufio.NewReader(in); ; {
		why := ""
		err := Touch(dir, host)
		if err != nil {
			why = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		if _, werr := fmt.Fprintln(out, why); werr != nil {
			return werr
		}
		if _, rerr := asked.ReadString('\n'); rerr != nil {
			return err // nobody asks any more
		}
	}
}

// Child is a check by a process of its own, which runs Serve and stays for the next check: to start this program takes
// longer than to look. It is killed when the context of a check ends, and the next check starts another one; a process
// that the storage does not let go even then is waited for. One that ends without a word has looked once: all is well
// if it ends with 0, else the reason is what it has said to its standard error.
type Child struct {
	argv []string

	mu    sync.Mutex
	runs  *looker // nil: none
	asked bool    // a check is under way
	ended bool
}

// NewChild makes a check by a program.
func NewChild(argv ...string) *Child { return &Child{argv: argv} }

// looker is a process that looks.
type looker struct {
	cmd  *exec.Cmd
	ask  io.WriteCloser
	told *bufio.Reader
	said bytes.Buffer // to its standard error
}

// Check asks the process once. It is for one caller at a time.
func (c *Child) Check(ctx context.Context) error {
	l, again, err := c.begin(ctx)
	if err != nil {
		return err
	}
	keep := context.AfterFunc(ctx, func() { _ = l.cmd.Process.Kill() }) // it may have ended
	why, err := l.told.ReadString('\n')
	killed := !keep()
	if c.stays(err == nil && !killed) {
		if why = strings.TrimSuffix(why, "\n"); why != "" {
			return errors.New(why)
		}
		return nil
	}
	err = l.end()
	switch {
	case killed:
		return ctx.Err()
	case again: // it has ended since the last check, which says nothing of the storage
		return c.Check(ctx)
	}
	return err
}

// stays says whether the process that was asked is kept for the next check.
func (c *Child) stays(answered bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = false
	if !answered || c.ended {
		c.runs = nil
	}
	return c.runs != nil
}

// end waits for the end of a process that was killed, or ends by itself.
func (l *looker) end() error {
	// It may have ended before: nobody reads what it is asked.
	if err := l.ask.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("leave the storage probe: %w", err)
	}
	if err := l.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(l.said.String()))
	}
	return nil
}

// begin starts the process, or asks the one that is there again.
func (c *Child) begin(ctx context.Context) (l *looker, again bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil, false, errors.New("the storage probe has ended")
	}
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	if c.runs != nil {
		if _, err := c.runs.ask.Write([]byte("\n")); err != nil && !errors.Is(err, syscall.EPIPE) {
			return nil, false, fmt.Errorf("ask the storage probe: %w", err)
		}
		c.asked = true
		return c.runs, true, nil
	}
	l = &looker{cmd: exec.Command(c.argv[0], c.argv[1:]...)}
	l.cmd.Stderr, l.cmd.WaitDelay = &l.said, pipeWait
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ask, err := l.cmd.StdinPipe()
	if err != nil {
		return nil, false, fmt.Errorf("the storage probe does not start: %w", err)
	}
	told, err := l.cmd.StdoutPipe()
	if err == nil {
		err = l.cmd.Start()
	}
	if err != nil {
		return nil, false, fmt.Errorf("the storage probe does not start: %w", err)
	}
	l.ask, l.told = ask, bufio.NewReader(told)
	c.runs, c.asked = l, true
	return l, false, nil
}

// End ends the process, for good: a check that is under way returns when it has ended, and no other one is made.
func (c *Child) End() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	l := c.runs
	if l == nil {
		return nil
	}
	err := l.cmd.Process.Kill()
	if c.asked { // the check waits for its end
		return err
	}
	c.runs = nil
	_ = l.end() // that it was killed
	return err
}
