package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
)

// Executor carries out the steps of one kind on this host. Its methods are called
// from several goroutines, for different steps.
type Executor interface {
	// Do does a step. It ends soon after ctx has ended, also when it has not
	// finished. context.Cause tells why: after ErrStopping it leaves what it began as
	// it is, for the next process to be found by Probe; after ErrCancelled and
	// ErrTimeout it stops what it began and undoes nothing. An error that wraps
	// ErrUnclear says that nobody can tell whether it was done, one that holds an
	// *Exit has the exit code of a program.
	Do(ctx context.Context, t Task) error
	// Probe says how far an earlier process, or this one before it was interrupted,
	// has come with a step. It changes nothing. An error is asked about again for a
	// while and then counts as CanNotTell.
	Probe(ctx context.Context, t Task) (Probed, error)
}

// Stopper is an Executor that can stop what an earlier process has begun and what
// Probe finds StillRunning. It returns nil when it has stopped.
type Stopper interface {
	Stop(ctx context.Context, t Task) error
}

// Task is one attempt of a step.
type Task struct {
	Job     string // id
	Kind    job.Kind
	Step    job.Step
	Attempt int
	Undo    bool           // the job is aborted, and this restores order: nobody is there to retry it
	Host    cluster.HostID // on which this attempt was claimed: this one, but for steps of the coordinator
	Boot    string         // boot id of that host when it was claimed
	Log     io.Writer      // the step's log; any goroutine; never fails
	// Note tells people what it does or waits for, and how much is done: 0 to 100,
	// or less than 0 to leave that as it is. Any goroutine; it does not wait.
	Note func(what string, percent int)
	// Count tells planners a number, which is kept with the step's result. Any goroutine; it does not wait.
	Count func(n int64)
	// Found keeps with the step's result what its program has said of trouble; the last call counts. Any
	// goroutine; it does not wait. nil: nobody keeps it.
	Found func([]job.Finding)
}

// Probed is what a probe finds.
type Probed int

// What a probe finds.
const (
	CanNotTell   Probed = iota
	ProbedDone          // done, nothing is left to do
	NotDone             // not begun, or stopped so that it may be begun again
	StillRunning        // what an earlier process began goes on by itself
)

// Causes with which the context of Do ends, and errors of Executors.
var (
	ErrStopping  = errors.New("the agent stopped")
	ErrDeposed   = fmt.Errorf("this host does not coordinate any more: %w", ErrStopping)
	ErrLost      = fmt.Errorf("the step is not this process's any more: %w", ErrStopping)
	ErrCancelled = errors.New("cancelled")
	ErrTimeout   = errors.New("timed out")
	// ErrUnclear: it may or may not have been done.
	ErrUnclear = errors.New("its outcome is not known")
)

// Exit is the error of a program that has ended with a code.
type Exit struct {
	Code int
	Err  error // what was tried, and what came of it
}

func (e *Exit) Error() string { return e.Err.Error() }
func (e *Exit) Unwrap() error { return e.Err }
