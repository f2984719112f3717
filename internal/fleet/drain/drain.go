package drain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job/engine"
	"holdfast/internal/store"
)

const (
	moveTries  = 3               // of one guest, each to a host that has not refused it if there is one
	toldWithin = 3 * time.Second // for the host to report that it is empty
	drainPoll  = 2 * time.Second // between two looks at the host

	coldAgain   = time.Minute     // after a cold move that failed: longer than libvirtd works on one
	startWithin = 3 * time.Minute // of a guest that was moved while it was off
	blindWithin = 2 * time.Minute // without a list of the guests
)

// Guests is what draining needs of the host's hypervisor; *guests.Fleet is one.
type Guests interface {
	List(ctx context.Context) ([]guests.VM, error)
	Follow(ctx context.Context, uuid, name string, tell func(migration.Progress)) (guests.Place, error)
	ColdMove(ctx context.Context, uuid, target string, opt guests.ShutdownOptions) error
	Start(ctx context.Context, uuid string, opt guests.StartOptions) error
}

// Drain empties this host: the Executor of evacuate.KindDrain.
type Drain struct {
	Host   cluster.HostID
	Store  store.Store
	Guests Guests
	Sender *Sender // moves guests live
	Seen   func() (map[cluster.HostID]report.Seen, bool)
	// SetMaintenance says that the host takes no guests any more, or takes them again: it
	// holds for the management VM and for other hosts' drains.
	SetMaintenance func(ctx context.Context, host cluster.HostID, on bool) error
	// InMaintenance reports whether this host takes no guests.
	InMaintenance func() bool
	// Waits tells why a guest of this host stands still that has come here, and for what the move
	// of a protected one waits; "": nothing is known. nil: as "".
	Waits func(uuid string) string
	// Told has the host report what it has now; nil: it does so in its own time.
	Told func(ctx context.Context)
}

// Probe tells whether the host is empty, and stays so.
func (d *Drain) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	args, err := engine.Args[evacuate.DrainArgs](t)
	if err != nil {
		return engine.CanNotTell, err
	}
	off, err := sentOff(ctx, d.Store, d.Host)
	if err != nil {
		return engine.CanNotTell, err
	}
	sent, err := d.Sender.Undecided(ctx)
	if err != nil {
		return engine.CanNotTell, err
	}
	vms, err := d.Guests.List(ctx)
	if err != nil {
		return engine.CanNotTell, err
	}
	if len(sent) == 0 && len(off) == 0 && len(leaving(vms, args.Stay, off)) == 0 && d.InMaintenance() {
		return engine.ProbedDone, nil
	}
	return engine.NotDone, nil // what still moves is found and followed
}

// leaving are the guests that have to go. off are those that were shut down to go.
func leaving[T any](vms []guests.VM, stay []string, off map[string]T) []guests.VM {
	return slices.DeleteFunc(slices.Clone(vms), func(vm guests.VM) bool {
		_, goes := off[vm.UUID]
		return vm.State == guests.VMOff && !goes || slices.Contains(stay, vm.Name)
	})
}

// Do moves the guests away and returns when none is left. It goes on with the
// others when one can not be moved, and fails in the end.
func (d *Drain) Do(ctx context.Context, t engine.Task) error {
	args, err := engine.Args[evacuate.DrainArgs](t)
	if err != nil {
		return err
	}
	if err := d.SetMaintenance(ctx, d.Host, true); err != nil {
		return fmt.Errorf("take host %s out of use: %w", d.Host, err)
	}
	words, err := sentOff(ctx, d.Store, d.Host) // by an earlier process, or try
	if err != nil {
		return err
	}
	off, cold := map[string]bool{}, map[string]moved{}
	for uuid, to := range words {
		off[uuid] = true
		cold[uuid] = moved{vm: guests.VM{UUID: uuid, Name: uuid}, to: to[len(to)-1], at: time.Now()}
	}
	groups, err := readApart(ctx, d.Store)
	if err != nil {
		return err
	}
	moves, abort := context.WithCancel(context.WithoutCancel(ctx))
	run := &drainRun{
		off: off, groups: groups, Drain: d, args: args, task: t, moves: moves, ended: make(chan moved, 1), gone: make(chan struct{}),
		moving: map[string]bool{}, there: map[string]bool{}, came: map[string]bool{}, sent: map[string]sentTo{},
		cold: cold, failed: map[string][]string{}, refused: map[string][]cluster.HostID{},
	}
	defer func() {
		// When the agent stops, what moves goes on: libvirtd does it by itself, and the
		// next process follows it.
		if !errors.Is(context.Cause(ctx), engine.ErrStopping) {
			abort()
			run.wait()
			d.Revive(context.WithoutCancel(ctx), t.Log)
		}
		close(run.gone)
	}()
	listed := time.Now()
	for {
		vms, err := d.Guests.List(ctx)
		if err != nil {
			// libvirtd may be restarted; what moves is not given up for that.
			if ctx.Err() != nil || time.Since(listed) > blindWithin {
				return errors.Join(context.Cause(ctx), fmt.Errorf("list what runs on %s: %w", d.Host, err))
			}
			t.Note("waits: what runs here can not be listed: "+err.Error(), -1)
			select {
			case m := <-run.ended:
				run.note(m)
			case <-time.After(drainPoll):
			case <-ctx.Done():
			}
			continue
		}
		listed = time.Now()
		left := leaving(vms, args.Stay, run.off)
		run.follow(vms)
		run.total = max(run.total, len(left))
		run.begin(left)
		if err := run.over(left); err != nil {
			return err
		}
		if len(left) == 0 && len(run.moving) == 0 {
			err := d.Sender.AwaitDecided(ctx, func(text string) { t.Note(text, -1) })
			run.tell(nil) // it waits for nothing any more
			if d.Told != nil {
				tctx, cancel := context.WithTimeout(ctx, toldWithin)
				d.Told(tctx)
				cancel()
			}
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

// moved is the end of one move, or with there only that the guest runs on the other host:
// libvirtd here still ends what it left.
type moved struct {
	vm    guests.VM
	to    cluster.HostID
	err   error
	at    time.Time
	there bool
}

// drainRun is one run of Do.
type drainRun struct {
	*Drain
	args    evacuate.DrainArgs
	task    engine.Task
	moves   context.Context // of the moves
	total   int             // guests that had to go
	ended   chan moved
	gone    chan struct{}               // closed when nobody waits for ended
	moving  map[string]bool             // by UUID, as the next ones
	there   map[string]bool             // of these, run on the other host: the next move may begin
	came    map[string]bool             // arrived while the host was emptied, or arrive
	failed  map[string][]string         // why each try failed
	refused map[string][]cluster.HostID // hosts that could not take it
	sent    map[string]sentTo           // by UUID
	off     map[string]bool             // are shut down to go, by UUID
	cold    map[string]moved            // moves of such guests that failed, by UUID: libvirtd may still carry them out
	lost    []error                     // of guests that have left and do not run, or have ended on the way
	waits   []string                    // why guests do not move now
	groups  []evacuate.Apart            // guests that must not share a host
}

// begin begins as many moves as may be under way.
func (r *drainRun) begin(left []guests.VM) {
	r.waits = nil
	slices.SortFunc(left, func(a, b guests.VM) int {
		return cmp.Or(cmp.Compare(b.MemoryMiB, a.MemoryMiB), inventory.Compare(a.Name, b.Name))
	})
	for _, vm := range left {
		switch {
		case r.moving[vm.UUID] || len(r.failed[vm.UUID]) >= moveTries:
		case vm.Protected:
			wait := vm.Name + ": the cluster moves it itself"
			if why := r.why(vm.UUID); why != "" {
				wait += "; it waits for " + why
			}
			r.waits = append(r.waits, wait)
		case vm.Arriving: // before it was known that this host takes none
			r.came[vm.UUID] = true
			r.waits = append(r.waits, vm.Name+": is just arriving, and is moved on after that")
		case r.came[vm.UUID]:
			r.waits = append(r.waits, vm.Name+": has just arrived")
			if r.received(vm) {
				delete(r.came, vm.UUID) // the next list tells how it is now
			}
		case vm.Busy != "" && !strings.HasPrefix(vm.Job, "migration"):
			r.waits = append(r.waits, vm.Name+": busy: "+r.busy(vm))
		case time.Since(r.cold[vm.UUID].at) < coldAgain:
			r.waits = append(r.waits, vm.Name+": its move failed, and may still happen")
		case len(r.moving)-len(r.there) >= max(1, r.args.Parallel):
		default:
			r.move(vm)
		}
	}
	r.tell(left)
}

// received reports whether this host has given a guest that came what it carried. It
// would lose that if it went on before.
func (r *drainRun) received(vm guests.VM) bool {
	ctx, cancel := context.WithTimeout(r.moves, carryRead)
	defer cancel()
	_, carries, err := r.Store.Get(ctx, carryPrefix(r.Host)+vm.UUID)
	return err == nil && !carries
}

// busy tells why a guest can not move just now.
func (r *drainRun) busy(vm guests.VM) string {
	return cmp.Or(r.why(vm.UUID), vm.Busy)
}

// move begins one move, in a goroutine of its own.
func (r *drainRun) move(vm guests.VM) {
	if strings.HasPrefix(vm.Job, "migration") { // an earlier process of this agent began it
		r.launch(vm, "", func(func()) error {
			at, err := r.Guests.Follow(r.moves, vm.UUID, vm.Name, nil)
			return ended(at, err)
		})
		return
	}
	plan := evacuate.Move{How: evacuate.Live}
	if i := slices.IndexFunc(r.args.Moves, func(m evacuate.Move) bool {
		if m.UUID == "" {
			return m.VM == vm.Name
		}
		return m.UUID == vm.UUID // another host's guest of the same name may have come here
	}); i >= 0 {
		plan = r.args.Moves[i]
	}
	if vm.State == guests.VMOff { // a cold move that was not finished
		plan.How = evacuate.Cold
	}
	if plan.How == evacuate.Live && len(vm.Fixed) > 0 {
		r.fail(vm, "it can not move live: "+strings.Join(vm.Fixed, "; "), moveTries)
		return
	}
	seen, ok := r.Seen()
	if !ok {
		r.waits = append(r.waits, vm.Name+": the reports of the other hosts are not read yet")
		return
	}
	now := time.Now()
	free := roomOf(r.Host, seen, func(s report.Seen) bool {
		wanted := len(r.args.Targets) == 0 || slices.Contains(r.args.Targets, s.Host.Name)
		return wanted && s.Up(now)
	}, r.sent)
	twins := free.without(vm.UUID, vm.Name, seen)
	others, err := r.withoutPartners(free, vm.UUID, seen)
	if err != nil {
		r.waits = append(r.waits, vm.Name+": "+err.Error())
		return
	}
	twins += others
	to, err := free.choose(vm.Name, vm.MemoryMiB, plan.To, r.refused[vm.UUID])
	if err != nil && len(r.refused[vm.UUID]) > 0 {
		to, err = free.choose(vm.Name, vm.MemoryMiB, plan.To, nil)
	}
	if err != nil {
		r.waits = append(r.waits, err.Error()+twins)
		return
	}
	r.sent[vm.UUID] = sentTo{to, vm.MemoryMiB}
	fmt.Fprintf(r.task.Log, "%s: moves to %s (%s)\n", vm.Name, to, plan.How)
	if plan.How == evacuate.Cold {
		r.off[vm.UUID] = true
	}
	target := seen[to]
	old, again := r.cold[vm.UUID]
	delete(r.cold, vm.UUID)
	r.launch(vm, to, func(there func()) error {
		if again && old.to != to { // this one may start it then, and nobody else
			if err := (carry{UUID: vm.UUID, Name: vm.Name, Start: true}).takeBack(r.moves, r.Store, old.to); err != nil {
				return err
			}
		}
		return r.send(vm, target, plan.How, there)
	})
}

// follow looks after guests whose cold move failed and that are not here any more:
// libvirtd has carried it out after all, and the word that they are to be started
// there stands.
func (r *drainRun) follow(vms []guests.VM) {
	for uuid, m := range r.cold {
		if !r.moving[uuid] && !slices.ContainsFunc(vms, func(vm guests.VM) bool { return vm.UUID == uuid }) {
			delete(r.cold, uuid)
			r.launch(m.vm, m.to, func(func()) error { return r.awaitStart(m.vm, m.to) })
		}
	}
}

// send moves a guest. What it carries is written before, and removed again when it
// stays. That of a cold move that failed is kept until it is sent elsewhere or
// started here: libvirtd may still carry it out.
func (r *drainRun) send(vm guests.VM, target report.Seen, how evacuate.How, there func()) error {
	if how != evacuate.Cold {
		return r.live(r.moves, vm, target, r.args.Network, there)
	}
	to := target.Host.Name
	c := carry{UUID: vm.UUID, Name: vm.Name, From: r.Host, Autostart: vm.Autostart, Start: true}
	if err := c.put(r.moves, r.Store, to); err != nil {
		return errors.Join(err, c.takeBack(r.moves, r.Store, to))
	}
	if err := r.Guests.ColdMove(r.moves, vm.UUID, target.Addr, guests.ShutdownOptions{}); err != nil {
		return err
	}
	return r.awaitStart(vm, to)
}

// live moves a guest that runs, over the network (a CIDR) when the target has an
// address in it: every live move that jobs ask for, away and back. there, if not nil, is
// called when it runs there.
func (d *Drain) live(ctx context.Context, vm guests.VM, target report.Seen, network string, there func()) error {
	return d.Sender.Send(ctx, vm, target, guests.MigrateOptions{AutoConverge: true, Data: target.In(network), There: there})
}

// errNotUp says that a guest has left and does not run on the other host: the word
// that it is to be started there stays.
var errNotUp = errors.New("it does not run there")

// errEnded says that a guest was here, or on its way, and does not run any more.
var errEnded = errors.New("it has ended while it moved")

// ended makes the error of a move that ended with the guest at a place one that wraps errEnded
// where it has no process any more.
func ended(at guests.Place, err error) error {
	if err != nil && (at == guests.Off || at == guests.Absent) {
		return fmt.Errorf("%w: %w", errEnded, err)
	}
	return err
}

// awaitStart waits until the host to which a guest was moved reports that it runs
// there.
func (r *drainRun) awaitStart(vm guests.VM, to cluster.HostID) error {
	for end := time.Now().Add(startWithin); time.Now().Before(end); {
		seen, _ := r.Seen()
		if slices.ContainsFunc(seen[to].VMs, func(x inventory.VM) bool { return x.UUID == vm.UUID && x.Running }) {
			return nil
		}
		select {
		case <-r.moves.Done():
			return fmt.Errorf("it was moved to %s: %w: %w", to, errNotUp, context.Cause(r.moves))
		case <-time.After(drainPoll):
		}
	}
	return fmt.Errorf("it was moved to %s: %w after %s", to, errNotUp, startWithin)
}

// launch runs a move beside the others.
func (r *drainRun) launch(vm guests.VM, to cluster.HostID, move func(there func()) error) {
	r.moving[vm.UUID] = true
	tell := func(m moved) {
		select {
		case r.ended <- m:
		case <-r.gone:
		}
	}
	go func() {
		err := move(func() { tell(moved{vm: vm, there: true}) })
		tell(moved{vm: vm, to: to, err: err, at: time.Now()})
	}()
}

// note takes the end of a move in.
func (r *drainRun) note(m moved) {
	if m.there {
		r.there[m.vm.UUID] = true
		return
	}
	delete(r.moving, m.vm.UUID)
	delete(r.there, m.vm.UUID)
	if m.err == nil {
		fmt.Fprintf(r.task.Log, "%s: is on %s\n", m.vm.Name, cmp.Or(string(m.to), "another host"))
		return
	}
	if errors.Is(m.err, errNotUp) || errors.Is(m.err, errEnded) {
		fmt.Fprintf(r.task.Log, "%s: %v\n", m.vm.Name, m.err)
		r.lost = append(r.lost, fmt.Errorf("%s: %w", m.vm.Name, m.err))
		return
	}
	delete(r.sent, m.vm.UUID)
	if r.off[m.vm.UUID] && m.to != "" {
		r.cold[m.vm.UUID] = m
	}
	if m.to != "" {
		r.refused[m.vm.UUID] = append(r.refused[m.vm.UUID], m.to)
	}
	r.fail(m.vm, m.err.Error(), 1)
}

func (r *drainRun) fail(vm guests.VM, why string, tries int) {
	fmt.Fprintf(r.task.Log, "%s: %s\n", vm.Name, why)
	for range tries {
		r.failed[vm.UUID] = append(r.failed[vm.UUID], why)
	}
}

// over gives the error of a run in which nothing more can be tried.
func (r *drainRun) over(left []guests.VM) error {
	if len(r.moving) > 0 {
		return nil
	}
	errs := slices.Clone(r.lost)
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
func (r *drainRun) tell(left []guests.VM) {
	done := 100
	if r.total > 0 {
		done = 100 * (r.total - len(left)) / r.total
	}
	text := fmt.Sprintf("%d of %d have left the host", r.total-len(left), r.total)
	if len(r.waits) > 0 {
		text += "; waits: " + strings.Join(r.waits, "; ")
	}
	r.task.Note(text, done)
}

// wait lets moves that are under way end: their context has ended, too.
func (r *drainRun) wait() {
	for n := len(r.moving); n > 0; {
		if m := <-r.ended; !m.there {
			n--
		}
	}
}
