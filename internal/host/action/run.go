package action

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/proc"
)

func (t *Tools) path() string { return cmp.Or(t.Path, program.UsualPath) }

// environment is what every command gets; see the package comment.
func (h *Host) environment(s *Step) []string {
	v := s.Values
	env := append(program.Environment(h.Tools.path()),
		"HOLDFAST_MODE="+string(v.Mode), "HOLDFAST_VERSION="+v.Version, "HOLDFAST_FROM="+v.From, "HOLDFAST_HOST="+v.Host,
		"HOLDFAST_PHASE="+string(v.Phase), "HOLDFAST_BACKUP="+v.Backup, "HOLDFAST_BUNDLE="+s.Bundle.Dir,
	)
	if s.Terminal {
		env = append(env, "TERM=dumb")
	}
	return env
}

// replace puts values in place of placeholders, in one pass: a value that looks
// like one stays as it is.
func replace(s *Step, args []string) []string {
	v := s.Values
	mode := string(v.Mode)
	if v.Mode == manifest.Rolling {
		mode = "rollup"
	}
	r := strings.NewReplacer("{mode}", string(v.Mode), "{appctlMode}", mode, "{version}", v.Version, "{from}", v.From,
		"{host}", v.Host, "{bundle}", s.Bundle.Dir, "{backup}", v.Backup, "{phase}", string(v.Phase), "{array}", v.Array)
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = r.Replace(a)
	}
	return out
}

// runStep runs a program of the bundle.
type runStep struct {
	host *Host
	argv []string
	own  bool // it runs in its own directory, else in that of the bundle
	step *Step
}

func (r *runStep) do(ctx context.Context) (program.Result, error) {
	s := r.step
	f, err := s.Bundle.program(r.argv[0])
	if err != nil {
		return failed(err.Error()), nil
	}
	dir := s.Bundle.Dir
	if r.own {
		dir = filepath.Dir(f.Path)
	}
	return r.host.command(ctx, s, program.Spec{
		Argv: append([]string{f.Path}, replace(s, r.argv[1:])...), Env: r.host.environment(s), Dir: dir, Verify: &f,
		Credentials: s.Credentials, Terminal: s.Terminal, KillLeftovers: s.KillLeftovers,
	})
}

func (r *runStep) done(_ context.Context, last program.Result) (program.Result, error) {
	return last, nil
}

// command runs the next command of a step, within what is left of its time.
func (h *Host) command(ctx context.Context, s *Step, spec program.Spec) (program.Result, error) {
	spec.Sudo = s.Sudo
	if spec.Timeout == 0 {
		spec.Timeout = s.Timeout
	}
	r, err := s.Attempt.Run(ctx, h.Helper, spec)
	if err != nil {
		return r, fmt.Errorf("run %s: %w", spec.Argv[0], err)
	}
	return r, nil
}

// tool runs a program of the host as a command that outlives the agent.
func (h *Host) tool(ctx context.Context, s *Step, timeout time.Duration, env []string, argv ...string) (program.Result, error) {
	path, err := program.LookIn(h.Tools.path(), argv[0])
	if err != nil {
		return failed(err.Error()), nil
	}
	return h.command(ctx, s, program.Spec{Argv: append([]string{path}, argv[1:]...),
		Env: append(h.environment(s), env...), Dir: "/", Timeout: timeout})
}

const (
	queryTimeout = 30 * time.Second
	maxAnswer    = 1 << 20 // bytes
)

// query asks a program of the host something: it changes nothing and ends soon.
// exit is its exit code; err means that it could not be asked.
func (h *Host) query(ctx context.Context, argv ...string) (out string, exit int, err error) {
	return h.ask(ctx, queryTimeout, nil, argv...)
}

// ask is query within a time, with something on standard input.
func (h *Host) ask(ctx context.Context, within time.Duration, stdin io.Reader, argv ...string) (out string, exit int, err error) {
	path, err := program.LookIn(h.Tools.path(), argv[0])
	if err != nil {
		return "", -1, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var stdout, stderr limited
	cmd := proc.Foreign(ctx, path, argv[1:]...)
	cmd.Env = []string{"PATH=" + h.Tools.path(), "LANG=C.UTF-8", "LC_ALL=C.UTF-8"}
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = "/", stdin, &stdout, &stderr, time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	var bad *exec.ExitError
	if errors.As(err, &bad) && bad.Exited() && ctx.Err() == nil {
		return stdout.String(), bad.ExitCode(), nil
	}
	if err != nil {
		return "", -1, fmt.Errorf("ask %s: %w: %s", strings.Join(argv[:min(2, len(argv))], " "),
			errors.Join(err, ctx.Err()), strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), 0, nil
}

// limited keeps the first bytes that it gets.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxAnswer - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
