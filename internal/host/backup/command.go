package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/lib/proc"
	"holdfast/internal/lib/text"
)

const (
	maxOutput = 4 << 20         // of a program whose output is read
	maxStderr = 4 << 10         // of what it says to its standard error: the end is kept
	termWait  = 5 * time.Second // between the request to end and the kill
)

// Command is a program to run. It gets a small environment: PATH, HOME and TMPDIR
// of this process, LC_ALL=C, and Env.
type Command struct {
	Path     string
	Args     []string
	Env      []string
	Stdin    io.Reader // nil: /dev/null
	Stdout   io.Writer // nil: what it prints is the result of Run, at most 4 MiB
	Merge    bool      // what it says to its standard error is output, too
	Hold     *Lock     // the program holds it too
	Outlives bool      // it goes on when this process is killed: stopping it half-way does harm
}

// ExitError is a program that did not succeed.
type ExitError struct {
	Program string
	Code    int    // exit code, -1 when a signal ended it
	Stderr  string // the end of what it said
	Err     error
}

func (e *ExitError) Error() string {
	said := strings.TrimSpace(e.Stderr)
	if said == "" {
		return fmt.Sprintf("%s: %v", e.Program, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Program, e.Err, said)
}

func (e *ExitError) Unwrap() error { return e.Err }

// Run runs the program until it has ended, or ctx has: then the program and what
// it has begun are asked to end, and killed after 5 s. ctx must have a deadline.
func Run(ctx context.Context, c Command) ([]byte, error) {
	name := filepath.Base(c.Path)
	if _, ok := ctx.Deadline(); !ok {
		return nil, fmt.Errorf("run %s: no deadline is given", name)
	}
	cmd := proc.Foreign(ctx, c.Path, c.Args...)
	said, out := &text.Tail{Most: maxStderr}, &head{limit: maxOutput}
	cmd.Env, cmd.Stdin, cmd.Stderr, cmd.Stdout = environment(c.Env), c.Stdin, said, out
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	if c.Merge {
		cmd.Stderr = cmd.Stdout
	}
	if c.Hold != nil {
		cmd.ExtraFiles = []*os.File{c.Hold.File()}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = termWait
	if !c.Outlives {
		// The kernel sends it when the thread that has begun the program ends, so this
		// thread must be kept.
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		if kill := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); kill != nil && !errors.Is(kill, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("end what it has begun: %w", kill))
		}
		err = errors.Join(context.Cause(ctx), err)
	}
	if err == nil && out.over {
		err = fmt.Errorf("more than %d bytes of output", maxOutput)
	}
	if err != nil {
		code := -1
		if cmd.ProcessState != nil {
			code = cmd.ProcessState.ExitCode()
		}
		return nil, &ExitError{Program: name, Code: code, Stderr: oneLine(said.String()), Err: err}
	}
	return out.buf, nil
}

func environment(more []string) []string {
	env := []string{"LC_ALL=C"}
	for _, k := range []string{"PATH", "HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return append(env, more...)
}

// head keeps the beginning of what is written.
type head struct {
	buf   []byte
	limit int
	over  bool
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.limit-len(h.buf))
	h.buf = append(h.buf, p[:n]...)
	h.over = h.over || n < len(p)
	return len(p), nil
}

// oneLine is what a program has said, without characters that can not be shown.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
}

// Version is the first line that a program prints when it is asked for its
// version, at most 200 bytes. Some print it to their standard error.
func Version(ctx context.Context, program, flag string) (string, error) {
	out, err := Run(ctx, Command{Path: program, Args: []string{flag}, Merge: true})
	if err != nil {
		return "", fmt.Errorf("ask for the version: %w", err)
	}
	if len(strings.TrimSpace(string(out))) == 0 {
		return "", fmt.Errorf("ask for the version: %s prints nothing", filepath.Base(program))
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.ToValidUTF8(line[:min(len(line), 200)], "?"), nil
}
