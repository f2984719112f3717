package drain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/job/engine"
)

const (
	undrainTries = 10 // of the write that ends the drain
	undrainPause = 3 * time.Second
	undrainSeen  = 30 * time.Second // until hosts report a guest
	undrainAsk   = time.Minute      // one write of it
)

// Undrain lets this host take guests again, or brings back those that have left:
// the Executor of evacuate.KindUndrain.
type Undrain struct {
	Host cluster.HostID
	// Revive starts the guests that a drain which was aborted has shut down and not moved.
	Revive func(ctx context.Context, log io.Writer)
	// SetMaintenance says that the host takes no guests any more, or takes them again.
	SetMaintenance func(ctx context.Context, host cluster.HostID, on bool) error
	// Where tells on which host a guest runs; false: no host reports it.
	Where func(uuid string) (cluster.HostID, bool)
	// Send has host from move a guest here, over the network (a CIDR, "" for any), and
	// returns when it is there.
	Send func(ctx context.Context, from cluster.HostID, m evacuate.Move, network string) error
}

// Probe tells whether the guests are back. Ending the drain may be repeated.
func (d *Undrain) Probe(_ context.Context, t engine.Task) (engine.Probed, error) {
	args, err := engine.Args[evacuate.UndrainArgs](t)
	if err != nil {
		return engine.CanNotTell, err
	}
	if args.Maintenance {
		return engine.ProbedDone, nil // it has nothing to do
	}
	if len(args.Back) == 0 {
		return engine.NotDone, nil
	}
	for _, m := range args.Back {
		if at, ok := d.Where(m.UUID); m.How != evacuate.Protected && (!ok || at != d.Host) {
			return engine.NotDone, nil
		}
	}
	return engine.ProbedDone, nil
}

// Do ends the drain, or with Back brings guests back and does nothing else. All
// guests are tried.
func (d *Undrain) Do(ctx context.Context, t engine.Task) error {
	if d.Revive != nil {
		d.Revive(ctx, t.Log)
	}
	args, err := engine.Args[evacuate.UndrainArgs](t)
	switch {
	case err != nil:
		return err
	case args.Maintenance:
		fmt.Fprintf(t.Log, "%s took no guests before, and takes none now\n", d.Host)
		return nil
	case len(args.Back) > 0:
		return d.back(ctx, t, args)
	}
	return d.open(ctx, t)
}

// open writes that the host takes guests. The store may be between two leaders, so
// it is tried for a while.
func (d *Undrain) open(ctx context.Context, t engine.Task) error {
	waits := engine.Waits{Task: t}
	for try := 1; ; try++ {
		asked, cancel := context.WithTimeout(ctx, undrainAsk)
		err := d.SetMaintenance(asked, d.Host, false)
		cancel()
		if err == nil {
			return nil
		}
		err = fmt.Errorf("let host %s take guests again: %w", d.Host, err)
		if try == undrainTries || ctx.Err() != nil {
			return err
		}
		waits.Say("%v", err)
		if serr := engine.Pause(ctx, undrainPause); serr != nil {
			return fmt.Errorf("%w: %w", serr, err)
		}
	}
}

// back brings guests back, the first of the list first.
func (d *Undrain) back(ctx context.Context, t engine.Task, args evacuate.UndrainArgs) error {
	most := max(1, args.Parallel)
	if args.Total > 0 {
		most = min(most, args.Total)
	}
	r := &undrainRun{Undrain: d, task: t, moves: args.Back, network: args.Network}
	errs := make([]error, len(args.Back))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(most, len(args.Back)) {
		workers.Go(func() {
			for i := range next {
				errs[i] = r.bring(ctx, args.Back[i])
			}
		})
	}
	for i, m := range args.Back {
		select {
		case next <- i:
		case <-ctx.Done():
			errs[i] = fmt.Errorf("%s does not return: %w", m.VM, context.Cause(ctx))
		}
	}
	close(next)
	workers.Wait()
	return errors.Join(errs...)
}

// undrainRun is one run of back.
type undrainRun struct {
	*Undrain
	task    engine.Task
	moves   []evacuate.Move
	network string

	mu   sync.Mutex
	back int
	on   []string // that are on their way
}

// bring brings one guest back from wherever it is now.
func (r *undrainRun) bring(ctx context.Context, m evacuate.Move) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s does not return: %w", m.VM, context.Cause(ctx))
	}
	said, err := "is back", error(nil)
	from, ok := r.Where(m.UUID)
	// A guest that has just moved is in nobody's report for some seconds.
	for end := time.Now().Add(undrainSeen); !ok && m.How != evacuate.Protected && time.Now().Before(end); from, ok = r.Where(m.UUID) {
		if err := engine.Pause(ctx, undrainPause); err != nil {
			return fmt.Errorf("%s does not return: %w", m.VM, err)
		}
	}
	switch {
	case m.How == evacuate.Protected:
		said = "stays where it is: the cluster chooses the host of the management VM"
	case !ok:
		err = errors.New("no host reports it")
	case from == r.Host:
		said = "is here already"
	default:
		r.tell(m.VM, true, 0)
		if err = r.Send(ctx, from, m, r.network); err != nil {
			err = fmt.Errorf("from %s: %w", from, err)
		}
	}
	if err != nil {
		fmt.Fprintf(r.task.Log, "%s does not return: %v\n", m.VM, err)
		r.tell(m.VM, false, 0)
		return fmt.Errorf("%s does not return: %w", m.VM, err)
	}
	fmt.Fprintf(r.task.Log, "%s %s\n", m.VM, said)
	r.tell(m.VM, false, 1)
	return nil
}

// tell shows how far it is, after a guest has set out, or its try has ended.
func (r *undrainRun) tell(vm string, sets bool, more int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.back += more
	if sets {
		r.on = append(r.on, vm)
	} else {
		r.on = slices.DeleteFunc(r.on, func(x string) bool { return x == vm })
	}
	text := fmt.Sprintf("%d of %d guests are back", r.back, len(r.moves))
	if len(r.on) > 0 {
		text += "; on their way: " + strings.Join(r.on, ", ")
	}
	r.task.Note(text, 100*r.back/len(r.moves))
}
