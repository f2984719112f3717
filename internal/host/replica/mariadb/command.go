package mariadb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"holdfast/internal/lib/proc"
)

// Command is a server that this program starts itself, as a process in a session of its own.
// It goes on when this process ends, and the next one finds it by a mark in its environment.
type Command struct {
	Path    string   // of mariadbd
	Args    []string // --defaults-file has to be the first
	Datadir string   // the server's, absolute: nothing else runs on it
	Log     string   // path of a file to which its output is appended; "": nowhere
	User    string   // of the system, as which it runs; "": as this process
	Tied    bool     // it ends with this process, as tests need it

	mu    sync.Mutex
	id    proc.ID // of the server that was found last
	begun int64   // size of the log when a server was started
}

// markName is the variable in the environment of a server that has its data directory.
const markName = "HOLDFAST_DATABASE"

// Start starts it. It is an error when it runs.
func (c *Command) Start(ctx context.Context, extraArgs []string) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id, err := c.find(); err == nil {
		return fmt.Errorf("%s runs already, as process %d", c.Path, id.PID)
	} else if !errors.Is(err, proc.ErrGone) {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	cmd := proc.Foreign(context.Background(), c.Path, slices.Concat(c.Args, extraArgs)...) // it outlives ctx
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", markName + "=" + c.Datadir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.Tied {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if cmd.SysProcAttr.Credential, err = Credential(c.User); err != nil {
		return err
	}
	if c.Log != "" {
		log, err := os.OpenFile(c.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, log.Close()) }()
		cmd.Stdout, cmd.Stderr = log, log
		if c.begun, err = log.Seek(0, io.SeekEnd); err != nil {
			return err
		}
	}
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that started it for ours.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			var p proc.Proc
			// Nobody but this goroutine collects it: the pid is its own until then.
			if p, err = proc.Here.Read(cmd.Process.Pid); err != nil {
				err = errors.Join(err, cmd.Process.Kill())
			}
			c.id = p.ID // before started: the caller holds the lock until then
		}
		started <- err
		if cmd.Process != nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	return <-started
}

// Complaint is the first error in its log since it was started, of at most 300 bytes: the later ones follow from it. "" when there is none.
func (c *Command) Complaint() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	log, err := os.Open(c.Log)
	if err != nil {
		return ""
	}
	defer log.Close()
	for s := bufio.NewScanner(io.NewSectionReader(log, c.begun, complaints)); s.Scan(); {
		if _, said, is := strings.Cut(s.Text(), "[ERROR] "); is {
			said = strings.TrimSpace(said)
			return said[:min(len(said), 300)]
		}
	}
	return ""
}

// complaints is how much of a log is read for an error, in bytes.
const complaints = 1 << 20

// EventScheduler is what the option file says of event_scheduler; "": nothing.
func (c *Command) EventScheduler(ctx context.Context) (value string, err error) {
	out, err := exec.CommandContext(ctx, c.Path, c.Args[0], "--print-defaults").Output()
	if err != nil {
		return "", fmt.Errorf("read the option file of the database (%s): %w", c.Args[0], err)
	}
	for _, a := range strings.Split(string(out), " --") {
		name, v, given := strings.Cut(strings.TrimSpace(a), "=")
		if strings.ReplaceAll(strings.TrimPrefix(lower(name), "loose-"), "-", "_") == "event_scheduler" {
			if value = strings.TrimSpace(v); !given {
				value = "ON"
			}
		}
	}
	return value, nil
}

// Credential is who a server runs as that has the account name; nil for "": as this process.
func Credential(name string) (*syscall.Credential, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("the account that the database runs as: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// find finds the process. It wraps proc.ErrGone when there is none. The lock is held.
func (c *Command) find() (proc.ID, error) {
	if c.id.PID != 0 {
		if alive, err := proc.Here.Alive(c.id); err != nil || alive {
			return c.id, err
		}
		c.id = proc.ID{}
	}
	pids, err := proc.Here.PIDs()
	if err != nil {
		return proc.ID{}, err
	}
	program := filepath.Base(c.Path)
	for _, pid := range pids {
		image, err := proc.Here.ReadImage(pid)
		if err == nil && (len(image.Args) == 0 || filepath.Base(image.Args[0]) != program) {
			continue // also a program that the server runs, which has the mark, too
		}
		if dir, _ := image.Getenv(markName); err == nil && dir != c.Datadir {
			continue
		}
		var p proc.Proc
		if err == nil {
			p, err = proc.Here.Read(pid)
		}
		switch {
		case errors.Is(err, proc.ErrGone):
		case err != nil:
			return proc.ID{}, err
		case !p.Dead():
			c.id = p.ID
			return c.id, nil
		}
	}
	return proc.ID{}, fmt.Errorf("%s: %w", c.Path, proc.ErrGone)
}

// Process is its process.
func (c *Command) Process(context.Context) (proc.ID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find()
}

// Kill9 kills it and waits for its end.
func (c *Command) Kill9(ctx context.Context) error {
	id, err := c.Process(ctx)
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return proc.Here.Kill(ctx, id)
}
