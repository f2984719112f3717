package steps

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/testbed/need"
)

// switches makes the step one that runs a program which writes a number down, and
// a status program that ends with it.
func (r *runRig) switches(kind, run string) {
	r.T.Helper()
	sw := r.program("switch", "echo run >> $R/runs; "+run)
	status := r.program("status", "echo asked >> $R/asked; exit $(cat $R/status)")
	var args any = upgrade.SwitchArgs{Run: []string{sw, "x"}, Status: []string{status}}
	if strings.HasPrefix(kind, "pair") {
		args = upgrade.PairArgs{Run: []string{sw, "x"}, Status: []string{status}}
	}
	r.kind(kind, args)
	r.Task.Step.ID = "h1/" + kind
}

func TestSwitchesByTheirStatus(t *testing.T) {
	need.Seconds(t)
	for _, x := range []struct {
		kind   string
		before int
		after  int
	}{
		{upgrade.KindHAOff, 0, 1},
		{upgrade.KindHAOn, 1, 0},
		{upgrade.KindHAOn, 2, 0},
		{upgrade.KindPairSwitch, 3, 0},
		{upgrade.KindPairStart, 1, 0},
		{upgrade.KindPairStart, 1, 3},
		{upgrade.KindPairStop, 0, 1},
		{upgrade.KindPairStop, 3, 2},
	} {
		t.Run(fmt.Sprint(x), func(t *testing.T) {
			r := newRunRig(t)
			r.write("status", fmt.Sprint(x.before), 0o600)
			// The program returns before the platform has done it.
			r.switches(x.kind, fmt.Sprintf("(sleep 0.1; echo %d > $R/new; mv $R/new $R/status) > /dev/null 2>&1 &", x.after))
			r.probed(1, engine.NotDone)
			if err := r.do(1); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(r.file("status")); got != fmt.Sprint(x.after) || r.file("runs") != "run\n" {
				t.Errorf("status %s, runs %q", got, r.file("runs"))
			}
			r.probed(1, engine.ProbedDone)
			if err := r.do(2); err != nil || r.file("runs") != "run\n" ||
				strings.Contains(r.log(), "nothing is to be done") != (x.kind != upgrade.KindPairStop) {
				t.Errorf("once more: %v, runs %q, log %s", err, r.file("runs"), r.log())
			}
		})
	}
}

func TestSwitchThatFails(t *testing.T) {
	r := newRunRig(t)
	r.write("status", "0", 0o600)
	r.switches(upgrade.KindHAOff, "echo can not; exit 6")
	r.exits(r.do(1), 6, "switch HA off: ended with exit code 6")
	if !strings.Contains(r.log(), "can not\n") {
		t.Errorf("log: %s", r.log())
	}
}

// The program ends well and the status stays as it was: the step waits until its
// time is over, or the agent stops. The next agent does not run the program again,
// it goes on to wait.
func TestSwitchWaitsForTheStatus(t *testing.T) {
	r := newRunRig(t)
	r.write("status", "3", 0o600)
	r.switches(upgrade.KindPairSwitch, "true")
	waits := func() bool { return strings.Contains(r.log(), " ended with exit code 3: want 0 (active)") }
	if err := r.interrupt(1, engine.ErrStopping, waits); !errors.Is(err, engine.ErrStopping) {
		t.Fatalf("got %v", err)
	}
	r.probed(1, engine.NotDone)
	if err := r.interrupt(2, engine.ErrTimeout, func() bool {
		return strings.Count(r.log(),
			"ended with exit code 3") == 2
	}); !errors.Is(err, engine.ErrTimeout) || !strings.Contains(err.Error(),
		"its program has ended with exit code 0, but ") || !strings.Contains(err.Error(), " ended with exit code 3: want 0 (active)") {
		t.Fatalf("got %v", err)
	}
	if r.file("runs") != "run\n" {
		t.Errorf("runs %q", r.file("runs"))
	}
	// An operator retries.
	if err := r.interrupt(3, engine.ErrTimeout, func() bool { return r.file("runs") == "run\nrun\n" }); err == nil {
		t.Fatal("it is done")
	}
	r.write("status", "0", 0o600)
	r.probed(3, engine.ProbedDone)
}

func TestSwitchWithAStatusThatCanNotBeAsked(t *testing.T) {
	r := newRunRig(t)
	r.write("status", "127", 0o600)
	r.switches(upgrade.KindHAOff, "echo 1 > $R/status")
	if p, err := r.must().Probe(r.ctx(), r.Task); err == nil || p != engine.CanNotTell {
		t.Errorf("got %d, %v", p, err)
	}
	if err := r.do(1); err != nil || !strings.Contains(r.log(), "ask "+filepath.Join(r.Root, "host/status")) {
		t.Errorf("got %v, log %s", err, r.log())
	}
}

func TestSwitchOutlivesTheAgent(t *testing.T) {
	r := newRunRig(t)
	r.write("status", "0", 0o600)
	r.write("code", "0", 0o600)
	r.switches(upgrade.KindHAOff, "echo $$ > $R/pid; until [ -e $R/go ]; do sleep 0.02; done; echo 1 > $R/status")
	kill := r.agent(1)
	r.await("the program", r.begun)
	kill()
	r.probed(1, engine.StillRunning)
	r.write("go", "", 0o600)
	r.over(1)
	r.probed(1, engine.ProbedDone)
}

func TestSwitchIsStopped(t *testing.T) {
	r := newRunRig(t)
	r.write("status", "0", 0o600)
	r.switches(upgrade.KindHAOff, "echo $$ > $R/pid; sleep 60")
	if err := r.interrupt(1, engine.ErrStopping, r.begun); err == nil {
		t.Fatal("it has ended")
	}
	r.probed(1, engine.StillRunning)
	if err := r.must().(engine.Stopper).Stop(r.ctx(), r.Task); err != nil {
		t.Fatal(err)
	}
	r.probed(1, engine.NotDone)
}

func TestSwitchWithoutAStatus(t *testing.T) {
	r := newRunRig(t)
	sw := r.program("switch", "echo run >> $R/runs; exit $(cat $R/code)")
	r.kind(upgrade.KindPairSwitch, upgrade.PairArgs{Run: []string{sw}})
	r.write("code", "5", 0o600)
	r.probed(1, engine.NotDone)
	r.exits(r.do(1), 5, "switch the pair over to this host")
	r.write("code", "0", 0o600)
	if err := r.do(2); err != nil {
		t.Error(err)
	}
	r.probed(2, engine.ProbedDone)
	r.rebooted(2)
	r.probed(2, engine.CanNotTell)
	if r.file("runs") != "run\nrun\n" {
		t.Errorf("runs %q", r.file("runs"))
	}
}

// A coordinator before this one has begun it, on another host.
func TestSwitchThatWasBegunElsewhere(t *testing.T) {
	r := newRunRig(t)
	r.write("status", "0", 0o600)
	r.switches(upgrade.KindHAOff, "exit 0")
	r.Task.Host = "h2"
	r.probed(1, engine.NotDone)
	r.write("status", "1", 0o600)
	r.probed(1, engine.ProbedDone)
	r.kind(upgrade.KindHAOff, upgrade.SwitchArgs{Run: []string{"/bin/true"}})
	r.probed(1, engine.CanNotTell)
}

func TestSwitchIsRefused(t *testing.T) {
	r := newRunRig(t)
	for words, args := range map[string]any{
		"names no program":                upgrade.SwitchArgs{},
		`"ha": want an absolute path`:     upgrade.SwitchArgs{Run: []string{"ha", "off"}},
		`"status": want an absolute path`: upgrade.SwitchArgs{Run: []string{"/bin/true"}, Status: []string{"status"}},
		"read its arguments":              []int{1},
		`is switched by steps of kind ""`: nil,
	} {
		kind := upgrade.KindHAOff
		if args == nil {
			kind, args = "", upgrade.SwitchArgs{}
		}
		r.kind(kind, args)
		for _, err := range []error{r.do(1), second(r.must().Probe(r.ctx(), r.Task)), r.must().(engine.Stopper).Stop(r.ctx(), r.Task)} {
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("got %v, want %q", err, words)
			}
		}
	}
}

// A status program that hangs does not hold the step up, and is ended.
func TestSwitchStatusThatHangs(t *testing.T) {
	r := newRunRig(t)
	status := r.program("status", "echo $$ > $R/pid; exec sleep 60")
	r.kind(upgrade.KindHAOff, upgrade.SwitchArgs{Run: []string{"/bin/true"}, Status: []string{status}})
	d := &Switch{Dir: r.up(), Host: "h1", Within: 300 * time.Millisecond}
	if p, err := d.Probe(r.ctx(), r.Task); !errors.Is(err, context.DeadlineExceeded) || p != engine.CanNotTell {
		t.Errorf("got %d, %v", p, err)
	}
	r.await("the status program's end", func() bool {
		found, err := filepath.Glob("/proc/" + strings.TrimSpace(r.file("pid")) + "/exe")
		return err == nil && len(found) == 0
	})
}

// A pair that is not healthy may run all the same: it counts as stopped only when
// the stop program has ended well.
func TestPairStopRunsItsProgramThoughThePairIsNotHealthy(t *testing.T) {
	r := newRunRig(t)
	r.write("status", "1", 0o600)
	r.write("code", "6", 0o600)
	r.switches(upgrade.KindPairStop, "exit $(cat $R/code)")
	r.probed(1, engine.NotDone)
	r.exits(r.do(1), 6, "stop the pair's services")
	r.probed(2, engine.NotDone)
	r.write("code", "0", 0o600)
	if err := r.do(2); err != nil || r.file("runs") != "run\nrun\n" {
		t.Errorf("%v, runs %q", err, r.file("runs"))
	}
	r.probed(2, engine.ProbedDone)
	r.write("status", "3", 0o600)
	r.probed(2, engine.NotDone)
	r.write("status", "1", 0o600)
	r.rebooted(2)
	r.probed(2, engine.CanNotTell)
	r.Task.Host = "h2"
	r.probed(2, engine.CanNotTell)
}
