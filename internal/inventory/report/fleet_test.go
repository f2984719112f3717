package report

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

func TestNamesAreOrderedAsPeopleDo(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"h2", "h10", -1}, {"h10", "h10", 0}, {"h10a", "h10", 1}, {"a9", "b1", -1}, {"", "a", -1},
		{"r1h2", "r1h1", 1}, {"99999999999999999999", "9", 1}, {"h01", "h1", 0},
	} {
		if got := inventory.Compare(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %d, want %d", c.a, c.b, got, c.want)
		}
		if got := inventory.Compare(c.b, c.a); got != -c.want {
			t.Errorf("%q and %q: %d, want %d", c.b, c.a, got, -c.want)
		}
	}
}

// TestReportsAreSeenByAll: a change is told at once, and silence is noticed.
func TestReportsAreSeenByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMem()
		log := slog.New(slog.DiscardHandler)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()

		var mu sync.Mutex
		vms, looks := []inventory.VM{{Name: "vm1", Host: "h1", MemoryMiB: 128, Running: true}}, error(nil)
		rep := &Reporter{Store: mem.NewClient("h1"), Log: log, Look: func(context.Context) (Record, error) {
			mu.Lock()
			defer mu.Unlock()
			return Record{Host: inventory.Host{Name: "h1", MemoryMiB: 4096, Boot: "b1"}, VMs: vms, Agent: "1"}, looks
		}}
		rctx, stop := context.WithCancel(ctx)
		wg.Go(func() { rep.Run(rctx) })
		client := mem.NewClient("h2")
		view := &View{Store: client, Log: log}
		wg.Go(func() { view.Run(ctx) })

		time.Sleep(5 * time.Second)
		seen, ok := view.Seen()
		if s := seen["h1"]; !ok || s.Seq != 1 || len(s.VMs) != 1 || s.Problem != "" {
			t.Fatalf("after 5 s: %t, %+v", ok, seen)
		}
		mu.Lock()
		vms, looks = nil, errors.New("libvirtd does not answer")
		mu.Unlock()
		time.Sleep(lookEvery + time.Second)
		if seen, _ = view.Seen(); len(seen["h1"].VMs) != 0 || seen["h1"].Problem != "libvirtd does not answer" {
			t.Errorf("a change is not told: %+v", seen["h1"])
		}
		// A watch that breaks does not make hosts look silent, nor alive.
		client.Partition(true)
		time.Sleep(15 * time.Second)
		client.Partition(false)
		time.Sleep(5 * time.Second)
		seen, _ = view.Seen()
		if h := Hosts(seen, time.Now())["h1"]; !h.Up || h.Boot != "b1" || h.Version != "1" {
			t.Errorf("after a cut of 15 s: %+v", h)
		}
		stop()
		time.Sleep(Silent + time.Second)
		client.Partition(true) // and the listing after it tells nothing new
		time.Sleep(3 * time.Second)
		client.Partition(false)
		time.Sleep(5 * time.Second)
		seen, _ = view.Seen()
		if Hosts(seen, time.Now())["h1"].Up {
			t.Error("a host that has been silent for long is up")
		}
		inv := Inventory("lab", "1.0", "", seen, time.Now())
		if len(inv.Hosts) != 1 || !inv.Hosts[0].Down || inv.Version != "1.0" {
			t.Errorf("inventory %+v", inv)
		}
	})
}

func TestInventoryIsOrdered(t *testing.T) {
	now := time.Now()
	seen := map[cluster.HostID]Seen{}
	for _, h := range []cluster.HostID{"h10", "h2", "h1"} {
		seen[h] = Seen{Record{Host: inventory.Host{Name: h}, VMs: []inventory.VM{{Name: "b", Host: h}, {Name: "a", Host: h}}}, now, 1}
	}
	inv := Inventory("c", "v", "", seen, now)
	got := ""
	for _, h := range inv.Hosts {
		got += string(h.Name) + " "
	}
	for _, v := range inv.VMs {
		got += string(v.Host) + v.Name + " "
	}
	if want := "h1 h2 h10 h1a h1b h2a h2b h10a h10b "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRecordsOfOthersAreRefused(t *testing.T) {
	mem := storetest.NewMem()
	c := mem.NewClient("x")
	v := &View{Store: c, Log: slog.New(slog.DiscardHandler)}
	put := func(key, value string) {
		t.Helper()
		if _, _, err := c.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte(value)}}); err != nil {
			t.Fatal(err)
		}
	}
	put("fleet/h1", `{"host":{"name":"h1","memoryMiB":1}}`)
	put("fleet/h2", `{"host":{"name":"h3","memoryMiB":1}}`)
	put("fleet/h4", `not json`)
	kvs, _, err := c.List(t.Context(), Prefix)
	if err != nil {
		t.Fatal(err)
	}
	v.relist(kvs)
	seen, ok := v.Seen()
	if !ok || len(seen) != 3 || seen["h1"].Host.Name != "h1" || seen["h1"].Problem != "" {
		t.Errorf("seen %+v", seen)
	}
	for _, h := range []cluster.HostID{"h2", "h4"} {
		says := "its report can not be read: read record fleet/" + string(h) + ": "
		if s := seen[h]; s.Up(time.Now()) || !s.Unobservable || !strings.HasPrefix(s.Problem, says) || s.Mod == 0 {
			t.Errorf("%s: %+v", h, s)
		}
	}
	for _, h := range []string{"h1", "h2", "h4"} {
		v.change(store.Change{KV: store.KV{Key: "fleet/" + h, ModRev: 9}, Deleted: true})
	}
	if seen, _ := v.Seen(); len(seen) != 0 {
		t.Errorf("a deleted record is seen: %+v", seen)
	}
}

// TestInventoryKnowsAGuestOnce: while it moves, or when its host is lost, several
// records have it.
func TestInventoryKnowsAGuestOnce(t *testing.T) {
	now := time.Now()
	vm := func(name, host string, running bool) inventory.VM {
		return inventory.VM{Name: name, UUID: "u-" + name, Host: cluster.HostID(host), Running: running}
	}
	rec := func(host string, age time.Duration, vms ...inventory.VM) Seen {
		return Seen{Record: Record{Host: inventory.Host{Name: cluster.HostID(host)}, VMs: vms}, SeenAt: now.Add(-age)}
	}
	blind := rec("h4", 0)
	blind.Unobservable = true
	seen := map[cluster.HostID]Seen{
		"h1": rec("h1", time.Hour, vm("a", "h1", true), vm("b", "h1", true)), // lost
		"h2": rec("h2", 0, vm("a", "h2", true), vm("c", "h2", false), vm("d", "h2", true)),
		"h3": rec("h3", 0, vm("c", "h3", true), vm("d", "h3", true)), // d moves
		"h4": blind,
	}
	inv := Inventory("x", "1", "", seen, now)
	got := ""
	for _, v := range inv.VMs {
		got += v.Name + " on " + string(v.Host) + " "
	}
	if want := "b on h1 a on h2 d on h2 c on h3 "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, h := range inv.Hosts {
		if h.Down != (h.Name == "h1" || h.Name == "h4") {
			t.Errorf("%s: down %t", h.Name, h.Down)
		}
	}
}
