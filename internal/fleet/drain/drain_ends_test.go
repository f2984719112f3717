package drain

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
)

// TestDrainTellsOfGuestsThatEnd: one that crashes while it moves is not on the list any more. The
// drain fails at once, and does not wait until it is known what is left of it.
func TestDrainTellsOfGuestsThatEnd(t *testing.T) {
	for _, place := range []guests.Place{guests.Off, guests.Absent} {
		synctest.Test(t, func(t *testing.T) {
			w := newDrainWorld(vm("a", 100), vm("b", 100))
			w.guests.wheres["uuid-a"] = guests.Where{Place: place}
			began := time.Now()
			err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 2}))
			if err == nil || !strings.Contains(err.Error(), "a: it has ended while it moved: it has crashed") ||
				strings.Contains(err.Error(), "moved to:") {
				t.Errorf("%s: %v", place, err)
			}
			if took := time.Since(began); took > 10*time.Second || !strings.Contains(w.guests.moves(), "b live") {
				t.Errorf("%s: after %s, %s", place, took, w.guests.moves())
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // begun by an earlier process
		a := vm("a", 100)
		a.Job = "migration"
		w := newDrainWorld(a)
		w.guests.wheres["uuid-a"] = guests.Where{Place: guests.Off}
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 2})); err == nil ||
			!strings.Contains(err.Error(), "it has ended") {
			t.Errorf("followed: %v", err)
		}
	})
}

// TestDrainTellsWhatIsNotDecided, and for how long it waits for that.
func TestDrainTellsWhatIsNotDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld()
		w.guests.wheres["uuid-a"] = guests.Where{Place: guests.Unclear, Note: "in parts"}
		if err := (carry{UUID: "uuid-a", Name: "a", From: "h1", Live: true, ID: "x"}).put(t.Context(), w.client, "h2"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1}))
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(),
			"a (to h2: here it is unclear in parts)") || took > decideWithin+time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		if notes := strings.Join(w.notes, "\n"); !strings.Contains(notes,
			"waits until it is known where these run: a (to h2: here it is unclear in parts)") {
			t.Errorf("notes:\n%s", notes)
		}
	})
}

// TestDrainTellsWhyAGuestStandsStill that has come from elsewhere.
func TestDrainTellsWhyAGuestStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := vm("a", 100)
		a.State, a.Busy = guests.VMPaused, "paused"
		w := newDrainWorld(a)
		w.drain.Waits = func(uuid string) string { return "paused since " + uuid + " came" }
		time.AfterFunc(5*time.Second, func() {
			w.guests.update("uuid-a", func(v *guests.VM) { v.State, v.Busy = guests.VMRunning, "" })
		})
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1})); err != nil {
			t.Error(err)
		}
		if notes := strings.Join(w.notes, "\n"); !strings.Contains(notes, "a: busy: paused since uuid-a came") {
			t.Errorf("notes:\n%s", notes)
		}
	})
}

// TestDrainGoesOnWhenAGuestRunsThere: what it leaves behind here may take long to end, and is
// waited for, but not before the next move.
func TestDrainGoesOnWhenAGuestRunsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(vm("a", 300), vm("b", 200), vm("c", 100))
		w.guests.lingers = time.Minute
		began := time.Now()
		if err := w.drain.Do(t.Context(), w.task(t, evacuate.DrainArgs{Parallel: 1})); err != nil {
			t.Error(err)
		}
		took := time.Since(began)
		if got := w.guests.moves(); len(strings.Split(got, ",")) != 3 || w.guests.most != 1 {
			t.Errorf("moves: %s, %d at once; want three, one at once", got, w.guests.most)
		}
		if took < time.Minute+9*time.Second || took > time.Minute+12*time.Second {
			t.Errorf("took %s, want the three moves of 3 s, one after the other, and one minute", took)
		}
	})
}
