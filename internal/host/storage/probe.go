package storage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/lib/clock"
)

// leaveAfter is how long the end of a check is waited for when the Prober ends.
const leaveAfter = time.Second

// Options of a Prober.
type Options struct {
	What string // the storage, for people
	// Check asks the storage once. nil means that it is well, an error that it
	// answers, but not well. It gets Timeout to do so, then its context ends: no
	// answer. It should return soon after that; until it does, no other one begins.
	Check    func(context.Context) error
	End      func() error  // gives back what Check has kept, when Run ends; nil: nothing
	Interval time.Duration // from an answer to the next check; after no answer it begins at once
	Timeout  time.Duration // after which a storage that has not answered hangs
}

// State is what is known of the storage.
type State struct {
	Hangs bool   // it has not answered the last check within the timeout
	Why   string // why it does not work, "" when it does or nothing is known yet
}

// Prober checks again and again, one check at a time.
type Prober struct {
	opt    Options
	silent time.Time // the beginning of the first check without an answer since the last answer; of Run

	mu    sync.Mutex
	state State
}

// New makes a Prober; Run starts it.
func New(o Options) *Prober { return &Prober{opt: o} }

// State returns what is known now.
func (p *Prober) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *Prober) set(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
}

// Recovers returns within what time a storage that works again is known to.
func (p *Prober) Recovers() time.Duration { return p.opt.Timeout + p.opt.Interval }

// Run checks until ctx ends. A check that does not end then is left alone: it
// goes when the storage lets it. The error is that of Options.End.
func (p *Prober) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if !p.once(ctx) {
			continue
		}
		clock.Sleep(ctx, p.opt.Interval)
	}
	if p.opt.End == nil {
		return nil
	}
	return p.opt.End()
}

// once is one check, to its end however long that takes. It reports whether the
// storage has answered.
func (p *Prober) once(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, p.opt.Timeout)
	defer cancel()
	began, ended := time.Now(), make(chan error, 1)
	go func() { ended <- p.opt.Check(limited) }()
	var err error
	goesOn := false
	select {
	case err = <-ended:
	case <-limited.Done():
		err, goesOn = limited.Err(), true
	}
	// An error that took all the time is no answer, whichever timer was first: the
	// deadline of a connection may fire just before that of its context.
	end, _ := limited.Deadline()
	answered := err == nil || time.Now().Before(end)
	if ctx.Err() == nil {
		p.judge(answered, err, began)
	}
	if goesOn {
		leave(ctx, ended)
	}
	return answered
}

// judge takes over what a check has found.
func (p *Prober) judge(answered bool, err error, began time.Time) {
	switch {
	case !answered:
		if p.silent.IsZero() {
			p.silent = began
		}
		p.set(State{Hangs: true, Why: fmt.Sprintf("%s has not answered since %s", p.opt.What, p.silent.Format(time.TimeOnly))})
		return
	case err != nil:
		p.set(State{Why: err.Error()})
	default:
		p.set(State{})
	}
	p.silent = time.Time{}
}

// leave waits for a check that has been told to end, as long as ctx lets it and
// for a moment more.
func leave(ctx context.Context, ended <-chan error) {
	select {
	case <-ended: // too late: the next one tells
		return
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(leaveAfter):
	}
}
