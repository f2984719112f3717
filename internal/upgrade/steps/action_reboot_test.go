package steps

import (
	"context"
	"strings"
	"testing"
	"time"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job/engine"
	"holdfast/testbed/need"
)

// The host goes down in the middle: only the module's own check can tell.
func TestActionIsCheckedAfterAReboot(t *testing.T) {
	need.Seconds(t)
	for name, x := range map[string]struct {
		check string
		want  engine.Probed
		says  string
	}{
		"none":      {"", engine.CanNotTell, "module db has no check"},
		"done":      {"exit 0", engine.ProbedDone, "says that it was done"},
		"not done":  {"exit 1", engine.CanNotTell, "does not say that it was done: ended with exit code 1"},
		"too slow":  {"sleep 60", engine.CanNotTell, "does not say that it was done"},
		"is broken": {"kill -9 $$", engine.CanNotTell, "signal 9"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRunRig(t)
			r.installs("echo run >> $R/runs")
			if x.check != "" {
				r.script("check.sh", `echo "$@" $HOLDFAST_PHASE >> $R/asked; `+x.check)
				r.module().Actions.Check = &manifest.Action{Run: []string{"check.sh", "{phase}"}}
				r.module().Timeout = manifest.Duration(time.Second)
			}
			if err := r.do(1); err != nil {
				t.Fatal(err)
			}
			r.probed(1, engine.ProbedDone)
			if r.file("asked") != "" {
				t.Error("the check was asked although the host can tell")
			}
			r.rebooted(1)
			r.probed(1, x.want)
			r.probed(1, x.want)
			if asked := r.file("asked"); x.check != "" && asked != "install install\ninstall install\n" {
				t.Errorf("asked %q", asked)
			}
			if !strings.Contains(r.log(), x.says) {
				t.Errorf("log: %s", r.log())
			}
			// An operator, or the engine where that does no harm, begins it again.
			if err := r.do(2); err != nil || r.file("runs") != "run\nrun\n" {
				t.Errorf("%v, runs %q", err, r.file("runs"))
			}
		})
	}
}

func TestActionCheckIsGivenUpWithTheProbe(t *testing.T) {
	r := newRunRig(t)
	r.installs("true")
	r.script("check.sh", "echo $$ > $R/pid; exec sleep 60")
	r.module().Actions.Check = &manifest.Action{Run: []string{"check.sh"}}
	if err := r.do(1); err != nil {
		t.Fatal(err)
	}
	r.rebooted(1)
	ctx, cancel := context.WithCancel(r.ctx())
	defer cancel()
	result := make(chan error, 1)
	d := r.must()
	go func() { result <- second(d.Probe(ctx, r.Task)) }() // awaited below
	r.await("the check", r.begun)
	cancel()
	if err := <-result; err == nil {
		t.Error("no error")
	} // and it leaves nothing running
}
