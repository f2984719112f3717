// Package pinstep has the step of an upgrade that pins the bridges of a host before it is worked on, and ends that
// when the bridges' own flows are complete again.
package pinstep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/pin"
	"holdfast/internal/upgrade"
)

// Holds is after what time a pin ends by itself, whatever has become of the run. What is done on one host takes
// minutes; a run that pauses there waits for a person.
const Holds = time.Hour

// again is between two tries to end a pin while flows are still missing.
const again = 2 * time.Second

// spare is what the end of a step needs of its time, to tell what is missing.
const spare = 10 * time.Second

// undoWaits is how long an abort waits for flows: what it has stopped may never write the others, and the pin ends by
// itself then.
const undoWaits = 2 * time.Minute

// Step carries out upgrade.KindPin.
type Step struct {
	Host  cluster.HostID
	Has   func(ctx context.Context, bridge string) (bool, error)
	Pin   func(context.Context, pin.Order) (*pin.Result, error)
	Unpin func(context.Context, pin.Order) (*pin.Result, error) // fail.Refused until the bridge's own flows are complete
}

// Look tells whether bridges of this host could be pinned now. Nothing is changed.
func (s *Step) Look(ctx context.Context, bridges []string) []fact.Bridge {
	out := make([]fact.Bridge, 0, len(bridges))
	for _, name := range bridges {
		out = append(out, s.look(ctx, name))
	}
	return out
}

func (s *Step) look(ctx context.Context, name string) fact.Bridge {
	b := fact.Bridge{Name: name}
	has, err := s.Has(ctx, name)
	if err == nil && !has {
		b.Missing = true
		return b
	}
	var r *pin.Result
	if err == nil {
		r, err = s.Pin(ctx, pin.Order{Bridge: name, For: Holds, DryRun: true})
	}
	if err != nil {
		b.Why = err.Error()
		if e := (*fail.Error)(nil); errors.As(err, &e) {
			b.Why, b.Remedy = e.Message, e.Remedy
		}
		return b
	}
	b.Ports, b.Flows, b.Groups, b.Notes = r.Ports, r.Flows, r.Groups, r.Notes
	return b
}

// Probe implements engine.Executor. Both steps may be done again.
func (s *Step) Probe(context.Context, engine.Task) (engine.Probed, error) { return engine.NotDone, nil }

// Do implements engine.Executor.
func (s *Step) Do(ctx context.Context, task engine.Task) error {
	args, err := engine.Args[upgrade.PinArgs](task)
	if err != nil {
		return err
	}
	if s.Host != task.Step.Host {
		return fmt.Errorf("bridges of %s: this is host %s", task.Step.Host, s.Host)
	}
	var done []string
	for _, b := range args.Bridges {
		has, err := s.Has(ctx, b)
		switch {
		case err != nil:
		case !has:
			fmt.Fprintf(task.Log, "bridge %s: this host has none of that name\n", b)
		case args.End:
			err = s.end(ctx, task, b)
		default:
			if err = s.begin(ctx, task, b); err == nil {
				done = append(done, b)
			}
		}
		if err != nil {
			return errors.Join(err, s.undo(ctx, done))
		}
	}
	return nil
}

// begin pins a bridge. A pin that is there is of an attempt before, or somebody's: it ends first, unless flows are missing.
func (s *Step) begin(ctx context.Context, task engine.Task, bridge string) error {
	before, err := s.Unpin(ctx, pin.Order{Bridge: bridge})
	if err != nil {
		return err
	}
	notes(task, before)
	r, err := s.Pin(ctx, pin.Order{Bridge: bridge, For: Holds})
	if err != nil {
		return err
	}
	fmt.Fprintf(task.Log, "bridge %s is pinned for %s: %d ports, %d flows and %d groups copied\n", bridge,
		time.Duration(r.Left)*time.Second, r.Ports, r.Flows, r.Groups)
	notes(task, r)
	return nil
}

func notes(task engine.Task, r *pin.Result) {
	for _, n := range r.Notes {
		fmt.Fprintf(task.Log, "note: %s\n", n)
	}
}

// end waits until the bridge's own flows are complete. When its time is over the step fails by what is missing, and the pin stays.
func (s *Step) end(ctx context.Context, task engine.Task, bridge string) error {
	waits := engine.Waits{Task: task}
	within := task.Step.Timeout - spare
	if task.Undo {
		within = min(within, undoWaits)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, engine.ErrTimeout)
	defer cancel()
	for {
		r, err := s.Unpin(ctx, pin.Order{Bridge: bridge})
		var e *fail.Error
		switch {
		case err == nil && r.Removed == 0:
			fmt.Fprintf(task.Log, "bridge %s is not pinned: if it was, packets may have been lost since that ended\n", bridge)
			notes(task, r)
			return nil
		case err == nil:
			fmt.Fprintf(task.Log, "bridge %s forwards by its own flows: %d flows of the pin removed\n", bridge, r.Removed)
			notes(task, r)
			return nil
		case !errors.As(err, &e) || e.Kind != fail.Refused:
			return err
		}
		waits.Say("%s", e.Message)
		if perr := engine.Pause(ctx, again); perr != nil {
			return errors.Join(perr, err)
		}
	}
}

// undo ends the pins that an attempt has begun which failed: nothing was done on the host yet, so all flows are there. A
// pin that it only found stays: its bridge may have no other flows.
func (s *Step) undo(ctx context.Context, bridges []string) (errs error) {
	for _, b := range bridges {
		_, err := s.Unpin(context.WithoutCancel(ctx), pin.Order{Bridge: b, Force: true})
		errs = errors.Join(errs, err)
	}
	return errs
}
