package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"holdfast/internal/lib/durable"
)

// Look says what became of a step when no command of it runs. last is what is known of the last command, which is
// the answer where there is one only and the host itself can not be asked.
type Look func(ctx context.Context, last Result) (Result, error)

// Attempt is where one attempt of a step is done.
type Attempt struct {
	dir    string
	log    *count
	n      int  // commands that this process has begun
	begins bool // nobody has begun it before
}

// NewAttempt is an attempt in a directory of its own, an absolute path, which the first
// command makes. The log gets what commands say, as they say it, binary and all.
func NewAttempt(dir string, log io.Writer) *Attempt { return &Attempt{dir: dir, log: &count{to: log}} }

// Say adds a line of the agent's own to the log, which never fails.
func (a *Attempt) Say(format string, args ...any) { Say(a.log.to, format, args...) }

// numbered is a directory that is counted: an attempt, a command, a check.
func numbered(dir string, n int) string { return filepath.Join(dir, strconv.Itoa(n)) }

// last returns the last number up to limit that a directory has, 0 when it has none.
func last(dir string, limit int) (int, error) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("look what was begun: %w", err)
	}
	n := 0
	for _, e := range list {
		if k, err := strconv.Atoi(e.Name()); err == nil && k > n && k <= limit { // others are not numbers
			n = k
		}
	}
	return n, nil
}

// Run runs the next command of the attempt, as Helper.Run. Who has begun none begins with
// the first: where that was begun before, the error wraps ErrBegun.
func (a *Attempt) Run(ctx context.Context, h Helper, s Spec) (Result, error) {
	a.n++
	r, err := h.Run(ctx, numbered(a.dir, a.n), s, a.log)
	r.OutputFile = filepath.Join(numbered(a.dir, a.n), fileOutput)
	return r, err
}

// Probe says what became of the attempt, which another process may have begun.
func (a *Attempt) Probe(ctx context.Context, look Look) (Result, error) {
	n, err := last(a.dir, math.MaxInt)
	if err != nil {
		return Result{}, err
	}
	r, err := Probe(numbered(a.dir, max(n, 1)))
	if err != nil || r.State == Running {
		return r, err
	}
	if err := a.forget(); err != nil { // an agent that was killed has left it
		return r, err
	}
	r.OutputFile = filepath.Join(numbered(a.dir, max(n, 1)), fileOutput)
	if look == nil {
		return r, nil
	}
	return look(ctx, r)
}

// Follow goes on to the end. The log gets what it has not got yet.
func (a *Attempt) Follow(ctx context.Context, look Look) (Result, error) {
	n, from, err := a.catchUp()
	if err != nil {
		return Result{}, err
	}
	if n > 0 {
		r, err := Attach(ctx, numbered(a.dir, n), a.log, from)
		if err != nil {
			return r, err
		}
		if r.State == Failed || r.State == Unknown {
			r.OutputFile = filepath.Join(numbered(a.dir, n), fileOutput)
			return r, a.forget()
		}
	}
	return a.Probe(ctx, look)
}

// catchUp copies to the log what was said since it was last written: it counts the outputs
// of all commands, one after the other. It returns the last command, and up to which byte
// of its output the log is.
func (a *Attempt) catchUp() (n int, from int64, err error) {
	if n, err = last(a.dir, math.MaxInt); err != nil {
		return n, 0, err
	}
	left := a.log.n
	for i := range n {
		if from, err = copyFrom(numbered(a.dir, i+1), a.log, left); err != nil {
			return n, from, err
		}
		left = max(0, left-from)
	}
	return n, from, nil
}

// Stop ends what runs, and returns when it is over.
func (a *Attempt) Stop(ctx context.Context) (Result, error) {
	n, err := last(a.dir, math.MaxInt)
	if err != nil || n == 0 {
		return Result{State: NotDone}, err
	}
	r, err := Stop(ctx, numbered(a.dir, n))
	return r, errors.Join(err, a.forget())
}

// Credentials keeps a credentials file for this attempt, as long as it runs. It returns
// its path.
func (a *Attempt) Credentials(c *Credentials) (string, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode the answers of an attempt: %w", err)
	}
	file := filepath.Join(a.dir, fileCredentials)
	return file, durable.WriteFile(file, data, 0o600)
}

// forget removes the credentials file.
func (a *Attempt) forget() error {
	if err := os.Remove(filepath.Join(a.dir, fileCredentials)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the answers of an attempt: %w", err)
	}
	return nil
}
