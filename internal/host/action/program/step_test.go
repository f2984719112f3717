package program

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var errLeave = errors.New("the agent stops")

// stepRig is a step that runs its script two times. The first says one, the second two,
// and then waits.
type stepRig struct {
	*rig
	log map[int]*bytes.Buffer // by attempt
}

func newStepRig(t *testing.T) *stepRig {
	t.Helper()
	r := newRig(t, `echo run >> $T/runs; [ -e $T/1 ] || { touch $T/1; echo one; exit; }; echo two; touch $T/2; until [ -e $T/go ]; do sleep 0.02; done; echo end; exit 5`)
	r.dir = filepath.Join(r.tmp, "step", "1", "2") // that is swept
	return &stepRig{r, map[int]*bytes.Buffer{}}
}

// twice is a step of two commands.
func (r *stepRig) twice(ctx context.Context, a *Attempt) (Result, error) {
	if res, err := a.Run(ctx, r.h, r.spec); err != nil || res.State != Done {
		return res, err
	}
	return a.Run(ctx, r.h, r.spec)
}

// do does an attempt, as who has steps does.
func (r *stepRig) do(ctx context.Context, s *Step) (Result, error) {
	a, res, err := s.Begin(ctx)
	if err != nil {
		return res, err
	}
	if res.State == NotDone {
		res, err = r.twice(ctx, a)
	} else {
		res, err = s.Follow(ctx, a)
	}
	return s.End(ctx, a, res, err)
}

// step is an attempt as another process of the agent sees it.
func (r *stepRig) step(n int) *Step {
	if r.log[n] == nil {
		r.log[n] = &bytes.Buffer{}
	}
	return &Step{Dir: filepath.Join(r.tmp, "step"), Attempt: n, Log: r.log[n], Leave: errLeave}
}

// left does an attempt until a file is there, and leaves what runs.
func (r *stepRig) left(n int, file string) {
	r.t.Helper()
	ctx, cancel := context.WithCancelCause(r.ctx())
	defer cancel(nil)
	s, done := r.step(n), make(chan error, 1)
	go func() { _, err := r.do(ctx, s); done <- err }() // awaited below
	r.await(file, func() bool { _, err := os.Stat(filepath.Join(r.tmp, file)); return err == nil })
	cancel(errLeave)
	if err := <-done; !errors.Is(err, errLeave) {
		r.t.Fatalf("left: %v", err)
	}
}

func (r *stepRig) probed(n int, want State) {
	r.t.Helper()
	if res, err := r.step(n).Probe(r.ctx(), false); err != nil || res.State != want {
		r.t.Errorf("attempt %d: %+v, %v, want %s", n, res, err, want)
	}
}

// Whoever follows them: the log of each attempt has the outputs of all commands once, and
// no command is begun twice.
func TestStepOfSeveralCommands(t *testing.T) {
	r := newStepRig(t)
	r.probed(1, NotDone)
	r.left(1, "2")
	r.probed(1, Running)
	if busy, err := Busy(r.tmp); err != nil || busy != r.dir {
		t.Errorf("busy: %q, %v", busy, err)
	}
	r.probed(2, Running) // its process ends before it has adopted anything
	r.left(3, "step/3/logged")
	r.touch("go")
	r.await("the end", func() bool { return r.file("step/1/2/exit.json") != "" })
	r.probed(1, Failed)
	r.probed(3, Failed)
	res, err := r.do(r.ctx(), r.step(4))
	if err != nil || res.State != Failed || res.Exit != 5 {
		t.Errorf("%+v, %v", res, err)
	}
	const adopts = "[holdfast: this is what attempt 1 has begun]\n"
	for n, want := range map[int]string{1: "one\ntwo\nend\n", 2: "", 3: adopts + "one\ntwo\nend\n",
		4: adopts + "one\ntwo\nend\n[holdfast: ended with exit code 5]\n"} {
		if got := r.log[n].String(); got != want {
			t.Errorf("log of attempt %d: %q, want %q", n, got, want)
		}
	}
	if r.file("runs") != "run\nrun\n" {
		t.Errorf("runs %q", r.file("runs"))
	}
	r.probed(6, NotDone) // everybody was told
	if busy, err := Busy(r.tmp); err != nil || busy != "" {
		t.Errorf("busy: %q, %v", busy, err)
	}
}

// A process that dies between the directories of an attempt leaves nothing that says that
// something was begun, or that nothing runs.
func TestStepWithHalfMadeDirectories(t *testing.T) {
	r := newStepRig(t)
	if err := os.MkdirAll(filepath.Join(r.tmp, "step", "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.probed(1, NotDone)
	r.left(1, "2")
	if err := os.Mkdir(filepath.Join(r.tmp, "step", "2.part"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.probed(2, Running)
	r.touch("go")
	if res, err := r.do(r.ctx(), r.step(2)); err != nil || res.Exit != 5 || r.file("runs") != "run\nrun\n" {
		t.Errorf("%+v, %v, runs %q", res, err, r.file("runs"))
	}
	// The attempt that has begun it runs none of its commands again.
	if _, err := NewAttempt(filepath.Join(r.tmp, "step", "1"), r.log[1]).Run(r.ctx(), r.h, r.spec); !errors.Is(err, ErrBegun) {
		t.Errorf("once more: %v", err)
	}
}

// Answers are for who runs, and are gone when nobody does.
func TestCredentialsOfAnAttempt(t *testing.T) {
	r := newStepRig(t)
	a := NewAttempt(filepath.Join(r.tmp, "step", "1"), &bytes.Buffer{})
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := a.Credentials(&Credentials{Secrets: map[string]string{"a": "b"},
		Expect: []Expect{{Prompt: "p", Answer: Answer{Secret: "a"}}}, Silence: Seconds(90 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := ReadCredentials(file); err != nil || c.Silence != Seconds(90*time.Second) || len(c.Expect) != 1 || c.Expect[0].Secret != "a" {
		t.Errorf("%+v, %v", c, err)
	}
	r.probed(1, NotDone)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}
