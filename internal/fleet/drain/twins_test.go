package drain

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
)

// TestDrainOfGuestsOfOneName: a guest goes where the plan sends it and not where it sends
// one of the same name of another host, and to no host where its name is taken. Why it
// waits is told.
func TestDrainOfGuestsOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(vm("db", 300), vm("web", 300))
		seen, taken := w.drain.Seen, []cluster.HostID{"h2"}
		w.drain.Seen = func() (map[cluster.HostID]report.Seen, bool) {
			all, ok := seen()
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, h := range taken {
				s := all[h]
				s.VMs = append(s.VMs, inventory.VM{Name: "db", UUID: "another", Host: h}) // it is off
				all[h] = s
			}
			return all, ok
		}
		task := w.task(t, evacuate.DrainArgs{Parallel: 1, Moves: []evacuate.Move{
			{VM: "db", UUID: "another", To: "h2", How: evacuate.Cold},
			{VM: "db", UUID: "uuid-db", To: "h2", How: evacuate.Live}, {VM: "web", To: "h3", How: evacuate.Live},
		}})
		if err := w.drain.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if got := w.guests.moves(); got != "db live addr-h3, web live addr-h3" {
			t.Errorf("moves: %s", got)
		}
		taken = []cluster.HostID{"h2", "h3"}
		w.guests.vms = []guests.VM{vm("db", 300)}
		time.AfterFunc(time.Minute, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			taken = taken[1:]
		})
		if err := w.drain.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if notes := strings.Join(w.notes, "\n"); !strings.Contains(notes, "another guest of that name is on h2, h3") {
			t.Errorf("notes: %s", notes)
		}
		if got := w.guests.moves(); got != "db live addr-h2, db live addr-h3, web live addr-h3" {
			t.Errorf("moves: %s", got)
		}
	})
}
