package mariadb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"holdfast/internal/procfs"
)

// Command is a server that is a child of this process, in a session of its own. It ends
// with this process: it is for tests and laboratories.
type Command struct {
	Path string   // of mariadbd
	Args []string // --defaults-file has to be the first
	Log  string   // path of a file to which its output is appended; "": nowhere

	mu    sync.Mutex
	id    procfs.ID
	ended chan struct{} // closed when it has ended and is collected; nil: never started
}

// Start starts it. It is an error when it runs.
func (c *Command) Start(ctx context.Context, extraArgs []string) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.alive() {
		return fmt.Errorf("%s runs already, as process %d", c.Path, c.id.PID)
	}
	cmd := exec.Command(c.Path, slices.Concat(c.Args, extraArgs)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if c.Log != "" {
		log, err := os.OpenFile(c.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, log.Close()) }()
		cmd.Stdout, cmd.Stderr = log, log
	}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		// The kernel takes the end of the thread that started it for ours.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		id := procfs.ID{}
		if err == nil {
			var p procfs.Proc
			// Nobody but this goroutine collects it: the pid is its own until then.
			if p, err = procfs.Here.Read(cmd.Process.Pid); err != nil {
				err = errors.Join(err, cmd.Process.Kill())
			}
			id = p.ID
		}
		c.id = id // before started: the caller holds the lock until then
		started <- err
		if cmd.Process != nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	err = <-started
	c.ended = ended
	return err
}

// alive reports whether it runs. The lock is held.
func (c *Command) alive() bool {
	if c.ended == nil {
		return false
	}
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// Process is its process.
func (c *Command) Process(context.Context) (procfs.ID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.alive() {
		return procfs.ID{}, fmt.Errorf("%s: %w", c.Path, procfs.ErrGone)
	}
	return c.id, nil
}

// Kill9 kills it and waits for its end.
func (c *Command) Kill9(ctx context.Context) error {
	id, err := c.Process(ctx)
	if errors.Is(err, procfs.ErrGone) {
		return nil
	}
	if err == nil {
		err = procfs.Here.Kill(ctx, id)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	select {
	case <-ended: // so that the next Start finds none
		return nil
	case <-ctx.Done():
		return fmt.Errorf("collect process %d: %w", id.PID, ctx.Err())
	}
}
