package drain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// fakeGuests are the guests of one host whose moves take 3 s. It obeys the
// contract of guests.Fleet as far as draining uses it.
type fakeGuests struct {
	mu      sync.Mutex
	vms     []guests.VM
	refuses map[string]bool                                            // "vm to addr"
	unheard map[string]bool                                            // their cold moves happen after an error was answered
	stalls  map[string]bool                                            // these do not start after a cold move
	hook    func(vm guests.VM, target string, o guests.MigrateOptions) // before each move
	wheres  map[string]guests.Where                                    // by UUID, where it is not as the list tells
	came    []arrival
	most    int // moves at once
	now     int
	log     []string
	lingers time.Duration // of what a guest leaves behind
}

// arrival is a guest that was moved while it was off.
type arrival struct {
	vm     guests.VM
	target string
	at     time.Time
}

func (f *fakeGuests) List(context.Context) ([]guests.VM, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.vms), nil
}

// moves tells who went where, in the order of names.
func (f *fakeGuests) moves() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(slices.Sorted(slices.Values(f.log)), ", ")
}

func (f *fakeGuests) update(uuid string, g func(*guests.VM)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.vms {
		if f.vms[i].UUID == uuid {
			g(&f.vms[i])
		}
	}
}

func (f *fakeGuests) leave(ctx context.Context, uuid, target, how string, o guests.MigrateOptions) error {
	f.mu.Lock()
	f.now++
	f.most = max(f.most, f.now)
	if i := slices.IndexFunc(f.vms, func(vm guests.VM) bool { return vm.UUID == uuid }); i >= 0 && f.hook != nil {
		f.hook(f.vms[i], target, o)
	}
	f.mu.Unlock()
	f.update(uuid, func(vm *guests.VM) { vm.Job, vm.Busy = "migration", "migration" })
	clock.Sleep(ctx, 3*time.Second)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now--
	i := slices.IndexFunc(f.vms, func(vm guests.VM) bool { return vm.UUID == uuid })
	if f.unheard[f.vms[i].Name] {
		f.vms[i].State, f.vms[i].Job, f.vms[i].Busy = guests.VMOff, "", ""
		delete(f.unheard, f.vms[i].Name)
		time.AfterFunc(time.Second, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if i := slices.IndexFunc(f.vms, func(vm guests.VM) bool { return vm.UUID == uuid }); i >= 0 {
				f.came = append(f.came, arrival{f.vms[i], target, time.Now()})
				f.vms = slices.Delete(f.vms, i, i+1)
			}
		})
		return errors.New("the answer was lost")
	}
	if ctx.Err() != nil || f.refuses[f.vms[i].Name+" to "+target] {
		f.vms[i].Job, f.vms[i].Busy = "", ""
		if how == "cold" {
			f.vms[i].State = guests.VMOff // it was shut down before
		}
		return fmt.Errorf("%s does not take it: %w", target, errors.Join(ctx.Err(), errors.New("refused")))
	}
	f.log = append(f.log, f.vms[i].Name+" "+how+" "+target)
	if f.lingers > 0 && o.There != nil {
		f.mu.Unlock()
		o.There()
		time.Sleep(f.lingers)
		f.mu.Lock()
		i = slices.IndexFunc(f.vms, func(vm guests.VM) bool { return vm.UUID == uuid })
	}
	if how == "cold" {
		f.came = append(f.came, arrival{f.vms[i], target, time.Now()})
	}
	f.vms = slices.Delete(f.vms, i, i+1)
	return nil
}

// at are the guests that run on a host since they were moved there cold, a second
// after they came.
func (f *fakeGuests) at(target string) (out []inventory.VM) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.came {
		if a.target == target {
			up := !f.stalls[a.vm.Name] && time.Since(a.at) >= time.Second
			out = append(out, inventory.VM{Name: a.vm.Name, UUID: a.vm.UUID, MemoryMiB: a.vm.MemoryMiB, Running: up})
		}
	}
	return out
}

// ready does what a Migrate does before it asks libvirtd.
func ready(o guests.MigrateOptions) error {
	if o.Before == nil {
		return nil
	}
	return o.Before()
}

func (f *fakeGuests) Migrate(ctx context.Context, uuid, target string, o guests.MigrateOptions) (guests.Place, error) {
	if err := ready(o); err != nil {
		return guests.Here, err
	}
	if err := f.leave(ctx, uuid, target, "live", o); err != nil {
		return guests.Here, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if at := f.wheres[uuid].Place; at == guests.Off || at == guests.Absent {
		return at, errors.New("it has crashed")
	}
	return guests.Left, nil
}

func (f *fakeGuests) Follow(ctx context.Context, uuid, name string, _ func(migration.Progress)) (guests.Place, error) {
	return f.Migrate(ctx, uuid, "followed", guests.MigrateOptions{})
}

func (f *fakeGuests) ColdMove(ctx context.Context, uuid, target string, _ guests.ShutdownOptions) error {
	return f.leave(ctx, uuid, target, "cold", guests.MigrateOptions{})
}

func (f *fakeGuests) Start(_ context.Context, uuid string, _ guests.StartOptions) error {
	f.update(uuid, func(vm *guests.VM) { vm.State = guests.VMRunning })
	return nil
}

// Whereabouts tells that a guest that is not here any more was moved away.
func (f *fakeGuests) Whereabouts(_ context.Context, uuid, _ string) (guests.Where, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.vms, func(vm guests.VM) bool { return vm.UUID == uuid })
	w, told := f.wheres[uuid]
	switch {
	case told:
		return w, nil
	case i < 0:
		return guests.Where{Place: guests.Left, Moved: true}, nil
	case f.vms[i].Job == "migration":
		return guests.Where{Place: guests.Leaving}, nil
	case f.vms[i].State == guests.VMOff:
		return guests.Where{Place: guests.Off}, nil
	}
	return guests.Where{Place: guests.Here, State: f.vms[i].State}, nil
}

func (f *fakeGuests) Resume(_ context.Context, uuid string) error {
	f.mu.Lock()
	f.log = append(f.log, "resume "+uuid)
	delete(f.wheres, uuid)
	f.mu.Unlock()
	f.update(uuid, func(vm *guests.VM) { vm.State = guests.VMRunning })
	return nil
}

func (f *fakeGuests) Discard(_ context.Context, uuid string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, "discard "+uuid)
	f.wheres[uuid] = guests.Where{Place: guests.Absent}
	f.vms = slices.DeleteFunc(f.vms, func(vm guests.VM) bool { return vm.UUID == uuid })
	return nil
}

func (f *fakeGuests) SetAutostart(_ context.Context, uuid string, on bool) error {
	f.update(uuid, func(vm *guests.VM) { vm.Autostart = on })
	return nil
}

func vm(name string, memory int64) guests.VM {
	return guests.VM{Name: name, UUID: "uuid-" + name, State: guests.VMRunning, MemoryMiB: memory}
}

// drainWorld is h1, which is drained, and h2 and h3 with 1000 MiB each.
type drainWorld struct {
	guests *fakeGuests
	drain  *Drain
	client *storetest.Client
	rested []string
	notes  []string
	log    bytes.Buffer
	mu     sync.Mutex
	begun  bool // the sender runs
}

func newDrainWorld(vms ...guests.VM) *drainWorld {
	w := &drainWorld{guests: &fakeGuests{vms: vms, refuses: map[string]bool{}, stalls: map[string]bool{},
		wheres: map[string]guests.Where{}}, client: storetest.NewMem().NewClient("h1")}
	w.drain = &Drain{
		Host: "h1", Store: w.client, Guests: w.guests,
		Seen: func() (map[cluster.HostID]report.Seen, bool) {
			seen := map[cluster.HostID]report.Seen{}
			for _, h := range []cluster.HostID{"h1", "h2", "h3"} {
				seen[h] = report.Seen{Record: report.Record{
					Host: inventory.Host{Name: h, MemoryMiB: 1000}, Addr: "addr-" + string(h), VMs: w.guests.at("addr-" + string(h)),
					Addrs: []string{"192.0.2." + string(h[1]), "fd00::" + string(h[1]), "10.0.0." + string(h[1])},
				}, SeenAt: time.Now()}
			}
			return seen, true
		},
		InMaintenance: func() bool { return len(w.rested) > 0 },
		SetMaintenance: func(_ context.Context, h cluster.HostID, on bool) error {
			w.rested = append(w.rested, fmt.Sprint(h, on))
			return nil
		},
	}
	w.drain.Sender = NewSender(&Sender{Store: w.client, Host: "h1", Guests: w.guests, Seen: w.drain.Seen, Log: slog.New(slog.DiscardHandler)})
	return w
}

// begin runs the sender, and what the other hosts do with its words, until the test
// ends.
func (w *drainWorld) begin(t *testing.T) {
	if w.begun {
		return
	}
	w.begun = true
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { w.drain.Sender.Run(ctx) })
	wg.Go(func() {
		for ctx.Err() == nil {
			w.clear(ctx)
			clock.Sleep(ctx, 500*time.Millisecond)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// clear is what receivers do, but that words with autostart are kept, to be seen.
func (w *drainWorld) clear(ctx context.Context) {
	kvs, _, _ := w.client.List(ctx, carryKeys) // the store may be away
	for _, kv := range kvs {
		var c carry
		if json.Unmarshal(kv.Value, &c) == nil && (c.Says == saysStays || c.Says == saysGone && !c.Autostart) {
			_, _, _ = w.client.Txn(ctx, []store.Cmp{{Key: kv.Key, Rev: kv.ModRev}}, []store.Op{{Key: kv.Key}}) // again, if it fails
		}
	}
}

// carried are the keys of what guests carry, each with what it says.
// received takes the words of h1 out of the store, as those do that they are for.
func (w *drainWorld) received(t *testing.T) {
	t.Helper()
	words, err := sentOff(t.Context(), w.client, "h1")
	for uuid, to := range words {
		for _, h := range to {
			err = errors.Join(err, carry{UUID: uuid, Start: true}.takeBack(t.Context(), w.client, h))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *drainWorld) carried(t *testing.T) string {
	t.Helper()
	time.Sleep(time.Second) // others have their time
	kvs, _, err := w.client.List(t.Context(), "fleet-carry/")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, kv := range kvs {
		var c carry
		if err := json.Unmarshal(kv.Value, &c); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s: %s of %s from %s, autostart %t, start %t", kv.Key, c.UUID, c.Name, c.From, c.Autostart, c.Start))
	}
	return strings.Join(out, "\n")
}

func (w *drainWorld) task(t *testing.T, args evacuate.DrainArgs) engine.Task {
	t.Helper()
	w.begin(t)
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Task{
		Step: job.Step{ID: "h1/drain", Host: "h1", Kind: evacuate.KindDrain, Args: raw}, Log: io.Writer(&w.log),
		Note: func(text string, _ int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.notes) == 0 || w.notes[len(w.notes)-1] != text {
				w.notes = append(w.notes, text)
			}
		},
	}
}

func TestDrainEmptiesTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		off := vm("off", 500)
		off.State = guests.VMOff
		w := newDrainWorld(vm("a", 600), vm("b", 500), vm("c", 300), vm("d", 300), vm("stays", 100), off)
		task := w.task(t, evacuate.DrainArgs{Parallel: 2, Stay: []string{"stays"},
			Moves: []evacuate.Move{{VM: "a", To: "h3", How: evacuate.Live}, {VM: "c", To: "h2", How: evacuate.Cold}}})
		if p, err := w.drain.Probe(t.Context(), task); p != engine.NotDone || err != nil {
			t.Errorf("before: %v, %v", p, err)
		}
		if err := w.drain.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if got, want := w.guests.moves(), "a live addr-h3, b live addr-h2, c cold addr-h2, d live addr-h3"; got != want {
			t.Errorf("moves: %s; want %s", got, want)
		}
		if w.guests.most != 2 || fmt.Sprint(w.rested) != "[h1true]" {
			t.Errorf("%d moves at once, rested %v", w.guests.most, w.rested)
		}
		if p, err := w.drain.Probe(t.Context(), task); p != engine.NotDone || err != nil {
			t.Errorf("before the guest was received: %v, %v", p, err)
		}
		w.received(t)
		if p, err := w.drain.Probe(t.Context(), task); p != engine.ProbedDone || err != nil {
			t.Errorf("after: %v, %v", p, err)
		}
		w.rested = nil
		if p, err := w.drain.Probe(t.Context(), task); p != engine.NotDone || err != nil {
			t.Errorf("empty, but taking guests: %v, %v", p, err)
		}
	})
}

// TestADrainedHostIsReportedEmpty at once: nothing of what went still counts there when the drain is over.
func TestADrainedHostIsReportedEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(vm("a", 600), vm("b", 300))
		var told []string
		w.drain.Told = func(ctx context.Context) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("it may take for ever")
			}
			vms, err := w.guests.List(ctx)
			told = append(told, fmt.Sprint(len(vms), " guests, ", err))
		}
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1})); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(told) != "[0 guests, <nil>]" {
			t.Errorf("reported %q, want once, of a host without guests", told)
		}
	})
}

// TestDrainSaysWhyItWaits: busy guests and the management VM are waited for, and
// a guest that one host refuses goes to another.
func TestDrainSaysWhyItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, mnvm := vm("busy", 100), vm("mnvm", 100)
		busy.Busy, mnvm.Protected = "snapshot", true
		w := newDrainWorld(busy, mnvm, vm("a", 100))
		w.guests.refuses["a to addr-h2"] = true
		w.drain.Waits = func(uuid string) string {
			if uuid == "uuid-mnvm" {
				return "another host"
			}
			return ""
		}
		go func() {
			time.Sleep(30 * time.Second)
			w.guests.update("uuid-busy", func(v *guests.VM) { v.Busy = "" })
			w.guests.update("uuid-mnvm", func(v *guests.VM) { v.State = guests.VMOff })
		}()
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1})); err != nil {
			t.Fatal(err)
		}
		if got := w.guests.moves(); got != "a live addr-h3, busy live addr-h2" {
			t.Errorf("moves: %s", got)
		}
		notes := strings.Join(w.notes, "\n")
		for _, want := range []string{"busy: busy: snapshot",
			"mnvm: the cluster moves it itself; it waits for another host", "1 of 3 have left the host"} {
			if !strings.Contains(notes, want) {
				t.Errorf("no note says %q:\n%s", want, notes)
			}
		}
	})
}

// TestDrainFailsWithReasons: one guest that can not move does not keep the others,
// and no room is a wait that ends with the step's time.
func TestDrainFailsWithReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fixed := vm("fixed", 100)
		fixed.Fixed = []string{"has host device 0000:01:00.0"}
		w := newDrainWorld(fixed, vm("stuck", 100), vm("a", 100))
		w.guests.refuses["stuck to addr-h2"], w.guests.refuses["stuck to addr-h3"] = true, true
		err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 4}))
		if err == nil || !strings.Contains(err.Error(),
			"fixed stays on h1: it can not move live: has host device 0000:01:00.0") || !strings.Contains(err.Error(), "stuck stays on h1: addr-h") {
			t.Errorf("got %v", err)
		}
		if got := w.guests.moves(); got != "a live addr-h2" {
			t.Errorf("moves: %s", got)
		}

		w = newDrainWorld(vm("huge", 2000))
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, engine.ErrTimeout)
		defer cancel()
		if err := w.drain.Do(ctx, w.task(t, evacuate.DrainArgs{Parallel: 1})); !errors.Is(err, engine.ErrTimeout) {
			t.Errorf("got %v", err)
		}
		if notes := strings.Join(w.notes, "\n"); !strings.Contains(notes,
			"no host has 2000 MiB for huge: h2 has 1000 MiB free, h3 has 1000 MiB free") {
			t.Errorf("notes:\n%s", notes)
		}
	})
}

// TestDrainIsLeftAndCancelled: an agent that stops leaves the moves alone and the
// next one follows them; a cancelled drain aborts them.
func TestDrainIsLeftAndCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(vm("a", 100), vm("b", 100))
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(engine.ErrStopping) })
		if err := w.drain.Do(ctx, w.task(t, evacuate.DrainArgs{Parallel: 2})); !errors.Is(err, engine.ErrStopping) {
			t.Fatalf("got %v", err)
		}
		time.Sleep(4 * time.Second)
		if got := w.guests.moves(); got != "a live addr-h2, b live addr-h3" {
			t.Errorf("the moves did not go on: %s", got)
		}

		moving := vm("c", 100)
		moving.Job, moving.Busy = "migration", "migration"
		w = newDrainWorld(moving)
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1})); err != nil || w.guests.moves() != "c live followed" {
			t.Errorf("%v, %v", err, w.guests.moves())
		}

		w = newDrainWorld(vm("d", 100))
		ctx, cancel = context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(engine.ErrCancelled) })
		if err := w.drain.Do(ctx, w.task(t, evacuate.DrainArgs{Parallel: 1})); !errors.Is(err, engine.ErrCancelled) || w.guests.moves() != "" {
			t.Errorf("%v, %v", err, w.guests.moves())
		}
	})
}
