package facts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/inventory/fact"
)

// Gatherer reads facts of this host. The zero value is ready.
type Gatherer struct {
	Root    string        // in front of the paths of system files, for tests; "": /
	Path    string        // where commands are looked for, as in $PATH; "": $PATH, then the usual places
	Timeout time.Duration // of each program; 0: 10 s
}

const (
	maxOutput = 1 << 20 // bytes of a program's output that are kept
	maxText   = 1 << 10 // bytes of a probe's text
	pipeWait  = time.Second
)

// Gather reads everything that is asked for. Each program gets its own deadline;
// when ctx ends, what is left is unknown.
func (g *Gatherer) Gather(ctx context.Context, r fact.Request) fact.Facts {
	f := fact.Facts{Host: r.Host, At: time.Now(), Unknown: map[string]string{}}
	note := func(fact string, err error) {
		if err != nil {
			f.Unknown[fact] = shorten(err.Error())
		}
	}
	var err error
	f.OS, err = g.system()
	note("os", err)
	f.Kernel, err = g.kernel()
	note("kernel", err)
	f.Clock, err = g.Clock(ctx)
	note("clock", err)
	f.O2CB, err = g.o2cb()
	note("o2cb", err)
	f.ISCSI, err = g.iscsi(ctx)
	note("iscsi", err)
	f.FC, err = g.ports()
	note("fc", err)
	f.Maps, err = g.maps(ctx)
	note("maps", err)
	f.Mounts, err = g.mounts(f.Maps, err)
	note("mounts", err)
	g.asked(ctx, r, &f, note)
	return f
}

// asked reads what the request names.
func (g *Gatherer) asked(ctx context.Context, r fact.Request, f *fact.Facts, note func(string, error)) {
	var err error
	if r.Unpack != "" {
		f.Space, err = bounded(g.limit(), r.Unpack, func() (fact.Space, error) { return space(r.Unpack) })
		note("space", err)
	}
	if len(r.Commands) > 0 {
		f.Commands = map[string]string{}
		for _, c := range r.Commands {
			f.Commands[c] = g.find(c)
		}
	}
	if len(r.Python) > 0 {
		f.Python, err = g.python(ctx, r.Python)
		note("python", err)
	}
	for _, c := range r.Config {
		got, err := bounded(g.limit(), c.Installed, func() (fact.Config, error) { return compare(c), nil })
		if note("config", err); err == nil {
			f.Config = append(f.Config, got)
		}
	}
	if r.VersionFile != "" {
		f.Version, err = bounded(g.limit(), r.VersionFile, func() (string, error) { return installed(r.VersionFile) })
		note("version", err)
	}
	if r.BackupDir != "" {
		f.LastBackup, err = bounded(g.limit(), r.BackupDir, func() (time.Time, error) { return newest(r.BackupDir) })
		note("lastBackup", err)
	}
	if r.Status != nil {
		f.Status, err = g.probe(ctx, *r.Status)
		note("status", err)
	}
	if r.HA != nil {
		f.HA, err = g.probe(ctx, *r.HA)
		note("ha", err)
	}
	for _, p := range r.Replication {
		got, err := g.probe(ctx, p)
		if note("replication", err); err == nil {
			f.Replication = append(f.Replication, *got)
		}
	}
}

// shorten keeps reasons readable.
func shorten(s string) string {
	const most = 500
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

func (g *Gatherer) file(name string) string { return filepath.Join("/", g.Root, name) }

// errNotThere says that a tool is not installed: for most facts, there is nothing
// to say then.
var errNotThere = errors.New("not installed")

// find returns the path of a command, "" when it is not there. Agents run with a
// short PATH, so the usual places are looked at, too.
func (g *Gatherer) find(command string) string {
	if command == "" || strings.ContainsAny(command, "/\x00") {
		return ""
	}
	dirs := filepath.SplitList(g.Path)
	if g.Path == "" {
		dirs = append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
	}
	for _, d := range dirs {
		if !filepath.IsAbs(d) {
			continue
		}
		p := filepath.Join(d, command)
		if s, err := os.Stat(p); err == nil && s.Mode().IsRegular() && s.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// output is what a program has said, and how it has ended.
type output struct {
	out, err []byte // standard output and standard error
	exit     int
}

// all is what it has said, errors last.
func (o output) all() []byte { return bytes.TrimSpace(append(slices.Clip(o.out), o.err...)) }

// run runs a program to its end. An error says that it could not be run, or had to
// be stopped; its exit code is not one.
func (g *Gatherer) run(ctx context.Context, name string, args ...string) (output, error) {
	path := name
	if !filepath.IsAbs(name) {
		if path = g.find(name); path == "" {
			return output{}, fmt.Errorf("%s: %w", name, errNotThere)
		}
	}
	limit := g.limit()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// One that hangs in the kernel can not even be killed: it is left behind then.
	return bounded(limit+2*pipeWait, name, func() (output, error) { return start(ctx, path, args, limit) })
}

// start runs a program until it ends or the context does.
func start(ctx context.Context, path string, args []string, limit time.Duration) (output, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errs capped
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Dir, cmd.Env = "/", append(slices.DeleteFunc(os.Environ(), localized), "LC_ALL=C")
	cmd.WaitDelay = pipeWait
	// What it has started is stopped with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil && err != nil:
		return output{}, fmt.Errorf("%s has not answered within %s", path, limit)
	case errors.As(err, &exit) && exit.Exited():
		return output{out.buf, errs.buf, exit.ExitCode()}, nil
	case err != nil:
		return output{}, fmt.Errorf("run %s: %w", path, err)
	}
	return output{out.buf, errs.buf, 0}, nil
}

func (g *Gatherer) limit() time.Duration {
	if g.Timeout == 0 {
		return 10 * time.Second
	}
	return g.Timeout
}

// bounded waits for f no longer than limit. What hangs then, in storage that is
// gone, ends when the storage lets it.
func bounded[T any](limit time.Duration, what string, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-timer.C:
		var none T
		return none, fmt.Errorf("%s hangs, it has not answered within %s", what, limit)
	}
}

func localized(e string) bool {
	return strings.HasPrefix(e, "LC_") || strings.HasPrefix(e, "LANG")
}

// capped keeps the end of what is written, maxOutput bytes.
type capped struct{ buf []byte }

func (c *capped) Write(p []byte) (int, error) {
	c.buf = append(c.buf, p...)
	if len(c.buf) > 2*maxOutput {
		c.buf = append([]byte(nil), c.buf[len(c.buf)-maxOutput:]...)
	}
	return len(p), nil
}

// probe runs a program of the product; what it ends with is its answer.
func (g *Gatherer) probe(ctx context.Context, p fact.Program) (*fact.Probe, error) {
	if len(p.Run) == 0 || !filepath.IsAbs(p.Run[0]) {
		return nil, fmt.Errorf("%s: want a program with its absolute path", p.Name)
	}
	o, err := g.run(ctx, p.Run[0], p.Run[1:]...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	text := o.all()
	if len(text) > maxText {
		text = text[len(text)-maxText:]
	}
	return &fact.Probe{Name: p.Name, Exit: o.exit, Text: strings.ToValidUTF8(string(text), "?")}, nil
}
