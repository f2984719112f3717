package steps

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/host/action"
	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/cache"
	"holdfast/internal/upgrade/check/faults"
	"holdfast/internal/upgrade/command"
)

// The test binary plays the helper of programs too, and an agent that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "part" {
		var err error
		switch os.Args[2] {
		case "helper":
			err = program.Main(os.Args[3:])
		case "agent":
			err = runAgentPart(os.Args[3])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runAgentPart does the step in a file, as the agent would.
func runAgentPart(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var w runWorld
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	log, err := w.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	d, err := w.executor()
	if err != nil {
		return err
	}
	t := w.Task
	t.Log, t.Note = log, func(string, int) {}
	return d.Do(ctx, t)
}

// runWorld is a host with one bundle, and one step. It can be given to another
// process.
type runWorld struct {
	Root        string
	Manifest    *manifest.Manifest
	Files       map[string]action.File
	Credentials string
	Reports     string // where programs leave reports, a pattern; "": as faults has it
	Task        engine.Task
}

const runSHA = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func (w *runWorld) Find(sha string) (cache.Staged, error) {
	if sha != runSHA {
		return cache.Staged{}, fmt.Errorf("bundle %s: %w", sha, fs.ErrNotExist)
	}
	dir := filepath.Join(w.Root, "bundle")
	return cache.Staged{Dir: dir, Manifest: w.Manifest, Bundle: action.Bundle{Dir: dir, Files: w.Files}}, nil
}

func (w *runWorld) helper() (program.Helper, error) {
	exe, err := os.Executable()
	// The race detector else lets each process stay for a second.
	return program.Helper{Exe: exe, Args: []string{"part", "helper"}, Env: []string{"GORACE=atexit_sleep_ms=0", "GOCOVERDIR=" + w.Root}}, err
}

func (w *runWorld) up() string { return filepath.Join(w.Root, "up") }

func (w *runWorld) openLog() (*os.File, error) {
	return os.OpenFile(filepath.Join(w.Root, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
}

// executor is the Executor of the task's kind.
func (w *runWorld) executor() (engine.Executor, error) {
	h, err := w.helper()
	if err != nil {
		return nil, err
	}
	if w.Task.Step.Kind == upgrade.KindAction {
		known, err := faults.Builtin()
		if err == nil && w.Reports != "" {
			var own *faults.Catalogue
			own, err = faults.Parse("own", []byte("format: 1\nfaults:\n- {id: see-post-check-report, match: "+
				"[post-check report], report: "+w.Reports+", cause: c, remedy: r}\n"))
			if err == nil {
				known = known.With(own)
			}
		}
		return &Action{Faults: known, Bundles: w, Host: action.Host{Helper: h}, Dir: w.up(), Credentials: w.Credentials,
			AllHosts: actionHosts{w.Root}, Settle: 300 * time.Millisecond}, err
	}
	return &Switch{Helper: h, Dir: w.up(), Host: "h1", Every: 10 * time.Millisecond, Within: 5 * time.Second}, nil
}

// runRig is a world in a directory of its own.
type runRig struct {
	*testing.T
	runWorld
}

func newRunRig(t *testing.T) *runRig {
	t.Helper()
	root := t.TempDir()
	r := &runRig{T: t, runWorld: runWorld{Root: root, Files: map[string]action.File{},
		Manifest: &manifest.Manifest{Name: "b", Version: "2.0", Modules: []manifest.Module{{Name: "db"}}}}}
	r.Task = engine.Task{Job: "run-1", Step: job.Step{ID: "h1/install/db", Host: "h1", Timeout: 20 * time.Second},
		Attempt: 1, Host: "h1", Note: func(string, int) {}}
	log, err := r.openLog()
	if err != nil {
		t.Fatal(err)
	}
	r.Task.Log = log
	t.Cleanup(func() {
		r.leavesNothing()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// leavesNothing waits until no process of a step is there any more, helpers
// included, and fails the test when one stays.
func (r *runRig) leavesNothing() {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var left []string
		files, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			r.Fatal(err)
		}
		for _, f := range files {
			// One that can not be read has ended, or is of another user.
			if env, err := os.ReadFile(f); err == nil && bytes.Contains(env, []byte(":"+r.up()+"/runs/")) {
				left = append(left, f)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			r.Errorf("left behind: %v", left)
			return
		}
	}
}

func (r *runRig) write(name, text string, mode os.FileMode) string {
	r.T.Helper()
	file := filepath.Join(r.Root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), mode), os.Chmod(file, mode)); err != nil {
		r.Fatal(err)
	}
	return file
}

// script adds a program to the bundle. $R is the rig's directory.
func (r *runRig) script(name, text string) {
	r.T.Helper()
	text = "#!/bin/bash\nR=" + r.Root + "\n" + text + "\n"
	r.write("bundle/"+name, text, 0o755)
	sum := sha256.Sum256([]byte(text))
	r.Files[name] = action.File{Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:]), Mode: 0o755}
}

// program makes a program of the host and returns its path.
func (r *runRig) program(name, text string) string {
	r.T.Helper()
	return r.write("host/"+name, "#!/bin/bash\nR="+r.Root+"\n"+text+"\n", 0o755)
}

// installs makes the step one that runs a script of the bundle.
func (r *runRig) installs(text string) {
	r.T.Helper()
	r.script("ctl.sh", text)
	r.module().Actions.Install = &manifest.Action{Run: []string{"ctl.sh", "install"}}
	r.action(manifest.Install)
}

func (r *runRig) module() *manifest.Module { return &r.Manifest.Modules[0] }

// action makes the step one of the module's.
func (r *runRig) action(p manifest.Phase) {
	r.T.Helper()
	r.kind(upgrade.KindAction, upgrade.ActionArgs{Run: "run-0", SHA256: runSHA, Module: r.module().Name, Phase: p,
		Mode: manifest.Rolling, From: "1.0", To: "2.0"})
}

func (r *runRig) kind(kind string, args any) {
	r.T.Helper()
	text, err := json.Marshal(args)
	if err != nil {
		r.Fatal(err)
	}
	r.Task.Step.Kind, r.Task.Step.Args = kind, text
}

func (r *runRig) file(name string) string {
	data, err := os.ReadFile(filepath.Join(r.Root, name))
	if err != nil {
		return ""
	}
	return string(data)
}

func (r *runRig) log() string { return r.file("log") }

func (r *runRig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	r.Cleanup(cancel)
	return ctx
}

func (r *runRig) must() engine.Executor {
	r.T.Helper()
	d, err := r.executor()
	if err != nil {
		r.Fatal(err)
	}
	return d
}

// do does an attempt of the step.
func (r *runRig) do(attempt int) error {
	r.T.Helper()
	r.Task.Attempt = attempt
	return r.must().Do(r.ctx(), r.Task)
}

// interrupt does an attempt in the background until something holds, and ends it with
// a cause then. It returns what Do says.
func (r *runRig) interrupt(attempt int, cause error, when func() bool) error {
	r.T.Helper()
	ctx, cancel := context.WithCancelCause(r.ctx())
	defer cancel(nil)
	r.Task.Attempt = attempt
	d, t, result := r.must(), r.Task, make(chan error, 1)
	go func() { result <- d.Do(ctx, t) }() // awaited below
	for !when() {
		select {
		case err := <-result:
			r.Fatalf("it ended before: %v; log: %s", err, r.log())
		case <-ctx.Done():
			r.Fatalf("waited in vain; %v; log: %s", <-result, r.log())
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel(cause)
	return <-result
}

func (r *runRig) probed(attempt int, want engine.Probed) {
	r.T.Helper()
	r.Task.Attempt = attempt
	got, err := r.must().Probe(r.ctx(), r.Task)
	if err != nil || got != want {
		r.Errorf("probed attempt %d: %d, %v, want %d; log: %s", attempt, got, err, want, r.log())
	}
}

// exits wants the error of a program that has ended with a code.
func (r *runRig) exits(err error, code int, words string) {
	r.T.Helper()
	var exit *engine.Exit
	if !errors.As(err, &exit) || exit.Code != code || !strings.Contains(err.Error(), words) || errors.Is(err, engine.ErrUnclear) {
		r.Errorf("got %v, want exit code %d and %q; log: %s", err, code, words, r.log())
	}
}

func (r *runRig) await(what string, ok func() bool) {
	r.T.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("waited in vain for %s; log: %s", what, r.log())
		}
	}
}

// dir is the directory of the step.
func (r *runRig) dir() string {
	r.T.Helper()
	s, err := command.Step(r.up(), r.Task, nil)
	if err != nil {
		r.Fatal(err)
	}
	return s.Dir
}

// over waits until the attempt's program has ended.
func (r *runRig) over(attempt int) {
	r.T.Helper()
	r.await("the program's end", func() bool {
		res, err := program.Probe(filepath.Join(r.dir(), fmt.Sprint(attempt), "1"))
		return err == nil && res.State != program.Running
	})
}

// agent is another process that does the step.
func (r *runRig) agent(attempt int) (kill func()) {
	r.T.Helper()
	h, err := r.helper()
	if err != nil {
		r.Fatal(err)
	}
	w := r.runWorld
	w.Task.Attempt, w.Task.Log, w.Task.Note, w.Task.Found = attempt, nil, nil, nil
	data, err := json.Marshal(struct {
		runWorld
		Task map[string]any
	}{w, map[string]any{"Job": w.Task.Job, "Step": w.Task.Step, "Attempt": attempt, "Host": w.Task.Host}})
	if err != nil {
		r.Fatal(err)
	}
	cmd := exec.Command(h.Exe, "part", "agent", r.write("agent.json", string(data), 0o600))
	cmd.Env = append(os.Environ(), h.Env...)
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	var once sync.Once
	kill = func() {
		once.Do(func() {
			if err := cmd.Process.Kill(); err != nil {
				r.Logf("kill the agent: %v", err)
			}
			if err := cmd.Wait(); err == nil {
				r.Log("the agent had ended by itself")
			}
		})
	}
	r.Cleanup(kill)
	return kill
}

// rebooted makes an attempt look as if the host had gone down while it ran.
func (r *runRig) rebooted(attempt int) {
	r.T.Helper()
	dir := filepath.Join(r.dir(), fmt.Sprint(attempt), "1")
	r.leavesNothing() // the helper has its lock a moment longer than the program runs
	err := errors.Join(os.Remove(filepath.Join(dir, "exit.json")),
		os.WriteFile(filepath.Join(dir, "begun.json"), []byte(`{"boot":"another","began":"2026-01-01T00:00:00Z"}`), 0o600))
	if err != nil {
		r.Fatal(err)
	}
}
