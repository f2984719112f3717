package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/durable"
	"holdfast/internal/host/action/program"
	"holdfast/internal/job/engine"
)

const (
	runStopWithin = 25 * time.Second // the engine waits a little longer for an Executor to end
	runLookWithin = 20 * time.Second // at a state directory, after the step's context has ended
)

// runner runs what a step is about, in a state directory, and finds it again
// there.
type runner interface {
	begin(ctx context.Context, dir string, log io.Writer) (program.Result, error)
	probe(ctx context.Context, dir string) (program.Result, error)
	// follow goes on to the end. The log gets the output from the byte at offset
	// from on.
	follow(ctx context.Context, dir string, log io.Writer, from int64) (program.Result, error)
	stop(ctx context.Context, dir string) error
	// single reports that it is one command, and nothing but its output is logged.
	single() bool
}

// runAttempts are the attempts of one step on this host.
type runAttempts struct {
	dir string // of the step
	runner
}

// runStepDir is the directory of a step below that of the upgrades.
func runStepDir(dir string, t engine.Task) (string, error) {
	name := strings.ReplaceAll(t.Step.ID, "/", "_")
	for _, word := range []string{t.Job, name} {
		if !runIsName(word, "._-") {
			return "", fmt.Errorf("job %q, step %q: want letters, digits, '.', '_' and '-'", t.Job, t.Step.ID)
		}
	}
	return filepath.Join(dir, "runs", t.Job, name), nil
}

// runIsName reports whether s can be the name of a file of its own: letters,
// digits and bytes of more, no dot first.
func runIsName(s, more string) bool {
	for i := range len(s) {
		b := s[i]
		if !('0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || strings.IndexByte(more, b) >= 0) {
			return false
		}
	}
	return s != "" && s[0] != '.' && len(s) <= 255
}

func (a *runAttempts) path(n int) string { return filepath.Join(a.dir, strconv.Itoa(n)) }

// latest returns the last attempt up to n that has a directory, 0 when none has.
func (a *runAttempts) latest(n int) (int, error) {
	list, err := os.ReadDir(a.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("look at the attempts of a step: %w", err)
	}
	last := 0
	for _, e := range list {
		if k, err := strconv.Atoi(e.Name()); err == nil && k > last && k <= n { // others are not ours
			last = k
		}
	}
	return last, nil
}

// number reads a number that an attempt has in a file, 0 when there is none.
func (a *runAttempts) number(n int, file string) (int, error) {
	data, err := os.ReadFile(filepath.Join(a.path(n), file))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at attempt %d of a step: %w", n, err)
	}
	k, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("look at attempt %d of a step: %s: %w", n, file, err)
	}
	return k, nil
}

func (a *runAttempts) setNumber(n int, file string, k int) error {
	if err := durable.WriteFile(filepath.Join(a.path(n), file), []byte(strconv.Itoa(k)+"\n"), 0o600); err != nil {
		return fmt.Errorf("note something of attempt %d of a step: %w", n, err)
	}
	return nil
}

// runPast is what is known of the last attempt that has begun something.
type runPast struct {
	n      int            // 0: none has
	dir    string         // where it was begun
	mine   bool           // what became of it is the answer for the attempt that is asked about
	result program.Result // NotDone when there is none
}

// past looks at what was begun until attempt n.
func (a *runAttempts) past(ctx context.Context, n int) (p runPast, err error) {
	p.result.State = program.NotDone
	if p.n, err = a.latest(n); err != nil || p.n == 0 {
		return p, err
	}
	of, err := a.number(p.n, "of")
	if err != nil {
		return p, err
	}
	owed, err := a.number(p.n, "owed")
	if err != nil {
		return p, err
	}
	p.dir, p.mine = a.path(p.n), p.n == n || owed > 0 && owed >= n-1
	if of > 0 {
		p.dir = a.path(of)
	}
	p.result, err = a.probe(ctx, p.dir)
	return p, err
}

// owe keeps that the end of what was begun is the answer for the attempt after n,
// too: this one's process is gone and has told nobody.
func (a *runAttempts) owe(p runPast, n int) error {
	if have, err := a.number(p.n, "owed"); err != nil || have >= n {
		return err
	}
	return a.setNumber(p.n, "owed", n)
}

// do begins attempt n, or follows what an earlier one has begun and what is not
// over or what nobody was told about.
func (a *runAttempts) do(ctx context.Context, t engine.Task) (program.Result, error) {
	p, err := a.past(ctx, t.Attempt)
	if err != nil {
		return program.Result{}, err
	}
	if p.result.State == program.Running || p.mine && p.result.State != program.NotDone {
		return a.goOn(ctx, t, p)
	}
	dir := a.path(t.Attempt)
	if err := durable.MakeDir(dir); err != nil {
		return program.Result{}, fmt.Errorf("make the state directory: %w", err)
	}
	log, err := runOpenLog(dir, t.Log)
	if err != nil {
		return program.Result{}, err
	}
	defer log.close()
	r, err := a.begin(ctx, dir, log)
	return a.end(ctx, dir, log, r, err)
}

// goOn follows what an earlier attempt has begun, as this one.
func (a *runAttempts) goOn(ctx context.Context, t engine.Task, p runPast) (program.Result, error) {
	if p.n != t.Attempt {
		runSay(t.Log, "this is what attempt %s has begun", filepath.Base(p.dir))
		if err := a.adopt(t.Attempt, p.dir); err != nil {
			return program.Result{}, runBegunAlready(p, err)
		}
	}
	log, err := runOpenLog(a.path(t.Attempt), t.Log)
	if err != nil {
		return program.Result{}, runBegunAlready(p, err)
	}
	defer log.close()
	r, err := a.follow(ctx, p.dir, log, log.from(a))
	return a.end(ctx, p.dir, log, r, err)
}

// runBegunAlready is an error because of which nobody follows what was begun: unless
// that has failed, it may go on and may be done.
func runBegunAlready(p runPast, err error) error {
	if p.result.State == program.Failed {
		return err
	}
	return fmt.Errorf("%w: what was begun is not followed: %w", engine.ErrUnclear, err)
}

// adopt makes the directory of an attempt that has begun nothing itself. It
// appears whole: without its note it would say that nothing runs.
func (a *runAttempts) adopt(n int, of string) error {
	part := a.path(n) + ".part"
	err := durable.MakeDir(part)
	if err == nil {
		err = durable.WriteFile(filepath.Join(part, "of"), []byte(filepath.Base(of)+"\n"), 0o600)
	}
	if err == nil {
		err = durable.Rename(part, a.path(n))
	}
	if err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	return nil
}

// end looks what became of something that was begun, after the call that began or
// followed it has returned. When the context has ended it stops what goes on,
// unless the agent only stops.
func (a *runAttempts) end(ctx context.Context, dir string, log *runLog, r program.Result, err error) (program.Result, error) {
	if err == nil && r.State != program.Running {
		return r, nil
	}
	if errors.Is(context.Cause(ctx), engine.ErrStopping) {
		return r, errors.Join(err, context.Cause(ctx))
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), runStopWithin)
	defer cancel()
	now, perr := a.probe(late, dir)
	switch {
	case perr != nil:
		return r, fmt.Errorf("%w: %w", engine.ErrUnclear, errors.Join(err, perr))
	case now.State == program.NotDone:
		return now, errors.Join(err, context.Cause(ctx))
	case now.State != program.Running:
		return a.follow(late, dir, log, log.from(a)) // the rest of the output
	case ctx.Err() == nil:
		r, err = a.follow(ctx, dir, log, log.from(a))
		if ctx.Err() != nil {
			return a.end(ctx, dir, log, r, err)
		}
		return r, err
	}
	runSay(log.to, "%v: it is being stopped", context.Cause(ctx))
	if err := a.stop(late, dir); err != nil {
		return now, fmt.Errorf("%w: it goes on: %w", engine.ErrUnclear, err)
	}
	return a.follow(late, dir, log, log.from(a))
}

// look is past for a Probe: it brings the log up to date, and keeps that the end
// of what runs, or what failed, is still to be told. doneToo: also of what ended
// well.
func (a *runAttempts) look(ctx context.Context, t engine.Task, doneToo bool) (program.Result, error) {
	p, err := a.past(ctx, t.Attempt)
	if err != nil {
		return p.result, err
	}
	if p.n == t.Attempt && a.single() && p.result.State != program.NotDone {
		if err := a.catchUp(ctx, t, p); err != nil {
			return p.result, err
		}
	}
	running := p.result.State == program.Running
	if !running && !p.mine {
		return program.Result{State: program.NotDone}, nil
	}
	if running && p.n != t.Attempt || p.result.State == program.Failed || p.result.State == program.Done && doneToo {
		return p.result, a.owe(p, t.Attempt)
	}
	return p.result, nil
}

// catchUp copies to the log what was said since the log was last written.
func (a *runAttempts) catchUp(ctx context.Context, t engine.Task, p runPast) error {
	log, err := runOpenLog(a.path(t.Attempt), t.Log)
	if err != nil {
		return err
	}
	defer log.close()
	if p.result.State == program.Running {
		now, cancel := context.WithCancel(ctx) // it copies what is there, and does not wait
		cancel()
		ctx = now
	}
	r, err := a.follow(ctx, p.dir, log, log.from(a))
	if p.result.State == program.Running && ctx.Err() != nil {
		return nil // it goes on, or the next look tells
	}
	if err == nil && r.State != program.Failed { // that is told when the step is begun anew
		runNotes(t.Log, r)
	}
	return err
}

// halt stops what runs.
func (a *runAttempts) halt(ctx context.Context, t engine.Task) error {
	p, err := a.past(ctx, t.Attempt)
	if err != nil || p.result.State != program.Running {
		return err
	}
	return a.stop(ctx, p.dir)
}

// runOutcome is the error of a step whose program, or whatever it is, has ended.
func runOutcome(what string, r program.Result, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch r.State {
	case program.Done:
		return nil
	case program.Failed:
		if r.Why == "" {
			r.Why = "it failed"
		}
		err := fmt.Errorf("%s: %s", what, r.Why)
		if r.Exit > 0 {
			return &engine.Exit{Code: r.Exit, Err: err}
		}
		return err
	case program.NotDone:
		return fmt.Errorf("%s: it was not begun", what)
	}
	return fmt.Errorf("%s: %w: %s", what, engine.ErrUnclear, r.Why)
}
