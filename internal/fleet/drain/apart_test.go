package drain

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/store"
)

// TestDrainKeepsGuestsApart: a guest goes to no host with one of its group, whatever the plan
// says, two of them that leave one host go to two, and one that finds no host waits and says why.
func TestDrainKeepsGuestsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDrainWorld(vm("db1", 300), vm("db2", 200), vm("web", 100))
		put := func(key string, v any) {
			value, err := json.Marshal(v)
			if err == nil {
				_, _, err = w.drain.Store.Txn(t.Context(), nil, []store.Op{{Key: key, Value: value}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		put(evacuate.KeyApart, []evacuate.Apart{{Name: "db", UUIDs: []string{"uuid-db1", "uuid-db2", "uuid-db3"}}})
		seen := w.drain.Seen
		var with []cluster.HostID // hosts where db3 runs
		w.drain.Seen = func() (map[cluster.HostID]report.Seen, bool) {
			all, ok := seen()
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, h := range with {
				s := all[h]
				s.VMs = append(s.VMs, inventory.VM{Name: "db3", UUID: "uuid-db3", Host: h, Running: true})
				all[h] = s
			}
			return all, ok
		}
		task := w.task(t, evacuate.DrainArgs{Parallel: 3, Moves: []evacuate.Move{
			{VM: "db1", UUID: "uuid-db1", To: "h2", How: evacuate.Live},
			{VM: "db2", UUID: "uuid-db2", To: "h2", How: evacuate.Live}, {VM: "web", UUID: "uuid-web", To: "h2", How: evacuate.Live},
		}})
		if err := w.drain.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if got := w.guests.moves(); got != "db1 live addr-h2, db2 live addr-h3, web live addr-h2" {
			t.Errorf("moves: %s", got)
		}
		with = []cluster.HostID{"h3"}
		put(carryPrefix("h2")+"uuid-db2", carry{UUID: "uuid-db2", Name: "db2", From: "h9", Live: true}) // another host sends it there
		w.guests.vms = []guests.VM{vm("db1", 300)}
		time.AfterFunc(time.Minute, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			with = nil
		})
		if err := w.drain.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if notes := strings.Join(w.notes, "\n"); !strings.Contains(notes, "guests of the group db, which must not share a host, are on h2, h3") {
			t.Errorf("notes: %s", notes)
		}
		if last := w.notes[len(w.notes)-1]; strings.Contains(last, "waits") {
			t.Errorf("it waits no longer, and says: %s", last)
		}
		if got := w.guests.moves(); got != "db1 live addr-h2, db1 live addr-h3, db2 live addr-h3, web live addr-h2" {
			t.Errorf("moves: %s", got)
		}
	})
}
