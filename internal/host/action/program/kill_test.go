package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
)

// waiting is a script that counts its runs and ends with 7 when it is let go.
const waiting = "echo run >> $T/runs; echo $$ > $T/pid; until [ -e $T/go ]; do sleep 0.02; done; echo said; exit 7"

// The agent is killed at every stage. The program goes on, or never begins, and
// the next agent is told which, and the exit code.
func TestAgentKilled(t *testing.T) {
	for _, stage := range []string{"spec", "launched", "ready", "running", "ended"} {
		t.Run(stage, func(t *testing.T) {
			r := newRig(t, waiting)
			agent := r.agent(stage, "")
			switch stage {
			case "running":
				r.await("the program", func() bool { return r.file("pid") != "" })
				r.killed(agent)
			case "ended":
				r.await("the program", func() bool { return r.file("pid") != "" })
				// It can not look at the end before it is killed.
				if err := agent.Process.Signal(unix.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				r.touch("go")
				r.await("the record of the end", func() bool { return r.file("state/"+fileExit) != "" })
				r.killed(agent)
			default:
				if err := agent.Wait(); err == nil {
					t.Error("the agent was not killed")
				}
			}
			if stage == "spec" {
				if res := r.probe(); res.State != NotDone || r.file("runs") != "" {
					t.Errorf("got %+v, runs %q", res, r.file("runs"))
				}
				return
			}
			res := r.probe()
			if stage == "launched" && res.State == NotDone { // the helper had not come to its lock
				r.await("the helper's end", func() bool { return len(r.marked()) == 0 })
				if r.file("runs") != "" {
					t.Errorf("it was begun after all: %q", r.file("runs"))
				}
				return
			}
			if stage != "ended" && res.State != Running {
				t.Errorf("got %+v", res)
			}
			r.touch("go")
			res, out := r.attach()
			if res.State != Failed || res.Exit != 7 || out != "said\n" || r.file("runs") != "run\n" {
				t.Errorf("got %+v, output %q, runs %q", res, out, r.file("runs"))
			}
		})
	}
}

// The agent is killed when its helper has been forked and has not come to its
// lock. Who asks first decides: the helper finds the directory closed, or Probe
// finds the program.
func TestALateHelperBeginsNothingThatWasCalledNotDone(t *testing.T) {
	for _, first := range []string{"probe", "helper"} {
		t.Run(first, func(t *testing.T) {
			r := newRig(t, waiting)
			gate := filepath.Join(r.tmp, "gate")
			r.agent("launched", "helper="+gate)
			r.await("the helper", func() bool { return len(r.marked()) == 1 })
			if first == "helper" {
				r.touch("gate")
				r.await("the program", func() bool { return r.file("pid") != "" })
				if res := r.probe(); res.State != Running {
					t.Errorf("got %+v", res)
				}
				r.touch("go")
				if res, _ := r.attach(); res.Exit != 7 {
					t.Errorf("got %+v", res)
				}
				return
			}
			if res := r.probe(); res.State != NotDone {
				t.Errorf("got %+v", res)
			}
			r.touch("gate")
			r.await("the helper's end", func() bool { return len(r.marked()) == 0 })
			if res := r.probe(); res.State != NotDone || r.file("runs") != "" {
				t.Errorf("got %+v, runs %q", res, r.file("runs"))
			}
		})
	}
}

// marked returns the processes of the attempt.
func (r *rig) marked() []proc.Proc {
	r.t.Helper()
	m, err := mark(r.dir)
	if err != nil {
		return nil // the directory is not there yet
	}
	ps, err := marked(m)
	if err != nil {
		r.t.Fatal(err)
	}
	return ps
}

// The helper is killed at every stage.
func TestHelperKilled(t *testing.T) {
	for stage, want := range map[string]State{
		"helper":   NotDone,
		"prepared": NotDone,
		"begun":    Unknown, // it may have been forked
		"forked":   Running, // until it has ended
		"ended":    Unknown,
		"recorded": Failed,
	} {
		t.Run(stage, func(t *testing.T) {
			r := newRig(t, waiting)
			if stage == "ended" || stage == "recorded" {
				r.touch("go")
			}
			r.agent("", stage+"=die")
			r.await("the helper's death", r.helperDied)
			if stage == "forked" {
				r.await("the program", func() bool { return r.file("pid") != "" })
			}
			var res Result
			// The agent lives and looks, too; while it closes the attempt off, it has the lock.
			r.await(string(want), func() bool { res = r.probe(); return res.State != Running || want == Running })
			if res.State != want {
				t.Errorf("got %+v, want %s", res, want)
			}
			if stage != "forked" {
				r.noGroup()
				return
			}
			if !strings.Contains(res.Why, "exit code will be lost") {
				t.Errorf("got %+v", res)
			}
			// While it runs nobody may take it for ended.
			r.touch("go")
			if res, _ := r.attach(); res.State != Unknown || !strings.Contains(res.Why, "exit code is lost") || r.file("runs") != "run\n" {
				t.Errorf("got %+v", res)
			}
			r.noGroup()
		})
	}
}

// A process that gives much memory back keeps its group for a while in which the group lists nobody.
func TestAGroupIsKeptByWhatEnds(t *testing.T) {
	dir := makeCgroup(placeCgroup(cgroupName(t.TempDir())))
	if dir == "" {
		t.Skip("no control group can be made here")
	}
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "part", "memory")
	cmd.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd()), Pdeathsig: unix.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadFull(out, make([]byte, 1)) // it has its memory
	if err := errors.Join(err, cmd.Process.Kill(), dropCgroup(dir)); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("control group %s is left", dir)
	}
}

// noGroup wants the control group of an attempt that is over to be gone.
func (r *rig) noGroup() {
	r.t.Helper()
	m, err := mark(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	dir := placeCgroup(cgroupName(m))
	if dir == "" {
		return // none can be made here
	}
	if _, err := os.Stat(dir); err == nil {
		r.t.Errorf("control group %s is left", dir)
	}
}

// helperDied reports whether a helper that is to die has done so.
func (r *rig) helperDied() bool {
	pid := r.file("state/died") // first: before that, it may not have its lock yet
	if pid == "" {
		return false
	}
	// A zombie has no command line.
	if line, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && len(line) > 0 {
		return false
	}
	busy, err := locked(r.dir)
	return err == nil && !busy
}

func TestStopWithoutAHelper(t *testing.T) {
	r := newRig(t, "echo $$ > $T/pid; setsid sleep 60 & sleep 61; sleep 62")
	r.agent("", "forked=die")
	r.await("the program", func() bool { return r.file("pid") != "" })
	r.await("the helper's death", r.helperDied)
	res, err := Stop(r.ctx(), r.dir)
	if err != nil || res.State != Unknown || len(r.marked()) != 0 {
		t.Errorf("got %+v, %v, left %s", res, err, names(r.marked()))
	}
}

func TestAnotherBootIsUnknown(t *testing.T) {
	r := newRig(t, "")
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(r.dir, fileBegun, attemptState{Boot: "another"}); err != nil {
		t.Fatal(err)
	}
	if res := r.probe(); res.State != Unknown || !strings.Contains(res.Why, "went down") {
		t.Errorf("got %+v", res)
	}
}

func TestProbeOfNothing(t *testing.T) {
	res, err := Probe(filepath.Join(t.TempDir(), "none"))
	if err != nil || res.State != NotDone {
		t.Errorf("got %+v, %v", res, err)
	}
}

// A program that is killed by a probe-and-repeat race would show up as two runs.
func TestProbesDoNotDisturb(t *testing.T) {
	r := newRig(t, waiting)
	done := make(chan error, 1)
	end := make(chan struct{})
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r.start()
	go func() {
		for {
			select {
			case <-end:
				done <- nil
				return
			default:
			}
			if res, err := Probe(r.dir); err != nil || res.State != Running && res.State != Failed {
				done <- fmt.Errorf("got %+v, %w", res, err)
				return
			}
		}
	}()
	r.touch("go")
	res, _ := r.attach()
	close(end)
	if err := <-done; err != nil || res.Exit != 7 {
		t.Errorf("got %+v, %v", res, err)
	}
}
