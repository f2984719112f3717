package drain

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job/engine"
)

func coldMoves(vms ...string) (out []evacuate.Move) {
	for _, vm := range vms {
		out = append(out, evacuate.Move{VM: vm, To: "h2", How: evacuate.Cold})
	}
	return out
}

// TestDrainTellsWhatGuestsCarry: the word is there before the move begins, and
// stays for the host that receives the guest.
func TestDrainTellsWhatGuestsCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auto, cold := vm("auto", 100), vm("cold", 100)
		auto.Autostart, cold.Autostart = true, true
		w := newDrainWorld(auto, cold, vm("plain", 100), vm("off-later", 100))
		before := map[string]bool{}
		w.guests.hook = func(vm guests.VM, target string, _ guests.MigrateOptions) {
			_, before[vm.Name], _ = w.client.Get(t.Context(), "fleet-carry/"+strings.TrimPrefix(target, "addr-")+"/"+vm.UUID)
		}
		args := evacuate.DrainArgs{Parallel: 4, Moves: append(coldMoves("cold", "off-later"),
			evacuate.Move{VM: "auto", To: "h3", How: evacuate.Live})}
		if err := w.drain.Do(t.Context(), w.task(t, args)); err != nil {
			t.Fatal(err)
		}
		want := "fleet-carry/h2/uuid-cold: uuid-cold of cold from h1, autostart true, start true\n" +
			"fleet-carry/h2/uuid-off-later: uuid-off-later of off-later from h1, autostart false, start true\n" +
			"fleet-carry/h3/uuid-auto: uuid-auto of auto from h1, autostart true, start false"
		if got := w.carried(t); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		for _, vm := range []string{"auto", "cold", "off-later", "plain"} {
			if !before[vm] {
				t.Errorf("%s moved before its word was there", vm)
			}
		}
	})
}

// TestDrainTakesWordsBack: of moves that fail, of those that are cancelled, and of
// those whose word may be there although the store did not say so.
func TestDrainTakesWordsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auto := vm("auto", 100)
		auto.Autostart = true
		w := newDrainWorld(auto)
		w.guests.refuses["auto to addr-h2"] = true
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1})); err != nil {
			t.Fatal(err)
		}
		if got := w.carried(t); got != "fleet-carry/h3/uuid-auto: uuid-auto of auto from h1, autostart true, start false" {
			t.Errorf("after a refusal:\n%s", got)
		}

		w = newDrainWorld(auto)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(engine.ErrCancelled) })
		if err := w.drain.Do(ctx, w.task(t, evacuate.DrainArgs{Parallel: 1})); !errors.Is(err, engine.ErrCancelled) {
			t.Errorf("got %v", err)
		}
		if got := w.carried(t); got != "" {
			t.Errorf("after a cancelled drain:\n%s", got)
		}

		// The agent's end leaves moves alone, and their words.
		w = newDrainWorld(auto)
		ctx, cancel = context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(engine.ErrStopping) })
		if err := w.drain.Do(ctx, w.task(t, evacuate.DrainArgs{Parallel: 1})); !errors.Is(err, engine.ErrStopping) {
			t.Errorf("got %v", err)
		}
		if got := w.carried(t); got == "" {
			t.Error("the word is gone though the move goes on")
		}
		time.Sleep(5 * time.Second) // it ends

		w = newDrainWorld(auto)
		w.guests.update("uuid-auto", func(v *guests.VM) { v.Busy = "snapshot" })
		time.AfterFunc(time.Second, func() { w.client.LoseReplies(true) })
		time.AfterFunc(2*time.Second, func() { w.guests.update("uuid-auto", func(v *guests.VM) { v.Busy = "" }) })
		time.AfterFunc(10*time.Second, func() { w.client.LoseReplies(false) })
		err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1}))
		if err != nil || strings.Count(w.carried(t), "\n") != 0 || w.guests.moves() == "" {
			t.Errorf("after lost answers: %v, %s\n%s", err, w.guests.moves(), w.carried(t))
		}

		// Without the store nothing moves that carries something.
		w = newDrainWorld(auto, vm("plain", 100))
		var at time.Duration
		began := time.Now()
		w.guests.hook = func(vm guests.VM, _ string, _ guests.MigrateOptions) {
			if vm.Name == "auto" {
				at = time.Since(began)
			}
		}
		time.AfterFunc(time.Second, func() { w.client.Partition(true) })
		time.AfterFunc(time.Minute, func() { w.client.Partition(false) })
		w.guests.update("uuid-auto", func(v *guests.VM) { v.Busy = "snapshot" })
		time.AfterFunc(2*time.Second, func() { w.guests.update("uuid-auto", func(v *guests.VM) { v.Busy = "" }) })
		err = w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 2}))
		if err != nil || at < time.Minute || at > 65*time.Second {
			t.Errorf("it moved after %s, %v", at, err)
		}
	})
}

// TestDrainFindsGuestsThatAreOffToGo: the agent may end between the shutdown and
// the move.
func TestDrainFindsGuestsThatAreOffToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, other := vm("a", 100), vm("other", 100)
		a.State, other.State = guests.VMOff, guests.VMOff
		w := newDrainWorld(a, other)
		for _, c := range []carry{
			{UUID: a.UUID, Name: "a", From: "h1", Start: true}, {UUID: other.UUID, Name: "other", From: "h2", Start: true},
		} {
			if err := c.put(t.Context(), w.client, "h2"); err != nil {
				t.Fatal(err)
			}
		}
		task := w.task(t, evacuate.DrainArgs{Parallel: 1})
		if p, err := w.drain.Probe(t.Context(), task); p != engine.NotDone || err != nil {
			t.Errorf("before: %v, %v", p, err)
		}
		if err := w.drain.Do(t.Context(), task); err != nil || w.guests.moves() != "a cold addr-h2" {
			t.Errorf("%v, moves %q", err, w.guests.moves())
		}
		w.received(t)
		if p, err := w.drain.Probe(t.Context(), task); p != engine.ProbedDone || err != nil {
			t.Errorf("after: %v, %v", p, err)
		}
		w.client.Refuse(true)
		if p, err := w.drain.Probe(t.Context(), task); p != engine.CanNotTell || err == nil {
			t.Errorf("without the store: %v, %v", p, err)
		}
	})
}

// TestDrainAwaitsColdMovedGuests: one that does not run on the other host in time
// is an error, and what it carries stays for whoever may start it yet.
func TestDrainAwaitsColdMovedGuests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(vm("dead", 100), vm("fine", 100))
		w.guests.stalls["dead"] = true
		began := time.Now()
		err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 2, Moves: coldMoves("dead", "fine")}))
		if err == nil || !strings.Contains(err.Error(), "dead") || !strings.Contains(err.Error(), "h2") ||
			!strings.Contains(err.Error(), startWithin.String()) || strings.Contains(err.Error(), "fine") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took < startWithin || took > startWithin+time.Minute {
			t.Errorf("it took %s", took)
		}
		if !strings.Contains(w.carried(t), "fleet-carry/h2/uuid-dead:") {
			t.Errorf("nobody starts it any more:\n%s", w.carried(t))
		}
		if got := w.guests.moves(); got != "dead cold addr-h2, fine cold addr-h2" {
			t.Errorf("moves: %s", got)
		}

		// It waits no longer than the drain.
		w = newDrainWorld(vm("dead", 100))
		w.guests.stalls["dead"] = true
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Second, func() { cancel(engine.ErrCancelled) })
		began = time.Now()
		if err := w.drain.Do(ctx, w.task(t, evacuate.DrainArgs{Parallel: 1, Moves: coldMoves("dead")})); !errors.Is(err,
			engine.ErrCancelled) || time.Since(began) > 25*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if !strings.Contains(w.carried(t), "fleet-carry/h2/uuid-dead:") {
			t.Error("nobody starts a guest that has left")
		}
	})
}

// TestDrainDoesNotForgetAGuestThatIsOff: a cold move that failed has shut the
// guest down. It must go, or the drain must fail.
func TestDrainDoesNotForgetAGuestThatIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(vm("a", 100))
		w.guests.refuses["a to addr-h2"] = true
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1,
			Moves: coldMoves("a")})); err != nil || w.guests.moves() != "a cold addr-h3" {
			t.Errorf("%v, moves %q", err, w.guests.moves())
		}
		w = newDrainWorld(vm("a", 100))
		w.guests.refuses["a to addr-h2"], w.guests.refuses["a to addr-h3"] = true, true
		err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1, Moves: coldMoves("a")}))
		if err == nil || !strings.Contains(err.Error(), "a stays on h1: addr-h") {
			t.Errorf("got %v", err)
		}
		if got := w.carried(t); got != "" {
			t.Errorf("it is told to start where it never came:\n%s", got)
		}
		if vms, _ := w.guests.List(t.Context()); len(vms) != 1 || vms[0].State != guests.VMRunning {
			t.Errorf("it stays, and is off: %+v", vms)
		}

		// Nobody else may start it then.
		dead := vm("a", 100)
		dead.State = guests.VMOff
		w = newDrainWorld(dead)
		w.guests.refuses["a to addr-h2"], w.guests.refuses["a to addr-h3"] = true, true
		c := carry{UUID: dead.UUID, Name: dead.Name, From: "h1", Start: true}
		if err := c.put(t.Context(), w.drain.Store, "h9"); err != nil {
			t.Fatal(err)
		}
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1})); err == nil {
			t.Error("it stays, and the drain is done")
		}
		if vms, _ := w.guests.List(t.Context()); vms[0].State != guests.VMRunning || w.carried(t) != "" {
			t.Errorf("%+v, and others are told %q", vms, w.carried(t))
		}
	})
}

func TestDrainObeysTargetsAndNetwork(t *testing.T) {
	for network, want := range map[string]string{"": "", "10.0.0.0/24": "10.0.0.3", "fd00::/64": "fd00::3", "172.16.0.0/12": ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newDrainWorld(vm("a", 600), vm("b", 300), vm("c", 300))
			var data []string
			w.guests.hook = func(_ guests.VM, _ string, o guests.MigrateOptions) { data = append(data, o.Data) }
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, engine.ErrTimeout)
			defer cancel()
			// The planned host counts only if it is one of the targets. c finds no room.
			args := evacuate.DrainArgs{Parallel: 3, Targets: []cluster.HostID{"h3"}, Network: network,
				Moves: []evacuate.Move{{VM: "a", To: "h2", How: evacuate.Live}}}
			if err := w.drain.Do(ctx, w.task(t, args)); !errors.Is(err, engine.ErrTimeout) {
				t.Errorf("got %v", err)
			}
			if got := w.guests.moves(); got != "a live addr-h3, b live addr-h3" {
				t.Errorf("moves: %s", got)
			}
			if notes := strings.Join(w.notes, "\n"); !strings.Contains(notes, "no host has 300 MiB for c: h3 has 100 MiB free") {
				t.Errorf("notes:\n%s", notes)
			}
			if !slices.Equal(data, []string{want, want}) {
				t.Errorf("network %q: over %q, want %q", network, data, want)
			}
		})
	}
}

// TestDrainTellsWhatTargetsCan: memory goes by TLS to a host that can receive it so.
func TestDrainTellsWhatTargetsCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(vm("a", 600), vm("b", 600))
		seen := w.drain.Seen
		w.drain.Seen = func() (map[cluster.HostID]report.Seen, bool) {
			all, ok := seen()
			h := all["h2"]
			h.MigrateTLS = true
			all["h2"] = h
			return all, ok
		}
		w.guests.hook = func(_ guests.VM, target string, o guests.MigrateOptions) {
			if o.TLS != (target == "addr-h2") {
				t.Errorf("to %s: TLS %t", target, o.TLS)
			}
		}
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1})); err != nil {
			t.Error(err)
		}
		if got := w.guests.moves(); !strings.Contains(got, "addr-h2") || !strings.Contains(got, "addr-h3") {
			t.Errorf("moves: %s", got)
		}
	})
}

func TestAddressInANetwork(t *testing.T) {
	r := report.Record{Addrs: []string{"no address", "10.1.0.9", "10.0.0.7", "10.0.0.8", "fe80::1"}}
	for network, want := range map[string]string{"10.0.0.0/8": "10.1.0.9", "10.0.0.0/24": "10.0.0.7",
		"fe80::/10": "fe80::1", "10.0.0.0": "", "x": "", "::/0": "fe80::1", "192.0.2.0/24": ""} {
		if got := r.In(network); got != want {
			t.Errorf("%q: %q, want %q", network, got, want)
		}
	}
}

// TestDrainFollowsAColdMoveWhoseAnswerWasLost: the guest leaves a second after the
// error. It must be started where it went.
func TestDrainFollowsAColdMoveWhoseAnswerWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(vm("a", 100), vm("busy", 100))
		w.guests.unheard = map[string]bool{"a": true}
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1, Moves: coldMoves("a")})); err != nil {
			t.Error(err)
		}
		if got := w.carried(t); !strings.Contains(got, "of a from h1, autostart false, start true") {
			t.Errorf("nobody is told to start it: %q", got)
		}
	})
}

// TestDrainEndsWhenMovesAreDecided: a guest that an earlier process has sent may
// stand still on the other host; only this one can tell what becomes of it.
func TestDrainEndsWhenMovesAreDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld()
		w.guests.wheres["uuid-a"] = guests.Where{Place: guests.Leaving}
		if err := (carry{UUID: "uuid-a", Name: "a", From: "h1", Live: true, ID: "x"}).put(t.Context(), w.client, "h2"); err != nil {
			t.Fatal(err)
		}
		w.rested = []string{"h1"}
		task := w.task(t, evacuate.DrainArgs{Parallel: 1})
		if p, err := w.drain.Probe(t.Context(), task); p != engine.NotDone || err != nil {
			t.Errorf("before: %v, %v", p, err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, engine.ErrTimeout)
		defer cancel()
		if err := w.drain.Do(ctx, task); !errors.Is(err, engine.ErrTimeout) || !strings.Contains(err.Error(), "moved to: a") {
			t.Errorf("got %v", err)
		}
		time.AfterFunc(time.Minute, func() {
			w.guests.mu.Lock()
			defer w.guests.mu.Unlock()
			delete(w.guests.wheres, "uuid-a")
		})
		if err := w.drain.Do(t.Context(), task); err != nil {
			t.Error(err)
		}
		if p, err := w.drain.Probe(t.Context(), task); p != engine.ProbedDone || err != nil {
			t.Errorf("after: %v, %v", p, err)
		}
	})
}
