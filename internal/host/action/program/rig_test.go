package program

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/testbed/try"
)

// The test binary plays the helper and the agent too.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "part" {
		if err := part(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// stageVar names a stage of the helper and what happens there: STAGE=die, or
// STAGE=FILE to wait until the file is there.
const stageVar = "PROGRAM_TEST_STAGE"

func part(name string, args []string) error {
	switch name {
	case "helper":
		at, what, _ := strings.Cut(os.Getenv(stageVar), "=")
		return mainWith(args, func(stage string) {
			if stage != at {
				return
			}
			if what == "die" {
				if err := os.WriteFile(filepath.Join(args[1], "died"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
				dieNow()
			}
			// Until the file is there, or the test has ended with its directory.
			for ; ; time.Sleep(5 * time.Millisecond) {
				if _, err := os.Stat(what); err == nil {
					return
				}
				if _, err := os.Stat(filepath.Dir(what)); err != nil {
					dieNow()
				}
			}
		})
	case "memory": // has 200 MiB until it is killed
		all := make([]byte, 200<<20)
		for i := 0; i < len(all); i += os.Getpagesize() {
			all[i] = 1
		}
		fmt.Print("x")
		return unix.Pause()
	case "agent": // DIR SPEC STAGE: starts and follows, and dies at the stage
		var s Spec
		if err := json.Unmarshal([]byte(args[1]), &s); err != nil {
			return err
		}
		h, err := helper()
		if err != nil {
			return err
		}
		h.Env = []string{noRaceSleep, stageVar + "=" + os.Getenv(stageVar)}
		h.hook = func(stage string) {
			if stage == args[2] {
				dieNow()
			}
		}
		_, err = h.Run(context.Background(), args[0], s, os.Stdout)
		return err
	}
	return fmt.Errorf("no part %s", name)
}

const noRaceSleep = "GORACE=atexit_sleep_ms=0"

func dieNow() {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

func helper() (Helper, error) {
	exe, err := os.Executable()
	// The race detector else lets each process stay for a second.
	return Helper{Exe: exe, Args: []string{"part", "helper"}, Env: []string{noRaceSleep}}, err
}

// rig is one attempt in a directory of its own.
type rig struct {
	t    *testing.T
	h    Helper
	tmp  string // for files of the script
	dir  string // the state directory
	spec Spec
}

// newRig makes an attempt of a shell script. $T is a directory for its files.
// Whatever of it runs at the end of the test is ended, and must have ended.
func newRig(t *testing.T, script string) *rig {
	t.Helper()
	h, err := helper()
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	file := filepath.Join(tmp, "script.sh")
	if err := os.WriteFile(file, []byte("#!/bin/bash\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.Env = append(h.Env, "GOCOVERDIR="+tmp) // else it warns, when coverage is measured
	r := &rig{t: t, h: h, tmp: tmp, dir: filepath.Join(tmp, "state"), spec: Spec{
		Argv: []string{file}, Env: []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "T=" + tmp}, Dir: tmp,
		Timeout: 10 * time.Minute, Grace: 300 * time.Millisecond,
	}}
	t.Cleanup(r.sweep)
	return r
}

// sweep ends whatever carries the mark, and looks that nothing is left.
func (r *rig) sweep() {
	if _, err := os.Stat(r.dir); err != nil {
		return
	}
	m, err := mark(r.dir)
	if err != nil {
		r.t.Error(err)
		return
	}
	try.Until(r.t, "the end of all that carries the mark", func() bool {
		ps, err := marked(m)
		if err == nil {
			err = signalAll(ps, unix.SIGKILL)
		}
		if err != nil {
			r.t.Fatalf("left behind: %v, %v", names(ps), err)
		}
		return len(ps) == 0
	})
	var b attemptState
	if _, err := readJSON(r.dir, fileBegun, &b); err != nil {
		r.t.Error(err)
	}
	if err := dropCgroup(b.Cgroup); err != nil {
		r.t.Error(err)
	}
	if b.Cgroup != "" {
		if _, err := os.Stat(b.Cgroup); err == nil {
			r.t.Errorf("control group %s left behind", b.Cgroup)
		}
	}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.t.Cleanup(cancel)
	return ctx
}

// run runs it to the end and returns what it said.
func (r *rig) run() (Result, string) {
	r.t.Helper()
	var out bytes.Buffer
	res, err := r.h.Run(r.ctx(), r.dir, r.spec, &out)
	if err != nil {
		r.t.Fatalf("run: %v; helper: %s", err, r.file("state/"+fileLog))
	}
	if log := r.file("state/" + fileLog); log != "" {
		r.t.Errorf("the helper says: %s", log)
	}
	return res, out.String()
}

func (r *rig) start() {
	r.t.Helper()
	if err := r.h.Start(r.ctx(), r.dir, r.spec); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) probe() Result {
	r.t.Helper()
	res, err := Probe(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func (r *rig) attach() (Result, string) {
	r.t.Helper()
	var out bytes.Buffer
	res, err := Attach(r.ctx(), r.dir, &out, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return res, out.String()
}

// await waits until something holds.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	try.Until(r.t, what, ok)
}

// file returns a file below the rig's directory, "" when it is not there.
func (r *rig) file(name string) string {
	data, err := os.ReadFile(filepath.Join(r.tmp, name))
	if err != nil {
		return ""
	}
	return string(data)
}

func (r *rig) touch(name string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.tmp, name), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// agent is another process that starts and follows the program.
func (r *rig) agent(stage, helperStage string) *exec.Cmd {
	r.t.Helper()
	spec, err := json.Marshal(r.spec)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(r.h.Exe, "part", "agent", r.dir, string(spec), stage)
	cmd.Env = append(os.Environ(), stageVar+"="+helperStage)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	var once sync.Once
	r.t.Cleanup(func() { once.Do(func() { r.killed(cmd) }) })
	return cmd
}

// killed kills an agent, if it does not do so itself, and waits for it.
func (r *rig) killed(cmd *exec.Cmd) {
	if cmd.ProcessState != nil {
		return
	}
	if err := cmd.Process.Kill(); err != nil {
		r.t.Logf("kill agent: %v", err)
	}
	if err := cmd.Wait(); err == nil {
		r.t.Log("the agent had ended by itself")
	}
}

func alive(pid int) bool {
	p, ok := statOf(pid)
	return ok && !p.Dead()
}
