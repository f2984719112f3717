package drain

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/job/engine"
)

// arriving is a guest that a migration brings.
func arriving(name string) guests.VM {
	v := vm(name, 100)
	v.State, v.Job, v.Busy, v.Arriving = guests.VMPaused, "migration", "migration", true
	return v
}

// TestDrainWaitsForGuestsThatArrive: one that comes is waited for and moved on with
// what it has carried here, and others move meanwhile. One that does not come after
// all is no failure.
func TestDrainWaitsForGuestsThatArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(arriving("comes"), arriving("stays-away"), vm("here", 100))
		word := carry{UUID: "uuid-comes", Name: "comes", From: "h2", Autostart: true}
		if err := word.put(t.Context(), w.client, "h1"); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() {
			w.guests.update("uuid-comes", func(v *guests.VM) { v.State, v.Job, v.Busy, v.Arriving = guests.VMRunning, "", "", false })
			w.guests.mu.Lock()
			defer w.guests.mu.Unlock()
			w.guests.vms = slices.DeleteFunc(w.guests.vms, func(v guests.VM) bool { return v.Name == "stays-away" })
		})
		received := time.Now().Add(70 * time.Second)
		time.AfterFunc(time.Until(received), func() {
			w.guests.update("uuid-comes", func(v *guests.VM) { v.Autostart = true })
			if err := word.takeBack(t.Context(), w.client, "h1"); err != nil {
				t.Error(err)
			}
		})
		var left time.Time
		w.guests.hook = func(vm guests.VM, _ string, _ guests.MigrateOptions) {
			if vm.Name == "comes" {
				left = time.Now()
			}
		}
		task := w.task(t, evacuate.DrainArgs{Parallel: 4})
		if p, err := w.drain.Probe(t.Context(), task); p != engine.NotDone || err != nil {
			t.Errorf("before: %v, %v", p, err)
		}
		if err := w.drain.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if got := w.guests.moves(); got != "comes live addr-h3, here live addr-h2" && got != "comes live addr-h2, here live addr-h2" {
			t.Errorf("moves: %s", got)
		}
		if left.Before(received) || left.After(received.Add(3*drainPoll)) {
			t.Errorf("it left %s after it was received", left.Sub(received))
		}
		if got := w.carried(t); !strings.Contains(got, "of comes from h1, autostart true, start false") {
			t.Errorf("it carries %q", got)
		}
		notes := strings.Join(w.notes, "\n")
		for _, want := range []string{"comes: is just arriving", "comes: has just arrived", "stays-away: is just arriving"} {
			if !strings.Contains(notes, want) {
				t.Errorf("no note says %q:\n%s", want, notes)
			}
		}
	})
}
