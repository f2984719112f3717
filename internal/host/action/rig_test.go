package action

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
	"holdfast/testbed/try"
)

// The test binary plays the helper too, and one who has a lock.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "hold" {
		if err := hold(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "helper" {
		if err := program.Main(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold has a lock, as dpkg does, until standard input ends.
func hold(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return err
	}
	fmt.Println("held")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, f.Close())
}

// rig is a host with a bundle and a backup directory of its own.
type rig struct {
	*testing.T
	host   *Host
	root   string
	bundle *Bundle
	phase  manifest.Phase
	log    bytes.Buffer
	steps  int
	change func(*Step) // of each step
}

func newRig(t *testing.T) *rig {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	r := &rig{T: t, root: root, phase: "install", bundle: &Bundle{Dir: filepath.Join(root, "bundle"), Files: map[string]File{}}}
	r.host = &Host{
		// The race detector else lets each process stay for a second.
		Helper: program.Helper{Exe: exe, Args: []string{"helper"}, Env: []string{"GORACE=atexit_sleep_ms=0", "GOCOVERDIR=" + root}},
		Tools:  Tools{Path: filepath.Join(root, "tools") + ":" + program.UsualPath},
	}
	t.Cleanup(r.leavesNothing)
	for _, dir := range []string{"bundle", "tools", "opt"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// leavesNothing waits until no process of a step is there any more, helpers
// included.
func (r *rig) leavesNothing() {
	try.Until(r, "no process of a step to be left", func() bool {
		files, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			r.Fatal(err)
		}
		for _, f := range files {
			// One that can not be read has ended, or is of another user.
			if env, err := os.ReadFile(f); err == nil && bytes.Contains(env, []byte(":"+r.root+"/state/")) {
				return false
			}
		}
		return true
	})
}

// write writes a file below the rig's directory.
func (r *rig) write(name, text string, mode os.FileMode) string {
	r.Helper()
	file := filepath.Join(r.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.RemoveAll(file),
		os.WriteFile(file, []byte(text), mode), os.Chmod(file, mode)); err != nil {
		r.Fatal(err)
	}
	return file
}

// inBundle adds a file to the bundle.
func (r *rig) inBundle(name, text string, mode os.FileMode) {
	r.Helper()
	r.write("bundle/"+name, text, mode)
	r.list(name, mode)
}

// list lists a file that is there.
func (r *rig) list(name string, mode os.FileMode) {
	r.Helper()
	data, err := os.ReadFile(filepath.Join(r.bundle.Dir, name))
	if err != nil {
		r.Fatal(err)
	}
	sum := sha256.Sum256(data)
	r.bundle.Files[name] = File{int64(len(data)), hex.EncodeToString(sum[:]), uint32(mode)}
}

// tool adds a program to the host. It writes down how it was called; $R is the
// rig's directory.
func (r *rig) tool(name, script string) {
	r.Helper()
	r.write("tools/"+name, "#!/bin/bash\nR="+r.root+"\necho \""+name+" $*\" >> $R/calls\n"+script+"\n", 0o755)
}

func (r *rig) calls() string { return r.read("calls") }

func (r *rig) read(name string) string {
	data, err := os.ReadFile(filepath.Join(r.root, name))
	if err != nil {
		return ""
	}
	return string(data)
}

// step makes the next step.
func (r *rig) step() Step {
	r.steps++
	return r.same()
}

// same is the last step once more.
func (r *rig) same() Step {
	s := Step{
		Attempt: r.attempt(&r.log), Bundle: r.bundle, Timeout: 10 * time.Minute,
		Values: Values{Mode: "rolling", Version: "2.0", From: "1.0", Host: "h1", Phase: r.phase, Backup: filepath.Join(r.root, "backup")},
	}
	if r.change != nil {
		r.change(&s)
	}
	return s
}

// attempt is the last step's, in a directory of its own.
func (r *rig) attempt(log io.Writer) *program.Attempt {
	return program.NewAttempt(filepath.Join(r.root, "state", fmt.Sprint(r.steps)), log)
}

// look asks the host what became of an action.
func (r *rig) look(a manifest.Action, s Step) program.Look {
	return func(ctx context.Context, last program.Result) (program.Result, error) {
		return r.host.Look(ctx, a, s, last)
	}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithCancel(r.Context())
	r.Cleanup(cancel)
	return ctx
}

// do carries an action out and wants it done, or a reason that contains why.
func (r *rig) do(a manifest.Action, why string) program.Result {
	r.T.Helper()
	res, err := r.host.Do(r.ctx(), a, r.step())
	r.judge(res, err, why)
	return res
}

func (r *rig) judge(res program.Result, err error, why string) {
	r.T.Helper()
	if err != nil || (res.State == program.Done) != (why == "") || why != "" && res.State != program.Failed ||
		!strings.Contains(res.Why, why) {
		r.Errorf("want %q, got %+v, %v; log: %s", why, res, err, r.log.String())
	}
}

// probe asks about the last step.
func (r *rig) probe(a manifest.Action, want program.State) {
	r.T.Helper()
	s := r.same()
	if res, err := s.Attempt.Probe(r.ctx(), r.look(a, s)); err != nil || res.State != want {
		r.Errorf("probed %+v, %v, want %s", res, err, want)
	}
}

func (r *rig) Helper() { r.T.Helper() }
