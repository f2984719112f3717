package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
)

const (
	vmParallel  = 4               // guests that are stopped or started at once
	vmPowerWait = 5 * time.Minute // for the protected guest to obey
	vmPowerPoll = time.Second
)

// VMHost runs guests; *guests.Fleet is one.
type VMHost interface {
	List(ctx context.Context) ([]guests.VM, error)
	Shutdown(ctx context.Context, uuid string, opt guests.ShutdownOptions) (clean bool, err error)
	Start(ctx context.Context, uuid string, opt guests.StartOptions) error
}

// VMPower stops and starts the guest that Holdfast protects.
type VMPower struct {
	Power   func(ctx context.Context, run bool) error           // writes the wish
	Powered func(ctx context.Context) (running bool, err error) // wherever it runs
}

// VMStop shuts guests down: the Executor of upgrade.KindVMStop. All are tried.
type VMStop struct {
	Host     VMHost
	Shutdown guests.ShutdownOptions // how long guests may take, and whether they are powered off then
	Mgmt     VMPower                // for guests that are Protected
	// Dir is where is kept which guests it has shut down, and which of them were
	// transient, for VMStart: in the agent's data directory, absolute.
	Dir string
}

// VMStart starts the guests again that VMStop has shut down in the same job: the
// Executor of upgrade.KindVMStart. All are tried; those that VMStop found off or gone
// are left alone. Whether libvirt starts them with the host is as before.
type VMStart struct {
	Host VMHost
	Mgmt VMPower
	Dir  string // as VMStop's
}

// Probe tells whether all guests are off here.
func (d *VMStop) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	args, err := engine.Args[upgrade.VMArgs](t)
	if err != nil {
		return engine.CanNotTell, err
	}
	have, err := d.Host.List(ctx)
	if err != nil {
		return engine.CanNotTell, err
	}
	for _, g := range args.Guests {
		vm := vmFind(have, g)
		on := vm != nil && vm.State != guests.VMOff
		if g.Protected {
			if on, err = d.Mgmt.Powered(ctx); err != nil {
				return engine.CanNotTell, err
			}
		}
		if on {
			return engine.NotDone, nil
		}
	}
	return engine.ProbedDone, nil
}

// Probe tells whether a guest is left that VMStop has shut down and that was not
// started since.
func (d *VMStart) Probe(_ context.Context, t engine.Task) (engine.Probed, error) {
	args, err := engine.Args[upgrade.VMArgs](t)
	if err != nil {
		return engine.CanNotTell, err
	}
	notes, err := vmReadNotes(d.Dir, t.Job)
	if err != nil {
		return engine.CanNotTell, err
	}
	for _, g := range args.Guests {
		if _, stopped := notes.of(g); stopped {
			return engine.NotDone, nil
		}
	}
	return engine.ProbedDone, nil
}

// Do asks the guests to shut down and waits until they are off. A guest that is
// not on this host any more counts as off.
func (d *VMStop) Do(ctx context.Context, t engine.Task) error {
	args, err := engine.Args[upgrade.VMArgs](t)
	if err != nil {
		return err
	}
	earlier, err := vmReadNotes(d.Dir, t.Job)
	if err != nil {
		return err
	}
	return vmEach(ctx, t, d.Host, args.Guests, "off", func(ctx context.Context, g upgrade.Guest, vm *guests.VM) (string, error) {
		switch {
		case g.Protected:
			return d.stopProtected(ctx, t, earlier, g)
		case vm == nil:
			return "is not on this host", nil
		case vm.State == guests.VMOff:
			return "was off", nil
		}
		if err := vmRemember(d.Dir, t.Job, earlier, g, vm); err != nil {
			return "", err
		}
		clean, err := d.Host.Shutdown(ctx, vm.UUID, d.Shutdown)
		if err == nil && !clean {
			return "did not obey and was powered off", nil
		}
		return "", err
	})
}

// stopProtected has the cluster stop its guest. While it is not known whether that
// runs, nothing is asked: without its note nobody would start it again, and with one
// it would be started although it was off.
func (d *VMStop) stopProtected(ctx context.Context, t engine.Task, earlier vmNotes, g upgrade.Guest) (string, error) {
	if _, noted := earlier.of(g); !noted {
		on, err := d.Mgmt.known(ctx)
		if err != nil {
			return "", err
		}
		if !on {
			return "was off", nil
		}
	}
	if err := vmRemember(d.Dir, t.Job, earlier, g, nil); err != nil {
		return "", err
	}
	return "", d.Mgmt.bring(ctx, false)
}

// Do starts the guests that have a note of this job.
func (d *VMStart) Do(ctx context.Context, t engine.Task) error {
	args, err := engine.Args[upgrade.VMArgs](t)
	if err != nil {
		return err
	}
	notes, err := vmReadNotes(d.Dir, t.Job)
	if err != nil {
		return err
	}
	var stopped []upgrade.Guest
	for _, g := range args.Guests {
		if _, noted := notes.of(g); noted {
			stopped = append(stopped, g)
			continue
		}
		fmt.Fprintf(t.Log, "%s: was not stopped by this run\n", g.Name)
	}
	if len(stopped) == 0 {
		return nil
	}
	return vmEach(ctx, t, d.Host, stopped, "running", func(ctx context.Context, g upgrade.Guest, vm *guests.VM) (string, error) {
		note, _ := notes.of(g)
		if err := d.start(ctx, note, vm); err != nil {
			return "", err
		}
		return "", vmForget(d.Dir, note)
	})
}

func (d *VMStart) start(ctx context.Context, note vmNote, vm *guests.VM) error {
	switch {
	case note.Protected:
		return d.Mgmt.bring(ctx, true)
	case vm == nil:
		return errors.New("this host's libvirt does not know it: start it where it is, then skip this step")
	}
	return d.Host.Start(ctx, vm.UUID, guests.StartOptions{Transient: note.Transient})
}

// known waits until it is known whether the guest runs.
func (p VMPower) known(ctx context.Context) (running bool, err error) {
	for end := time.Now().Add(vmPowerWait); ; {
		running, err := p.Powered(ctx)
		if err == nil {
			return running, nil
		}
		if !time.Now().Before(end) {
			return false, fmt.Errorf("it is not known whether it runs, so the cluster was not asked to stop it: %w", err)
		}
		if serr := engine.Pause(ctx, vmPowerPoll); serr != nil {
			return false, errors.Join(serr, err)
		}
	}
}

// bring writes the wish and waits until it is fulfilled.
func (p VMPower) bring(ctx context.Context, run bool) error {
	what := "stop"
	if run {
		what = "start"
	}
	if err := p.Power(ctx, run); err != nil {
		return fmt.Errorf("ask the cluster to %s it: %w", what, err)
	}
	for end := time.Now().Add(vmPowerWait); ; {
		now, err := p.Powered(ctx)
		if err == nil && now == run {
			return nil
		}
		if !time.Now().Before(end) {
			return errors.Join(fmt.Errorf("the cluster was asked %s ago to %s it, and has not done so yet (holdfast "+
				"status tells why)", vmPowerWait, what), err)
		}
		if serr := engine.Pause(ctx, vmPowerPoll); serr != nil {
			return errors.Join(serr, err)
		}
	}
}

// vmFind returns the guest, nil when this host does not know it. The UUID decides;
// a plan without one knows names only.
func vmFind(have []guests.VM, g upgrade.Guest) *guests.VM {
	i := slices.IndexFunc(have, func(v guests.VM) bool {
		if g.UUID != "" {
			return strings.EqualFold(v.UUID, g.UUID)
		}
		return v.Name == g.Name
	})
	if i < 0 {
		return nil
	}
	return &have[i]
}

// vmRun deals with the guests of one step.
type vmRun struct {
	task   engine.Task
	state  string // in which they shall be
	guests []upgrade.Guest

	mu   sync.Mutex
	done int
	busy []string // names
}

// vmEach calls do for each guest, a few at a time, with what libvirt says of it
// (nil: it does not know it). do may return what is worth telling.
func vmEach(ctx context.Context, t engine.Task, h VMHost, guests []upgrade.Guest, state string,
	do func(context.Context, upgrade.Guest, *guests.VM) (string, error)) error {
	have, err := h.List(ctx)
	if err != nil {
		return err
	}
	r := &vmRun{task: t, state: state, guests: guests}
	errs := make([]error, len(guests))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(vmParallel, len(guests)) {
		workers.Go(func() {
			for i := range next {
				g := guests[i]
				r.begin(g)
				said, err := do(ctx, g, vmFind(have, g))
				r.end(g, said, err)
				if err != nil {
					errs[i] = fmt.Errorf("%s is not %s: %w", g.Name, state, err)
				}
			}
		})
	}
	for i := range guests {
		select {
		case next <- i:
		case <-ctx.Done():
			errs[i] = fmt.Errorf("%s is not %s: %w", guests[i].Name, state, context.Cause(ctx))
		}
	}
	close(next)
	workers.Wait()
	return errors.Join(errs...)
}

func (r *vmRun) begin(g upgrade.Guest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = append(r.busy, g.Name)
	r.tell()
}

func (r *vmRun) end(g upgrade.Guest, said string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.busy, g.Name); i >= 0 {
		r.busy = slices.Delete(r.busy, i, i+1)
	}
	switch {
	case err != nil:
		fmt.Fprintf(r.task.Log, "%s: %v\n", g.Name, err)
	case said != "":
		fmt.Fprintf(r.task.Log, "%s: %s\n", g.Name, said)
	default:
		fmt.Fprintf(r.task.Log, "%s: is %s\n", g.Name, r.state)
	}
	if err == nil {
		r.done++
	}
	r.tell()
}

// tell shows how far it is. The caller holds mu.
func (r *vmRun) tell() {
	text := fmt.Sprintf("%d of %d guests are %s", r.done, len(r.guests), r.state)
	if len(r.busy) > 0 {
		text += "; waits for " + strings.Join(r.busy, ", ")
	}
	r.task.Note(text, 100*r.done/len(r.guests))
}
