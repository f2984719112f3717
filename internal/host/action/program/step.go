package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/lib/durable"
)

// stopWithin bounds what is done with a step after its context has ended.
const stopWithin = 25 * time.Second

// Step is one attempt of a step, and what earlier ones have begun.
type Step struct {
	Dir     string    // of the step, absolute
	Attempt int       // that is done or asked about, from 1 on
	Log     io.Writer // of this attempt; it never fails
	Look    Look      // nil: what became of its last command is the answer
	// Leave is the cause with which the context of End ends when what runs is to go on by
	// itself. With any other one it is stopped.
	Leave error
	// Again: what may be begun again at any time. A failure of an earlier attempt that nobody was told
	// about, as that of a program which was ended with its host, is no answer: this one begins.
	Again bool
}

// Past is what became of the last attempt that has begun something.
type Past struct {
	Result      // NotDone when there is none
	n      int  // 0: none has
	of     int  // that has begun it: n, or an earlier one that n follows
	mine   bool // what became of it is the answer for this attempt
}

// Begun is what the last command of the last attempt that ran one has come to; NotDone when
// none ran any.
func (s *Step) Begun() (Result, error) {
	for n := s.Attempt; n > 0; n-- {
		dir := numbered(s.Dir, n)
		k, err := last(dir, math.MaxInt)
		if err != nil {
			return Result{}, err
		}
		if k == 0 {
			continue
		}
		r, err := Probe(numbered(dir, k))
		r.OutputFile = filepath.Join(numbered(dir, k), fileOutput)
		return r, err
	}
	return Result{State: NotDone}, nil
}

// number reads a number that an attempt has in a file, 0 when there is none.
func (s *Step) number(n int, file string) (int, error) {
	data, err := os.ReadFile(filepath.Join(numbered(s.Dir, n), file))
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

func setNumber(dir, file string, k int) error {
	return durable.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(k)+"\n"), 0o600)
}

// Past looks at what was begun until this attempt.
func (s *Step) Past(ctx context.Context) (p Past, err error) {
	p.State = NotDone
	if p.n, err = last(s.Dir, s.Attempt); err != nil || p.n == 0 {
		return p, err
	}
	if p.of, err = s.number(p.n, fileOf); err != nil {
		return p, err
	}
	p.of = cmp.Or(p.of, p.n)
	owed, err := s.number(p.n, fileOwed)
	if err != nil {
		return p, err
	}
	p.mine = p.n == s.Attempt || owed > 0 && owed >= s.Attempt-1
	p.Result, err = NewAttempt(numbered(s.Dir, p.of), s.Log).Probe(ctx, s.Look)
	return p, err
}

// owe keeps that the end of what was begun is the answer for the next attempt, too: this
// one's process is gone and has told nobody.
func (s *Step) owe(p Past) error {
	if have, err := s.number(p.n, fileOwed); err != nil || have >= s.Attempt {
		return err
	}
	if err := setNumber(numbered(s.Dir, p.n), fileOwed, s.Attempt); err != nil {
		return fmt.Errorf("note that the end of attempt %d is to be told: %w", p.n, err)
	}
	return nil
}

// open is what attempt n has begun, with the log of this one, whose own directory is
// there.
func (s *Step) open(n int) (*Attempt, error) {
	log, err := openCount(numbered(s.Dir, s.Attempt), s.Log)
	return &Attempt{dir: numbered(s.Dir, n), log: log}, err
}

// Begin opens the attempt. Where r is NotDone the caller does it, by commands of a; with any other state an earlier
// attempt has begun something that is not over, or that nobody was told about, and the caller follows that: Follow.
// Then it calls End. An error with the state Unknown says that what was begun may go on, and may be done.
func (s *Step) Begin(ctx context.Context) (a *Attempt, r Result, err error) {
	p, err := s.Past(ctx)
	if err != nil {
		return nil, Result{}, err
	}
	if p.State == Running || p.mine && p.State != NotDone && !(s.Again && p.State == Failed && p.of < s.Attempt) {
		return s.goOn(p)
	}
	if err := durable.MakeDir(numbered(s.Dir, s.Attempt)); err != nil {
		return nil, Result{}, fmt.Errorf("make the state directory: %w", err)
	}
	if a, err = s.open(s.Attempt); err != nil {
		return nil, Result{}, err
	}
	a.begins = true
	return a, Result{State: NotDone}, nil
}

// goOn opens what an earlier attempt has begun, as this one.
func (s *Step) goOn(p Past) (a *Attempt, r Result, err error) {
	if err = s.adopt(p); err == nil {
		a, err = s.open(p.of)
	}
	if err != nil && p.State != Failed {
		r = Result{State: Unknown}
		r.note(s.Log)
		return nil, r, fmt.Errorf("what was begun is not followed: %w", err)
	}
	if err != nil {
		return nil, Result{}, err
	}
	return a, p.Result, nil
}

// Follow goes on to the end of what Begin has found.
func (s *Step) Follow(ctx context.Context, a *Attempt) (Result, error) { return a.Follow(ctx, s.Look) }

// End ends the attempt with what the caller's work, or Follow, has returned, and says what became of it. When the
// context has ended it stops what goes on, unless that is to be left.
func (s *Step) End(ctx context.Context, a *Attempt, did Result, err error) (r Result, _ error) {
	defer a.log.close()
	defer func() { r.note(s.Log) }()
	if a.begins {
		err = errors.Join(err, a.forget()) // whatever reads the answers has read them
	}
	return s.end(ctx, a, did, err)
}

// adopt makes the directory of an attempt that has begun nothing itself. It appears
// whole: without its note it would say that nothing runs.
func (s *Step) adopt(p Past) error {
	if p.n == s.Attempt {
		return nil
	}
	Say(s.Log, "this is what attempt %d has begun", p.of)
	dir := numbered(s.Dir, s.Attempt)
	part := dir + ".part"
	err := durable.MakeDir(part)
	if err == nil {
		err = setNumber(part, fileOf, p.of)
	}
	if err == nil {
		err = durable.Rename(part, dir)
	}
	if err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	return nil
}

// end looks what became of something that was begun, after the call that began or
// followed it has returned.
func (s *Step) end(ctx context.Context, a *Attempt, r Result, err error) (Result, error) {
	if err == nil && r.State != Running {
		return r, nil
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), s.Leave) {
		return r, errors.Join(err, context.Cause(ctx))
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	now, perr := a.Probe(late, s.Look)
	switch {
	case perr != nil:
		return Result{State: Unknown}, errors.Join(err, perr)
	case now.State == NotDone:
		return now, errors.Join(err, context.Cause(ctx))
	case now.State != Running:
		return a.Follow(late, s.Look) // the rest of the output
	case ctx.Err() == nil:
		r, err = a.Follow(ctx, s.Look)
		if ctx.Err() != nil {
			return s.end(ctx, a, r, err)
		}
		return r, err
	}
	a.Say("%v: it is being stopped", context.Cause(ctx))
	if _, err := a.Stop(late); err != nil {
		return Result{State: Unknown}, fmt.Errorf("it goes on: %w", err)
	}
	return a.Follow(late, s.Look)
}

// Probe says what the answer for this attempt is, if it is not to be begun: NotDone. It
// brings the log up to date, and keeps that the end of what runs, or what failed, is still
// to be told. doneToo: also of what ended well.
func (s *Step) Probe(ctx context.Context, doneToo bool) (Result, error) {
	p, err := s.Past(ctx)
	if err != nil {
		return p.Result, err
	}
	if p.n == s.Attempt && p.State != NotDone {
		if err := s.catchUp(p); err != nil {
			return p.Result, err
		}
	}
	running := p.State == Running
	if !running && !p.mine {
		return Result{State: NotDone}, nil
	}
	if running && p.n != s.Attempt || p.State == Failed || p.State == Done && doneToo {
		return p.Result, s.owe(p)
	}
	return p.Result, nil
}

// catchUp brings the log up to date. What failed is told when the step is begun anew.
func (s *Step) catchUp(p Past) error {
	a, err := s.open(p.of)
	if err != nil {
		return err
	}
	defer a.log.close()
	if _, _, err := a.catchUp(); err != nil || p.State == Running || p.State == Failed {
		return err
	}
	p.note(s.Log)
	return nil
}

// Stop stops what runs.
func (s *Step) Stop(ctx context.Context) error {
	p, err := s.Past(ctx)
	if err != nil || p.State != Running {
		return err
	}
	_, err = NewAttempt(numbered(s.Dir, p.of), s.Log).Stop(ctx)
	return err
}

// Ask does something beside the attempts that changes nothing, such as a check: when ctx
// ends, it is ended, and nobody needs to know later what became of it.
func (s *Step) Ask(ctx context.Context, do func(ctx context.Context, a *Attempt) (Result, error)) (Result, error) {
	n, err := last(s.Dir, s.Attempt)
	if err != nil {
		return Result{}, err
	}
	dir := filepath.Join(numbered(s.Dir, n), dirCheck)
	if n, err = last(dir, math.MaxInt); err != nil {
		return Result{}, err
	}
	a := NewAttempt(numbered(dir, n+1), s.Log)
	r, err := do(ctx, a)
	if err != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		_, serr := a.Stop(late)
		err = errors.Join(err, serr)
	}
	return r, err
}

// Busy returns a command that runs of those below the directory of a job, which has that
// of each step; "" when there is none.
func Busy(dir string) (string, error) {
	for _, pattern := range []string{"*/*/[0-9]*", "*/*/" + dirCheck + "/*/[0-9]*"} { // STEP/ATTEMPT/COMMAND
		found, err := fs.Glob(os.DirFS(dir), pattern)
		if err != nil {
			return "", fmt.Errorf("look for state directories: %w", err)
		}
		for _, name := range found {
			r, err := Probe(filepath.Join(dir, name))
			if err != nil {
				return "", fmt.Errorf("look whether something goes on: %w", err)
			}
			if r.State == Running {
				return filepath.Join(dir, name), nil
			}
		}
	}
	return "", nil
}
