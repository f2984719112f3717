package steps

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/action"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/testbed/need"
)

// actionWaiting is a script that counts its runs, and ends with $1 when it is let
// go.
const actionWaiting = "echo run >> $R/runs; echo first; echo $$ > $R/pid; until [ -e $R/go ]; do sleep 0.02; done; " +
	"echo last; exit $(cat $R/code)"

func (r *runRig) begun() bool { return r.file("pid") != "" }

func TestActionGetsItsValues(t *testing.T) {
	r := newRunRig(t)
	r.script("db/ctl.sh", `echo "$@" $HOLDFAST_PHASE $PWD; [ -d "$HOLDFAST_BACKUP" ] || exit 5`)
	r.module().Actions.Backup = &manifest.Action{Run: []string{"db/ctl.sh", "{mode}", "{appctlMode}", "{version}",
		"{from}", "{host}", "{bundle}", "{backup}"}}
	r.action(manifest.Backup)
	r.probed(1, engine.NotDone)
	if err := r.do(1); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("rolling rollup 2.0 1.0 h1 %[1]s/bundle %[1]s/up/backups/run-0/db backup %[1]s/bundle\n", r.Root)
	if r.log() != want {
		t.Errorf("got %q, want %q", r.log(), want)
	}
	r.probed(1, engine.ProbedDone)
	if r.log() != want {
		t.Errorf("after the probe: %q", r.log())
	}
}

func TestActionThatFails(t *testing.T) {
	need.Seconds(t)
	r := newRunRig(t)
	r.installs("echo run >> $R/runs; echo no; [ -e $R/2 ] || sleep 60 & exit 7")
	err := r.do(1)
	r.exits(err, 7, "install of module db: ended with exit code 7")
	if !strings.Contains(r.log(), "no\n[holdfast: ended with exit code 7]\n") || !strings.Contains(r.log(), `"sleep", which was ended]`) {
		t.Errorf("log: %s", r.log())
	}
	r.write("2", "", 0o600)
	r.exits(r.do(2), 7, "")
	if r.file("runs") != "run\nrun\n" {
		t.Errorf("an operator's retry: %q", r.file("runs"))
	}
}

func TestActionIsRefused(t *testing.T) {
	r := newRunRig(t)
	r.installs("echo run >> $R/runs")
	r.module().Actions.Check = &manifest.Action{Run: []string{"ctl.sh"}}
	good := upgrade.ActionArgs{Run: "run-0", SHA256: runSHA, Module: "db", Phase: manifest.Install}
	for words, change := range map[string]func(*upgrade.ActionArgs){
		`has no module "web"`:                  func(a *upgrade.ActionArgs) { a.Module = "web" },
		`does nothing in the phase "start"`:    func(a *upgrade.ActionArgs) { a.Phase = manifest.Start },
		`does nothing in the phase "nonsense"`: func(a *upgrade.ActionArgs) { a.Phase = "nonsense" },
		`does nothing in the phase "check"`:    func(a *upgrade.ActionArgs) { a.Phase = manifest.Check },
		"find its bundle":                      func(a *upgrade.ActionArgs) { a.SHA256 = "00" },
		`upgrade "../x": want letters`:         func(a *upgrade.ActionArgs) { a.Run = "../x" },
		`upgrade "": want letters`:             func(a *upgrade.ActionArgs) { a.Run = "" },
		"":                                     func(*upgrade.ActionArgs) {},
	} {
		args := good
		change(&args)
		r.kind(upgrade.KindAction, args)
		if words == "" {
			r.Task.Job, words = "../../x", "want letters"
		}
		for _, err := range []error{r.do(1), second(r.must().Probe(r.ctx(), r.Task))} {
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("got %v, want %q", err, words)
			}
		}
		r.Task.Job = "run-1"
	}
	r.Task.Step.Args = []byte(`[`)
	if err := r.do(1); err == nil || !strings.Contains(err.Error(), "read its arguments") {
		t.Errorf("got %v", err)
	}
	if r.file("runs") != "" {
		t.Error("something was run")
	}
}

func second[T any](_ T, err error) error { return err }

// A program of the bundle that is not as the manifest says is not begun, and can
// not be taken for one that is.
func TestActionWithAChangedProgram(t *testing.T) {
	r := newRunRig(t)
	r.installs("echo run >> $R/runs")
	r.write("bundle/ctl.sh", "#!/bin/bash\necho RUN >> "+r.Root+"/runs", 0o755)
	err := r.do(1)
	var exit *engine.Exit
	if err == nil || errors.As(err, &exit) || !strings.Contains(err.Error(), "not what the manifest says") || r.file("runs") != "" {
		t.Errorf("got %v, runs %q", err, r.file("runs"))
	}
}

// The agent is killed while the program runs. The program goes on, and the next
// agent tells how it ended: it does not run it again.
func TestActionOutlivesTheAgent(t *testing.T) {
	for code, want := range map[string]engine.Probed{"0": engine.ProbedDone, "9": engine.NotDone} {
		t.Run(code, func(t *testing.T) {
			r := newRunRig(t)
			r.write("code", code, 0o600)
			r.installs(actionWaiting)
			kill := r.agent(1)
			r.await("the program", r.begun)
			// One that is killed between the log and the count logs a line twice.
			r.await("its log", func() bool { return strings.TrimLeft(r.file("up/runs/run-1/h1_install_db/1/logged"), "0") == "6\n" })
			kill()
			r.probed(1, engine.StillRunning)
			r.write("go", "", 0o600)
			r.over(1)
			r.probed(1, want)
			if r.log() != "first\nlast\n" {
				t.Errorf("log: %q", r.log())
			}
			if code == "0" {
				return
			}
			r.probed(1, want)
			r.exits(r.do(2), 9, "ended with exit code 9")
			// Killed before the engine has written that down: it is told once more.
			r.probed(2, engine.NotDone)
			r.exits(r.do(3), 9, "")
			if r.file("runs") != "run\n" {
				t.Errorf("runs: %q", r.file("runs"))
			}
			// Now an operator retries.
			r.write("code", "0", 0o600)
			if err := r.do(4); err != nil || r.file("runs") != "run\nrun\n" {
				t.Errorf("retried: %v, runs %q", err, r.file("runs"))
			}
		})
	}
}

// The agent stops, and the next one is asked for another attempt while the program
// goes on.
func TestActionIsNotRunTwiceAtOnce(t *testing.T) {
	r := newRunRig(t)
	r.write("code", "3", 0o600)
	r.installs(actionWaiting)
	if err := r.interrupt(1, engine.ErrStopping, r.begun); !errors.Is(err, engine.ErrStopping) {
		t.Fatalf("got %v", err)
	}
	r.probed(2, engine.StillRunning) // an attempt of which nothing was begun
	if err := r.interrupt(3, engine.ErrStopping, func() bool { return strings.Contains(r.log(), "what attempt 1 has begun") }); err == nil {
		t.Fatal("it has ended")
	}
	r.probed(3, engine.StillRunning)
	r.Task.Attempt = 4
	d, task, result := r.must(), r.Task, make(chan error, 1)
	go func() { result <- d.Do(r.ctx(), task) }()
	// What ends between the last question and the next attempt is done again: see docs/roadmap.md.
	r.await("the fourth attempt", func() bool {
		_, err := os.Stat(filepath.Join(r.Root, "up/runs/run-1/h1_install_db/4"))
		return err == nil
	})
	r.write("go", "", 0o600)
	r.exits(<-result, 3, "")
	if r.file("runs") != "run\n" || !strings.HasSuffix(r.log(),
		"[holdfast: this is what attempt 1 has begun]\nfirst\nlast\n[holdfast: ended with exit code 3]\n") {
		t.Errorf("runs %q, log %q", r.file("runs"), r.log())
	}
	r.write("code", "0", 0o600)
	if err := r.do(5); err != nil || r.file("runs") != "run\nrun\n" {
		t.Errorf("retried: %v, runs %q", err, r.file("runs"))
	}
}

// An agent that was killed between the claim of another attempt and its begin is
// told how the program of the one before ended.
func TestActionEndsBeforeTheNextAttemptBegins(t *testing.T) {
	for code, want := range map[string]engine.Probed{"0": engine.ProbedDone, "3": engine.NotDone} {
		r := newRunRig(t)
		r.write("code", code, 0o600)
		r.installs(actionWaiting)
		if err := r.interrupt(1, engine.ErrStopping, r.begun); err == nil {
			t.Fatal("it has ended")
		}
		r.probed(2, engine.StillRunning)
		r.write("go", "", 0o600)
		r.over(1)
		r.probed(2, want)
		if code != "0" {
			r.exits(r.do(3), 3, "")
		}
		if r.file("runs") != "run\n" {
			t.Errorf("runs %q", r.file("runs"))
		}
	}
}

// Whoever was to be told of a failure has never asked: later attempts are begun
// as they are asked for.
func TestActionTellsNoOldFailure(t *testing.T) {
	r := newRunRig(t)
	r.installs("echo run >> $R/runs; exit 3")
	r.exits(r.do(1), 3, "")
	r.probed(1, engine.NotDone)
	r.exits(r.do(4), 3, "")
	if r.file("runs") != "run\nrun\n" {
		t.Errorf("runs %q", r.file("runs"))
	}
}

func TestActionEndsWithItsContext(t *testing.T) {
	for _, cause := range []error{engine.ErrCancelled, engine.ErrTimeout} {
		t.Run(cause.Error(), func(t *testing.T) {
			r := newRunRig(t)
			r.installs("trap 'echo ended; exit 4' TERM; echo $$ > $R/pid; while :; do sleep 0.02; done")
			err := r.interrupt(1, cause, r.begun)
			if err == nil || errors.Is(err, engine.ErrUnclear) {
				t.Errorf("got %v", err)
			}
			if !strings.Contains(r.log(), cause.Error()+": it is being stopped") || !strings.Contains(r.log(), "ended\n") {
				t.Errorf("log: %s", r.log())
			}
		})
	}
}

func TestActionHasItsOwnTimeout(t *testing.T) {
	r := newRunRig(t)
	r.installs("sleep 60")
	r.Task.Step.Timeout = 200 * time.Millisecond
	if err := r.do(1); err == nil || !strings.Contains(err.Error(), "200ms") {
		t.Errorf("got %v", err)
	}
}

func TestActionIsStopped(t *testing.T) {
	r := newRunRig(t)
	r.write("code", "0", 0o600)
	r.installs(actionWaiting)
	stop := func() {
		t.Helper()
		if err := r.must().(engine.Stopper).Stop(r.ctx(), r.Task); err != nil {
			t.Error(err)
		}
	}
	stop() // nothing runs
	kill := r.agent(1)
	r.await("the program", r.begun)
	kill()
	r.probed(1, engine.StillRunning)
	stop()
	r.probed(1, engine.NotDone)
	stop()
	if err := r.do(2); err == nil || !strings.Contains(err.Error(), "stop") {
		t.Errorf("got %v", err)
	}
}

func TestActionBuiltin(t *testing.T) {
	r := newRunRig(t)
	r.write("bundle/tree/x", "new", 0o644)
	r.write("opt/app/x", "old", 0o644)
	r.Files["tree/x"] = action.File{Size: 3, SHA256: "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437", Mode: 0o644}
	tree := &manifest.Action{FileTree: &manifest.FileTree{Source: "tree", Target: filepath.Join(r.Root, "opt/app")}}
	r.module().Actions = manifest.Actions{Install: tree, Rollback: tree, Start: &manifest.Action{None: true}}
	r.action(manifest.Install)
	r.probed(1, engine.NotDone)
	if err := r.do(1); err != nil || r.file("opt/app/x") != "new" {
		t.Fatalf("%v, %q", err, r.file("opt/app/x"))
	}
	r.probed(1, engine.ProbedDone)
	if err := r.do(1); err != nil { // it has begun no command, and is done
		t.Error(err)
	}
	r.action(manifest.Rollback)
	r.Task.Step.ID = "h1/rollback/db"
	if err := r.do(1); err != nil || r.file("opt/app/x") != "old" {
		t.Errorf("%v, %q", err, r.file("opt/app/x"))
	}
	r.action(manifest.Start)
	if err := r.do(2); err != nil {
		t.Error(err)
	}
	r.probed(2, engine.ProbedDone)
	if r.log() != "" {
		t.Errorf("log: %s", r.log())
	}
}

// A module of the appctl layout asks as it always did.
func TestActionAnswersPrompts(t *testing.T) {
	r := newRunRig(t)
	r.write("opt/engine/action/appctl.sh",
		`stty -echo; printf "sys pwd:"; read p; stty echo; echo; [ "$p" = geheim ] && echo "took $p"; echo Execute x stop.sh return success`, 0o400)
	r.module().Actions.Install = &manifest.Action{Appctl: &manifest.Appctl{Home: r.Root + "/opt/engine",
		Call: []string{"stop"}, Installed: true}}
	r.action(manifest.Install)
	r.Credentials = r.write("credentials", "secrets: {sys: geheim}\nexpect: [{prompt: 'sys pwd:', secret: sys}]", 0o600)
	if err := r.do(1); err != nil || !strings.Contains(r.log(), "took ***") || strings.Contains(r.log(), "geheim") {
		t.Errorf("%v; log: %s", err, r.log())
	}
	r.write("credentials", "silence: 200ms", 0o600)
	if err := r.do(2); err == nil || !strings.Contains(err.Error(), `waits for an answer that was not given in advance: "sys pwd:"`) {
		t.Errorf("got %v", err)
	}
	r.write("credentials", "silence: 200ms", 0o644)
	if err := r.do(3); err == nil || !strings.Contains(err.Error(), "others may use it") {
		t.Errorf("got %v", err)
	}
}

// A bundle that was made for Holdfast has no terminal, and no credentials file is
// none.
func TestActionHasNoTerminal(t *testing.T) {
	r := newRunRig(t)
	r.installs("[ -t 1 ] && exit 3; read x && exit 4; true")
	r.Credentials = filepath.Join(r.Root, "none")
	if err := r.do(1); err != nil {
		t.Error(err)
	}
}

func TestActionWithHostileOutput(t *testing.T) {
	r := newRunRig(t)
	r.installs(`printf 'a\x00b\xff\xfe\x1b[31m\x1b]0;title\x07\r\n[holdfast: done]\n'; head -c 3000000 /dev/zero | tr '\0' x; printf '%s%n'; echo end`)
	if err := r.do(1); err != nil {
		t.Fatal(err)
	}
	got := r.log()
	if want := "a\x00b\xff\xfe\x1b[31m\x1b]0;title\x07\r\n[holdfast: done]\n" +
		strings.Repeat("x", 3000000); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "end\n") {
		t.Errorf("got %d bytes, %.80q", len(got), got)
	}
	r.probed(1, engine.ProbedDone)
	if r.log() != got {
		t.Error("the probe has added to the log")
	}
}

// A state directory that can not be read is no answer.
func TestActionWithADamagedState(t *testing.T) {
	r := newRunRig(t)
	r.installs("echo run >> $R/runs")
	if err := r.do(1); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir(), "1", "1", "exit.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := r.must().Probe(r.ctx(), r.Task); err == nil || p != engine.CanNotTell {
		t.Errorf("got %d, %v", p, err)
	}
	if err := r.do(2); err == nil || r.file("runs") != "run\n" {
		t.Errorf("got %v, runs %q", err, r.file("runs"))
	}
}

// An agent that was killed leaves the answers of an attempt, secrets among them.
func TestActionLeavesNoAnswersBehind(t *testing.T) {
	const answers = "up/runs/run-1/h1_install_db/1/credentials"
	gone := func(r *runRig) {
		r.Helper()
		if r.file(answers) != "" {
			t.Error("the answers are still there")
		}
	}
	t.Run("never begun", func(t *testing.T) {
		r := newRunRig(t)
		r.installs("exit 0")
		r.write(answers, "x", 0o600)
		r.probed(1, engine.NotDone)
		gone(r)
	})
	for name, stopped := range map[string]bool{"stopped": true, "ended": false} {
		t.Run(name, func(t *testing.T) {
			r := newRunRig(t)
			r.write("code", "0", 0o600)
			r.installs(actionWaiting)
			kill := r.agent(1)
			r.await("the program", r.begun)
			kill()
			r.write(answers, "x", 0o600)
			r.probed(2, engine.StillRunning)
			if r.file(answers) == "" {
				t.Error("it goes on, and its answers are gone")
			}
			if stopped {
				if err := r.must().(engine.Stopper).Stop(r.ctx(), r.Task); err != nil {
					t.Error(err)
				}
			} else {
				r.write("go", "", 0o600)
				r.over(1)
				r.probed(2, engine.ProbedDone)
			}
			gone(r)
		})
	}
}

// What runs and can not be followed has not failed.
func TestActionThatCanNotBeFollowedIsUnclear(t *testing.T) {
	r := newRunRig(t)
	r.write("code", "3", 0o600)
	r.installs(actionWaiting)
	if err := r.interrupt(1, engine.ErrStopping, r.begun); !errors.Is(err, engine.ErrStopping) {
		t.Fatalf("got %v", err)
	}
	const dir = "up/runs/run-1/h1_install_db/"
	r.write(dir+"2.part", "", 0o600) // the next attempt can not be made
	if err := r.do(2); !errors.Is(err, engine.ErrUnclear) {
		t.Errorf("no directory: %v, want ErrUnclear", err)
	}
	count := filepath.Join(r.Root, dir, "1/logged")
	if err := errors.Join(os.Remove(count), os.Mkdir(count, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := r.do(1); !errors.Is(err, engine.ErrUnclear) {
		t.Errorf("no log: %v, want ErrUnclear", err)
	}
	r.write("go", "", 0o600)
	r.over(1)
	if err := r.do(1); err == nil || errors.Is(err, engine.ErrUnclear) {
		t.Errorf("it has failed: %v, want a clear error", err)
	}
}
