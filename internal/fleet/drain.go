package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
)

const (
	moveTries = 3               // of one guest, each to a host that has not refused it if there is one
	drainPoll = 2 * time.Second // between two looks at the host
)

// Guests is what draining needs of the host's hypervisor; *libvirt.Fleet is one.
type Guests interface {
	List(ctx context.Context) ([]libvirt.VM, error)
	Migrate(ctx context.Context, uuid, target string, opt libvirt.MigrateOptions) (libvirt.Place, error)
	Follow(ctx context.Context, uuid, name string, tell func(libvirt.Progress)) (libvirt.Place, error)
	ColdMove(ctx context.Context, uuid, target string, opt libvirt.ShutdownOptions) error
}

// Drain empties this host: the Doer of upgrade.KindDrain.
type Drain struct {
	Host   cluster.HostID
	Guests Guests
	Seen   func() (map[cluster.HostID]Seen, bool)
	// Rest says that the host takes no guests any more, or takes them again: it
	// holds for the management VM and for other hosts' drains.
	Rest func(ctx context.Context, host cluster.HostID, on bool) error
}

// Probe tells whether the host is empty.
func (d *Drain) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	args, err := drainArgs(t)
	if err != nil {
		return engine.CanNotTell, err
	}
	vms, err := d.Guests.List(ctx)
	if err != nil {
		return engine.CanNotTell, err
	}
	if len(leaving(vms, args.Stay)) == 0 {
		return engine.ProbedDone, nil
	}
	return engine.NotDone, nil // what still moves is found and followed
}

func drainArgs(t engine.Task) (upgrade.DrainArgs, error) {
	var args upgrade.DrainArgs
	if err := json.Unmarshal(t.Step.Args, &args); err != nil {
		return args, fmt.Errorf("read the arguments of %s: %w", t.Step.ID, err)
	}
	return args, nil
}

// leaving are the guests that have to go.
func leaving(vms []libvirt.VM, stay []string) []libvirt.VM {
	return slices.DeleteFunc(slices.Clone(vms), func(vm libvirt.VM) bool {
		return vm.State == libvirt.VMOff || slices.Contains(stay, vm.Name)
	})
}

// Do moves the guests away and returns when none is left. It goes on with the
// others when one can not be moved, and fails in the end.
func (d *Drain) Do(ctx context.Context, t engine.Task) error {
	args, err := drainArgs(t)
	if err != nil {
		return err
	}
	if err := d.Rest(ctx, d.Host, true); err != nil {
		return fmt.Errorf("take host %s out of use: %w", d.Host, err)
	}
	moves, abort := context.WithCancel(context.WithoutCancel(ctx))
	run := &drainRun{
		Drain: d, args: args, task: t, moves: moves, ended: make(chan moved, 1), gone: make(chan struct{}),
		moving: map[string]bool{}, sent: map[string]sentTo{}, failed: map[string][]string{}, refused: map[string][]cluster.HostID{},
	}
	defer func() {
		// When the agent stops, what moves goes on: libvirtd does it by itself, and the
		// next process follows it.
		if !errors.Is(context.Cause(ctx), engine.ErrStopping) {
			abort()
			run.wait()
		}
		close(run.gone)
	}()
	for {
		vms, err := d.Guests.List(ctx)
		if err != nil {
			return fmt.Errorf("list the guests of %s: %w", d.Host, err)
		}
		left := leaving(vms, args.Stay)
		run.total = max(run.total, len(left))
		run.begin(left)
		if err := run.over(left); err != nil || len(left) == 0 && len(run.moving) == 0 {
			return err
		}
		select {
		case m := <-run.ended:
			run.note(m)
		case <-time.After(drainPoll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// moved is the end of one move.
type moved struct {
	vm  libvirt.VM
	to  cluster.HostID
	err error
}

// drainRun is one run of Do.
type drainRun struct {
	*Drain
	args    upgrade.DrainArgs
	task    engine.Task
	moves   context.Context // of the moves
	total   int             // guests that had to go
	ended   chan moved
	gone    chan struct{}               // closed when nobody waits for ended
	moving  map[string]bool             // by UUID, as the next ones
	failed  map[string][]string         // why each try failed
	refused map[string][]cluster.HostID // hosts that could not take it
	sent    map[string]sentTo           // by name
	waits   []string                    // why guests do not move now
}

// begin begins as many moves as may be under way.
func (r *drainRun) begin(left []libvirt.VM) {
	r.waits = nil
	slices.SortFunc(left, func(a, b libvirt.VM) int {
		return cmp.Or(cmp.Compare(b.MemoryMiB, a.MemoryMiB), compare(a.Name, b.Name))
	})
	for _, vm := range left {
		switch {
		case r.moving[vm.UUID] || len(r.failed[vm.UUID]) >= moveTries:
		case vm.Protected:
			r.waits = append(r.waits, vm.Name+": the cluster moves the management VM itself")
		case vm.Busy != "" && !strings.HasPrefix(vm.Job, "migration"):
			r.waits = append(r.waits, vm.Name+": busy: "+vm.Busy)
		case len(r.moving) >= max(1, r.args.Parallel):
		default:
			r.move(vm)
		}
	}
	r.tell(left)
}

// move begins one move, in a goroutine of its own.
func (r *drainRun) move(vm libvirt.VM) {
	if strings.HasPrefix(vm.Job, "migration") { // an earlier process of this agent began it
		r.launch(vm, "", func() error {
			_, err := r.Guests.Follow(r.moves, vm.UUID, vm.Name, nil)
			return err
		})
		return
	}
	plan := upgrade.Move{How: upgrade.Live}
	if i := slices.IndexFunc(r.args.Moves, func(m upgrade.Move) bool { return m.VM == vm.Name }); i >= 0 {
		plan = r.args.Moves[i]
	}
	if plan.How == upgrade.Live && len(vm.Fixed) > 0 {
		r.fail(vm, "it can not move live: "+strings.Join(vm.Fixed, "; "), moveTries)
		return
	}
	seen, ok := r.Seen()
	if !ok {
		r.waits = append(r.waits, vm.Name+": the reports of the other hosts are not read yet")
		return
	}
	now := time.Now()
	free := roomOf(r.Host, seen, func(s Seen) bool { return now.Sub(s.SeenAt) < Silent }, r.sent)
	to, err := free.choose(vm.Name, vm.MemoryMiB, plan.To, r.refused[vm.UUID])
	if err != nil && len(r.refused[vm.UUID]) > 0 {
		to, err = free.choose(vm.Name, vm.MemoryMiB, plan.To, nil)
	}
	if err != nil {
		r.waits = append(r.waits, err.Error())
		return
	}
	r.sent[vm.Name] = sentTo{to, vm.MemoryMiB}
	fmt.Fprintf(r.task.Log, "%s: moves to %s (%s)\n", vm.Name, to, plan.How)
	addr := seen[to].Addr
	r.launch(vm, to, func() error {
		if plan.How == upgrade.Cold {
			return r.Guests.ColdMove(r.moves, vm.UUID, addr, libvirt.ShutdownOptions{})
		}
		_, err := r.Guests.Migrate(r.moves, vm.UUID, addr, libvirt.MigrateOptions{AutoConverge: true})
		return err
	})
}

// launch runs a move beside the others.
func (r *drainRun) launch(vm libvirt.VM, to cluster.HostID, move func() error) {
	r.moving[vm.UUID] = true
	go func() {
		err := move()
		select {
		case r.ended <- moved{vm, to, err}:
		case <-r.gone:
		}
	}()
}

// note takes the end of a move in.
func (r *drainRun) note(m moved) {
	delete(r.moving, m.vm.UUID)
	if m.err == nil {
		fmt.Fprintf(r.task.Log, "%s: is on %s\n", m.vm.Name, cmp.Or(string(m.to), "another host"))
		return
	}
	delete(r.sent, m.vm.Name)
	if m.to != "" {
		r.refused[m.vm.UUID] = append(r.refused[m.vm.UUID], m.to)
	}
	r.fail(m.vm, m.err.Error(), 1)
}

func (r *drainRun) fail(vm libvirt.VM, why string, tries int) {
	fmt.Fprintf(r.task.Log, "%s: %s\n", vm.Name, why)
	for range tries {
		r.failed[vm.UUID] = append(r.failed[vm.UUID], why)
	}
}

// over gives the error of a run in which nothing more can be tried.
func (r *drainRun) over(left []libvirt.VM) error {
	if len(r.moving) > 0 {
		return nil
	}
	var errs []error
	for _, vm := range left {
		tries := r.failed[vm.UUID]
		if len(tries) < moveTries {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s stays on %s: %s", vm.Name, r.Host, tries[len(tries)-1]))
	}
	return errors.Join(errs...)
}

// tell shows how far it is, and why guests do not move.
func (r *drainRun) tell(left []libvirt.VM) {
	done := 100
	if r.total > 0 {
		done = 100 * (r.total - len(left)) / r.total
	}
	text := fmt.Sprintf("%d of %d guests have left", r.total-len(left), r.total)
	if len(r.waits) > 0 {
		text += "; waits: " + strings.Join(r.waits, "; ")
	}
	r.task.Note(text, done)
}

// wait lets moves that are under way end: their context has ended, too.
func (r *drainRun) wait() {
	for range len(r.moving) {
		<-r.ended
	}
}
