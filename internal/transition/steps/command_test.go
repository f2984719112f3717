package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
	"holdfast/internal/transition"
)

// The test binary plays the helper of programs, too, and this program.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "helper":
		if err := program.Main(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case len(os.Args) > 1 && os.Args[1] == "transition":
		fmt.Println(strings.Join(os.Args[1:], " "), os.Getenv("HOLDFAST_SOCKET"))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func rigged(t *testing.T, argv ...string) (*Command, engine.Task, *enginetest.Heard) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	task, heard := enginetest.Task(t, "copy", transition.Args{Run: argv})
	task.Step.Timeout = time.Minute
	c := &Command{Helper: []string{"helper"}, Dir: t.TempDir(), Self: exe, Env: []string{"HOLDFAST_SOCKET=/run/x.sock"}}
	return c, task, heard
}

func TestACommandRuns(t *testing.T) {
	c, task, heard := rigged(t, "/bin/sh", "-c", `echo begins; printf 'nova.instances  1 rows  40 %%  3 rows/s\npart'; exit $1`, "sh", "0")
	enginetest.Probed(t, c, task, engine.NotDone)
	if err := c.Do(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	enginetest.Has(t, "log", heard.Log(), "begins", "40 %", "part")
	enginetest.Has(t, "notes", heard.Noted(), "nova.instances  1 rows")
	if heard.Percent() != 40 {
		t.Errorf("%d %%", heard.Percent())
	}
	enginetest.Probed(t, c, task, engine.ProbedDone)
}

func TestACommandFails(t *testing.T) {
	c, task, heard := rigged(t, "/bin/sh", "-c", "echo no such row >&2; exit 3")
	err := c.Do(t.Context(), task)
	var exit *engine.Exit
	if !errors.As(err, &exit) || exit.Code != 3 || !strings.Contains(err.Error(), `/bin/sh -c 'echo no such row >&2; exit 3'`) {
		t.Errorf("%v", err)
	}
	enginetest.Has(t, "log", heard.Log(), "no such row")
	enginetest.Probed(t, c, task, engine.NotDone)
	task.Attempt = 2
	enginetest.Probed(t, c, task, engine.NotDone)
}

// TestItself: a command of this program is run by the file that runs here, and finds the agent.
func TestItself(t *testing.T) {
	c, task, heard := rigged(t, transition.Self, "transition", "db", "plan")
	if err := c.Do(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	enginetest.Has(t, "log", heard.Log(), "transition db plan /run/x.sock")
}

// TestAnAgentThatStops leaves the command, whose end the next one finds; one that is cancelled
// ends it.
func TestAnAgentThatStops(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	c, task, heard := rigged(t, "/bin/sh", "-c", `printf "be%s\n" gun; until [ -e "$1" ]; do sleep 0.05; done; echo goes on`, "sh", gate)
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Do(ctx, task) }()
	await(t, func() bool { return strings.Contains(heard.Log(), "begun") })
	stop(engine.ErrStopping)
	if err := <-ended; !errors.Is(err, engine.ErrStopping) {
		t.Fatalf("%v", err)
	}
	enginetest.Probed(t, c, task, engine.StillRunning)
	go func() { ended <- c.Do(t.Context(), task) }()
	if err := errors.Join(os.WriteFile(gate, nil, 0o600), <-ended); err != nil {
		t.Fatal(err)
	}
	enginetest.Has(t, "log", heard.Log(), "goes on")

	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	task.Step.ID = "h1/other"
	ctx, stop = context.WithCancelCause(t.Context())
	go func() { ended <- c.Do(ctx, task) }()
	await(t, func() bool { return strings.Count(heard.Log(), "begun") == 2 })
	stop(engine.ErrCancelled)
	if err := <-ended; err == nil {
		t.Error("it was cancelled, and is done")
	}
	enginetest.Probed(t, c, task, engine.NotDone)
}

// TestEndedWithItsHost: a command that an earlier attempt has begun, and that was ended while nobody looked, is begun
// again where that may be; else its end is told.
func TestEndedWithItsHost(t *testing.T) {
	for _, again := range []bool{true, false} {
		c, task, heard := rigged(t, "/bin/sh", "-c", `printf "be%s\n" gun; [ -e "$1" ] && exit 0; exec sleep 60`, "sh",
			filepath.Join(t.TempDir(), "gate"))
		task.Step.Idempotent = again
		ctx, stop := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Do(ctx, task) }()
		await(t, func() bool {
			return strings.Contains(heard.Log(), "\nbegun") || strings.HasPrefix(heard.Log(), "begun")
		})
		stop(engine.ErrStopping)
		<-ended
		if err := c.Stop(t.Context(), task); err != nil { // as a host that goes down
			t.Fatal(err)
		}
		enginetest.Probed(t, c, task, engine.NotDone)
		var args transition.Args
		if err := json.Unmarshal(task.Step.Args, &args); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(args.Run[len(args.Run)-1], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		task.Attempt = 2
		if err := c.Do(t.Context(), task); (err == nil) != again {
			t.Errorf("may be begun again: %v; %v", again, err)
		}
	}
}

// TestEarlierJobsAreTidied, but for one whose command still runs, which stops the step.
func TestEarlierJobsAreTidied(t *testing.T) {
	c, task, _ := rigged(t, "/bin/true")
	old := filepath.Join(c.Dir, "runs", "transition-0")
	if err := os.MkdirAll(filepath.Join(old, "h1_copy", "1", "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the earlier job's: %v", err)
	}

	_, long, heard := rigged(t, "/bin/sh", "-c", `printf "be%s\n" gun; exec sleep 60`)
	long.Job = "transition-1"
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Do(ctx, long) }()
	await(t, func() bool { return strings.Contains(heard.Log(), "begun") })
	stop(engine.ErrStopping)
	<-ended
	task.Attempt = 2
	if err := c.Do(t.Context(), task); err == nil || !strings.Contains(err.Error(), "transition-1 still runs") {
		t.Errorf("beside a command of another job: %v", err)
	}
	if err := c.Stop(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), task); err != nil {
		t.Error(err)
	}
}

func TestBadSteps(t *testing.T) {
	c, task, _ := rigged(t)
	if err := c.Do(t.Context(), task); err == nil || !strings.Contains(err.Error(), "names no program") {
		t.Error(err)
	}
	task.Step.Args = []byte("{")
	if _, err := c.Probe(t.Context(), task); err == nil {
		t.Error("arguments that are no JSON")
	}
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come within a minute")
		}
	}
}
